/* SPDX-License-Identifier: Apache-2.0 */
/* The seven resources of the claims-processing API, as data: everything else is written once for
 * all of them. */
#ifndef UPLOADS_RESOURCES_H
#define UPLOADS_RESOURCES_H

#include <etag/etag.h>

#define RESOURCE_COLUMNS_MAX 10

struct column {
    /* in JSON and in SQL */
    const char *name;
    /* of SQL: TEXT or INTEGER */
    const char *type;
    /* GET /api/v1/uploads?status=failed */
    bool filter;
    /* What uploads_seed puts there: "a|b|c" one of these, "#1-9" a number, "date", "@uploads" the
     * id of such a row of the same customer; in any other text '%' becomes a number. */
    const char *sample;
};

struct resource {
    /* /api/v1/PATH and /api/v1/PATH/ID; its surrogate key is "PATH:list:CUSTOMER" */
    const char *path;
    /* in SQL */
    const char *table;
    /* of a row: "SURROGATE:ID" */
    const char *surrogate;
    int seed_rows;
    /* the last one has no name */
    struct column columns[RESOURCE_COLUMNS_MAX];
};

#define RESOURCE_COUNT 7
extern const struct resource resources[RESOURCE_COUNT];

/* NULL if there is none of that path. */
const struct resource *resource_find(etag_str path);

/* NULL if there is none of that name; the name is compared as it is. */
const struct column *resource_column(const struct resource *resource, etag_str name);

#endif
