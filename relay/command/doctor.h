/* SPDX-License-Identifier: Apache-2.0 */
/* etag-relay doctor: what of the database and of all hosts the daemon beside us can't know. */
#ifndef ETAG_RELAY_DOCTOR_H
#define ETAG_RELAY_DOCTOR_H

#include "options.h"
#include "postgres.h"

/* Prints a line a finding. The number of those that say FAIL, or negative and why. */
MUST_USE int doctor_run(struct postgres *postgres, const struct options *options, struct why *why);

#endif
