/* SPDX-License-Identifier: Apache-2.0 */
/* relay/sql/schema.sql as it is, ended by a NUL: relay/CMakeLists.txt makes the source of it. */
#ifndef ETAG_RELAY_SCHEMA_H
#define ETAG_RELAY_SCHEMA_H

extern const char relay_schema[];

#endif
