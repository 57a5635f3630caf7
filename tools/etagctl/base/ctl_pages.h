/* SPDX-License-Identifier: Apache-2.0 */
/* All entries of the daemon, in the order of their keys, page after page. */
#ifndef ETAGCTL_PAGES_H
#define ETAGCTL_PAGES_H

#include "ctl_daemon.h"

struct ctl_pages {
    /* of the key's text; empty: all */
    etag_str prefix;
    /* at most so many */
    uint64_t left;
    /* Before the entries of the first page, which may be none; until then an error can be the whole
     * output. May be NULL. */
    void (*begin)(void *ctx, struct ctl_daemon *daemon);
    void (*each)(void *ctx, const struct entry_view *view);
    void *ctx;
};

/* An entry that is there all the while comes once, whatever comes and goes beside it. False: told,
 * return ctl->exit_status. */
MUST_USE bool ctl_pages(const struct ctl_pages *pages, struct ctl_daemon *daemon);

#endif
