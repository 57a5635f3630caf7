/* SPDX-License-Identifier: Apache-2.0 */
/* Front ends of many hosts. Readers need no database, so they go on asking while their host is cut
 * off. */
#include "hosts_worker.h"

#define LOOKS 64
#define CHECKS 8

static bool is_known(struct worker *w)
{
    const etag_field any = {ETAG_LIT("If-None-Match"), ETAG_LIT("*")};
    etag_request request;
    etag_answer answer;

    ETAG_INIT(&request);
    ETAG_INIT(&answer);
    request.method = ETAG_LIT("GET");
    request.key = &w->key;
    request.fields = &any;
    request.field_count = 1;
    return etag_check(w->client, &request, etag_token_now(w->client), &answer) != ETAG_UNKNOWN;
}

/* Of the database; with etcd of the file that is one. */
static bool version_read(struct worker *w, uint32_t key, uint64_t *version)
{
    if (w->rows)
        return rows_read(w->rows, key, version);
    *version = atomic_load(&w->truth->rows[key].visible);
    return true;
}

void hosts_filler_step(struct worker *w)
{
    uint32_t key = key_pick(w);
    uint64_t version;

    (void)etag_client_dispatch(w->client);
    for (int i = 0; i < LOOKS && is_known(w); i++)
        key = key_pick(w);
    const etag_token token = etag_token_now(w->client);
    if (!version_read(w, key, &version)) {
        HOSTS_COUNT(w, rows_failed);
        sleep_ns(20 * NS_PER_MS);
        return;
    }
    HOSTS_COUNT(w, rows_read);
    if (one_in(w, 16))
        sleep_ns(random_below(w, 20 * NS_PER_MS));
    else if (one_in(w, 400))
        sleep_ns(random_below(w, 1500 * NS_PER_MS));
    page_fill(w, key, token, version);
    sleep_ns(random_below(w, 3 * NS_PER_MS));
}

void hosts_reader_step(struct worker *w)
{
    for (int i = 0; i < CHECKS; i++)
        reader_step(w);
    sleep_ns(4 * NS_PER_MS);
}
