/* SPDX-License-Identifier: Apache-2.0 */
/* Invalidation: makes the request for the blocking and the asynchronous call. op.c brings it to the
 * daemon or into the spool. */
#include "mutate.h"

#include "op.h"
#include "surrogate.h"
#include "targets.h"
#include "text.h"

/* ---- Targets ---- */

typedef etag_str name_maker(etag_str name, char made[SURROGATE_MADE_BYTES]);

static bool any_is_made(const etag_str *names, size_t count, name_maker *make)
{
    char made[SURROGATE_MADE_BYTES];

    for (size_t i = 0; i < count; i++)
        if (!str_equal(make(names[i], made), names[i]))
            return true;
    return false;
}

/* Names as a fill has them (surrogate.h). Almost always they are so already. NULL: no memory. */
static const etag_str *name_all(struct arena *arena, const etag_str *given, size_t count,
                                name_maker *make)
{
    if (count > TARGETS_PER_EVENT_MAX || !any_is_made(given, count, make))
        return given; /* targets_check() reports what is too much */
    etag_str *names = arena_array(arena, count, sizeof(*names));
    for (size_t i = 0; names && i < count; i++) {
        char *made = arena_alloc(arena, SURROGATE_MADE_BYTES);
        if (!made)
            return NULL;
        names[i] = make(given[i], made);
    }
    return names;
}

/* False: no memory. */
static bool name_surrogates(struct etag_client *client, etag_targets *targets)
{
    arena_reset(&client->names);
    targets->surrogates = name_all(&client->names, targets->surrogates, targets->surrogate_count,
                                   surrogate_name);
    targets->families = name_all(&client->names, targets->families, targets->family_count,
                                 surrogate_family_name);
    return (targets->surrogates || targets->surrogate_count == 0) &&
           (targets->families || targets->family_count == 0);
}

etag_status mutate_targets(struct etag_client *client, const etag_targets *given, etag_targets *out)
{
    etag_targets copy;
    const etag_targets *targets = abi_in(given, &copy, sizeof(copy), ABI_FIRST_TARGETS);

    if (!targets)
        return fault_set(&client->fault, ETAG_INVALID, "%s",
                         abi_why(given, sizeof(copy), "the targets' size is not set",
                                 "the targets have a member that this libetag does not "
                                 "know, and it is set: install the libetag that the "
                                 "program was built with, or leave it zero"));
    *out = *targets;
    out->size = sizeof(*out);
    if (!name_surrogates(client, out))
        return fault_set(&client->fault, ETAG_SYSTEM, "no memory for the targets");
    const char *wrong = targets_check(out);
    return wrong ? fault_set(&client->fault, ETAG_INVALID, "%s", wrong) : ETAG_OK;
}

/* ---- Invalidation ---- */

static etag_status invalidate_request(struct etag_client *client, const etag_targets *targets,
                                      struct request *out)
{
    *out = (struct request){.kind = REQUEST_INVALIDATE};
    return mutate_targets(client, targets, &out->targets);
}

etag_status etag_invalidate(etag_client *client, const etag_targets *targets, etag_receipt *receipt)
{
    struct request request;
    struct op_outcome outcome = {0};

    client_begin(client);
    etag_status status = invalidate_request(client, targets, &request);
    if (status == ETAG_OK)
        status = op_run(client, &request, &outcome);
    return op_give_receipt(status, receipt, &outcome.receipt);
}

etag_status etag_invalidate_start(etag_client *client, const etag_targets *targets, etag_op **out)
{
    struct request request;

    *out = NULL;
    client_begin(client);
    const etag_status status = invalidate_request(client, targets, &request);
    return status == ETAG_OK ? op_start(client, &request, out) : status;
}
