/* SPDX-License-Identifier: Apache-2.0 */
/* The files of relay/sql, one after the other, and a NUL: relay/CMakeLists.txt makes the source. */
#ifndef ETAG_RELAY_SCHEMA_H
#define ETAG_RELAY_SCHEMA_H

extern const char relay_schema[];

#endif
