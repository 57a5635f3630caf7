/* SPDX-License-Identifier: Apache-2.0 */
/* What a relay may say: the bounds that the tables of message.c can't express. */
#include "message.h"

#include "targets.h"

const char *relay_l_net_check(uint32_t l_net_ms)
{
    return l_net_ms < L_NET_MS_MIN || l_net_ms > L_NET_MS_MAX ? "L_net is not 100 to 60000 ms"
                                                              : NULL;
}

const char *relay_batch_check(const struct relay_batch *batch)
{
    size_t names = 0;

    if (batch->cursor.len > RELAY_CURSOR_BYTES_MAX)
        return "the cursor is longer than 69632 bytes";
    if (batch->log_id.len > RELAY_LOG_ID_BYTES_MAX)
        return "the log's id is longer than 255 bytes";
    if (batch->writers.len > RELAY_WRITERS_BYTES_MAX)
        return "who wrote the events is longer than 511 bytes";
    if (batch->writers.len > 0 && batch->targets_count == 0)
        return "it says who wrote events, and has none";
    for (size_t i = 0; i < batch->targets_count; i++) {
        const char *const wrong = targets_check(&batch->targets[i]);
        if (wrong)
            return wrong;
        names += targets_names(&batch->targets[i]);
    }
    if (names > TARGETS_PER_EVENT_MAX)
        return "a batch names more than 4096 targets: send it in parts";
    if (batch->more)
        return NULL;
    if (batch->cursor.len == 0 || batch->log_id.len == 0)
        return "the last part of a batch has no cursor, or no log";
    return relay_l_net_check(batch->l_net_ms);
}
