/* SPDX-License-Identifier: Apache-2.0 */
/* Targets are copied by what copies them over the wire: encoded, and decoded into an arena. */
#include "publication.h"

#include "bounds.h"

void publications_deinit(struct publications *publications)
{
    for (size_t i = 0; i < PUBLICATIONS_MAX; i++)
        if (publications->table[i].step != PUBLICATION_FREE)
            publication_free(publications, &publications->table[i]);
}

static bool targets_take(struct publication *publication, const etag_targets *targets)
{
    const struct request request = {.kind = REQUEST_INVALIDATE, .targets = *targets};
    struct request decoded;
    etag_str payload;

    if (request_encode(&publication->bytes, &request) < 0)
        return false;
    const etag_str frame = {(const char *)publication->bytes.bytes, publication->bytes.len};
    if (frame_next(frame, &payload) != 1 ||
        request_decode(&decoded, &publication->arena, payload) != NULL)
        return false;
    publication->targets = decoded.targets;
    return true;
}

struct publication *publication_new(struct publications *publications, uint64_t token,
                                    const etag_targets *targets)
{
    struct publication *publication = publications->table;

    if (publications->count == PUBLICATIONS_MAX)
        return NULL;
    while (publication->step != PUBLICATION_FREE)
        publication++;
    *publication = (struct publication){
        .step = PUBLICATION_TO_LOG, .token = token, .number = ++publications->last_number};
    arena_init(&publication->arena, ARENA_BYTES_MAX);
    publications->count++;
    if (targets_take(publication, targets))
        return publication;
    publication_free(publications, publication);
    return NULL;
}

void publication_free(struct publications *publications, struct publication *publication)
{
    buffer_deinit(&publication->bytes);
    arena_deinit(&publication->arena);
    *publication = (struct publication){0};
    publications->count--;
}

struct publication *publication_first(struct publications *publications, enum publication_step step)
{
    struct publication *first = NULL;

    for (size_t i = 0; publications->count > 0 && i < PUBLICATIONS_MAX; i++) {
        struct publication *const one = &publications->table[i];
        if (one->step == step && (!first || one->number < first->number))
            first = one;
    }
    return first;
}
