/* SPDX-License-Identifier: Apache-2.0 */
/* The cursor of a page is the last key that it showed: entries that come and go do not move it. */
#include "ctl_pages.h"

#include "bounds.h"

static bool page_ask(struct ctl_daemon *daemon, etag_str prefix, etag_str after, uint64_t limit,
                     struct reply *reply)
{
    struct request request = {
        .kind = REQUEST_LIST,
        .list = {.prefix = prefix,
                 .limit = limit < LIST_PAGE_MAX ? (uint32_t)limit : LIST_PAGE_MAX,
                 .after = after}};

    return ctl_daemon_ask(daemon, &request, REPLY_LIST, reply);
}

bool ctl_pages(const struct ctl_pages *pages, struct ctl_daemon *daemon)
{
    CLEANUP(cleanup_free) char *after = NULL;
    size_t after_len = 0;
    uint64_t left = pages->left;
    bool begun = false;

    do {
        struct reply reply;
        if (!page_ask(daemon, pages->prefix, (etag_str){after, after_len}, left, &reply))
            return false;
        if (!begun && pages->begin)
            pages->begin(pages->ctx, daemon);
        begun = true;
        for (size_t i = 0; i < reply.list.entry_count && left > 0; i++, left--)
            pages->each(pages->ctx, &reply.list.entries[i]);
        after_len = reply.list.next.len;
        if (after_len > 0) {
            free(after);
            after = malloc(after_len);
            if (!after)
                abort();
            memcpy(after, reply.list.next.data, after_len);
        }
    } while (left > 0 && after_len > 0 && !ferror(stdout));
    return true;
}
