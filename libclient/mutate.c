/* SPDX-License-Identifier: Apache-2.0 */
/* Invalidation: the request and its two doors. How it gets to the daemon, or into the spool, is op.c's. */
#include "mutate.h"

#include "op.h"

etag_status mutate_targets(struct etag_client *client, const etag_targets *given, etag_targets *out)
{
    etag_targets copy;
    const etag_targets *targets = abi_in(given, &copy, sizeof(copy), ABI_FIRST_TARGETS);
    const char *wrong = targets ? targets_check(targets)
                                : abi_why(given, sizeof(copy), "the targets' size is not set",
                                          "the targets have a member that this libetag does not "
                                          "know, and it is set: install the libetag that the "
                                          "program was built with, or leave it zero");
    if (wrong)
        return fault_set(&client->fault, ETAG_INVALID, "%s", wrong);
    *out = *targets;
    out->size = sizeof(*out);
    return ETAG_OK;
}

static etag_status invalidate_request(struct etag_client *client, const etag_targets *targets,
                                      struct request *out)
{
    *out = (struct request){.kind = REQUEST_INVALIDATE};
    return mutate_targets(client, targets, &out->targets);
}

etag_status etag_invalidate(etag_client *client, const etag_targets *targets, etag_receipt *receipt)
{
    struct request request;
    struct op_outcome outcome;

    client_begin(client);
    etag_status status = invalidate_request(client, targets, &request);
    if (status == ETAG_OK)
        status = op_run(client, &request, &outcome);
    if (status == ETAG_OK)
        op_give_receipt(receipt, outcome.lsn);
    return status;
}

etag_status etag_invalidate_start(etag_client *client, const etag_targets *targets, etag_op **out)
{
    struct request request;

    *out = NULL;
    client_begin(client);
    const etag_status status = invalidate_request(client, targets, &request);
    return status == ETAG_OK ? op_start(client, &request, out) : status;
}
