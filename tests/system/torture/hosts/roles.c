/* SPDX-License-Identifier: Apache-2.0 */
#include "hosts_worker.h"

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

const struct role roles[] = {
    {.name = "sql", .step = hosts_sql_step, .begin = rows_begin, .end = rows_end},
    {.name = "library", .step = hosts_library_step, .begin = rows_begin, .end = rows_end},
    {.name = "filler", .step = hosts_filler_step, .begin = rows_begin, .end = rows_end},
    {.name = "reader", .step = hosts_reader_step},
    {0},
};
