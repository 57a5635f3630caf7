/* SPDX-License-Identifier: Apache-2.0 */
/* The seven resources of the claims-processing API, as data: everything else is written once for all of them. */
#ifndef UPLOADS_RESOURCES_H
#define UPLOADS_RESOURCES_H

#include <etag/etag.h>

#define RESOURCE_COLUMNS_MAX 10

struct column {
    const char *name; /* in JSON and in SQL */
    const char *type; /* of SQL: TEXT or INTEGER */
    bool filter;      /* GET /api/v1/uploads?status=failed */
    /* What uploads_seed puts there: "a|b|c" one of these, "#1-9" a number, "date", "@uploads" the id of such a
     * row of the same customer; in any other text '%' becomes a number. */
    const char *sample;
};

struct resource {
    const char
        *path; /* /api/v1/PATH and /api/v1/PATH/ID; its surrogate key is "PATH:list:CUSTOMER" */
    const char *table;     /* in SQL */
    const char *surrogate; /* of a row: "SURROGATE:ID" */
    int seed_rows;
    struct column columns[RESOURCE_COLUMNS_MAX]; /* the last one has no name */
};

#define RESOURCE_COUNT 7
extern const struct resource resources[RESOURCE_COUNT];

/* NULL if there is none of that path. */
const struct resource *resource_find(etag_str path);

/* NULL if there is none of that name; the name is compared as it is. */
const struct column *resource_column(const struct resource *resource, etag_str name);

#endif
