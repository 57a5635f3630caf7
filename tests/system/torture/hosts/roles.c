/* SPDX-License-Identifier: Apache-2.0 */
#include "hosts_worker.h"
#include "told.h"

#include <stdlib.h>

static bool rows_begin(struct worker *w)
{
    w->rows = calloc(1, sizeof(*w->rows));
    if (!w->rows || !w->database)
        return false;
    w->rows->connection = w->database;
    return true;
}

static void rows_end(struct worker *w)
{
    rows_close(w->rows);
    free(w->rows);
}

static bool told_begin(struct worker *w)
{
    w->told = calloc(1, sizeof(*w->told));
    return w->told && w->program;
}

static void told_end(struct worker *w)
{
    told_close(w->told);
    free(w->told);
}

const struct role roles[] = {
    {.name = "sql", .step = hosts_sql_step, .begin = rows_begin, .end = rows_end},
    {.name = "library", .step = hosts_library_step, .begin = rows_begin, .end = rows_end},
    {.name = "filler", .step = hosts_filler_step, .begin = rows_begin, .end = rows_end},
    {.name = "psql", .step = hosts_psql_step, .begin = told_begin, .end = told_end},
    {.name = "django", .step = hosts_django_step, .begin = told_begin, .end = told_end},
    {.name = "etcd", .step = hosts_etcd_step, .transacts = true},
    {.name = "etcd_filler", .step = hosts_filler_step},
    {.name = "reader", .step = hosts_reader_step},
    {0},
};
