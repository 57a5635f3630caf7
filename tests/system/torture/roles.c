/* SPDX-License-Identifier: Apache-2.0 */
/*
 * On one host, with the truth in a mapped file:
 *   writer     commits versions, with and without a guard, and invalidates until it is answered OK
 *   filler     token, reads the database, sometimes sleeps (a slow render), fills
 *   reader     checks, and judges the answer by the truth
 *   database   see truth.h; the only one that is left alone
 */
#include "worker.h"

const struct role roles[] = {
    {.name = "writer", .step = writer_step, .transacts = true},
    {.name = "filler", .step = filler_step, .transacts = true},
    {.name = "reader", .step = reader_step, .transacts = true},
    {.name = "database", .run = database_run},
    {0},
};
