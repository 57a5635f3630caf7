/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor's findings, and what its parts look at. Each part looks at one thing from outside, says
 * what it found and what to change, and goes on whatever it could not see.
 */
#ifndef ETAGCTL_DOCTOR_H
#define ETAGCTL_DOCTOR_H

#include "ctl_daemon.h"

#define DOCTOR_TEXT_BYTES 480
#define DOCTOR_FINDINGS_MAX 96

enum finding_level {
    FINDING_OK,
    /* this user may not look, or the daemon that would say it is down */
    FINDING_UNSEEN,
    FINDING_WARN,
    FINDING_FAIL,
};

struct finding {
    enum finding_level level;
    const char *topic;
    char text[DOCTOR_TEXT_BYTES];
    /* static text; NULL: none */
    const char *advice;
};

struct doctor {
    struct ctl *ctl;
    struct ctl_daemon daemon;
    /* NULL: the default, if it is there */
    const char *config_path;
    /* NULL: not given */
    const char *state_dir;
    bool reachable;
    bool has_status;
    /* valid as long as nothing else is asked */
    struct reply status;
    uint64_t round_trip_us;
    struct finding findings[DOCTOR_FINDINGS_MAX];
    size_t finding_count;
};

/* Adds a finding. advice: static text, what to change; NULL where nothing is to be. */
void doctor_say(struct doctor *doctor, enum finding_level level, const char *topic,
                const char *advice, const char *format, ...) PRINTF_LIKE(5, 6);

/* A figure of the daemon's status. False, and 0: it did not say. */
bool doctor_number(const struct doctor *doctor, const char *name, uint64_t *out);
/* The same of a text; absent: it did not say. */
etag_str doctor_text(const struct doctor *doctor, const char *name);

/* ---- The parts, in their order ---- */

void doctor_connection(
    struct doctor *doctor); /* socket, answer, roles, versions, lock of a daemon that is down */
void doctor_lease(struct doctor *doctor);   /* lease, margin, pause */
void doctor_tables(struct doctor *doctor);  /* entries, clocks, pool, guards, peers */
void doctor_process(struct doctor *doctor); /* limits, loop, huge pages of the daemon's process */
void doctor_machine(struct doctor *doctor); /* kernel, clock */
void doctor_spool(struct doctor *doctor);
void doctor_store(struct doctor *doctor);
void doctor_config(struct doctor *doctor);

#endif
