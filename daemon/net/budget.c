/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The figures of the table decide how late a turn may be. Fills have the smallest share of time: a
 * mutation that comes while they are handled waits that long. Their share of the CPU is not smaller
 * for that, since turns without anything urgent follow each other at once.
 */
#include "budget.h"

#include "clocktime.h"

#define NS_PER_US UINT64_C(1000)

static const struct {
    uint32_t frames;
    uint32_t peer_frames;
    uint64_t ns;
} shares[WORK_KINDS] = {
    [WORK_URGENT] = {TURN_URGENT_MAX, PEER_TURN_URGENT_MAX, TURN_URGENT_US *NS_PER_US},
    [WORK_FILL] = {TURN_FILLS_MAX, PEER_TURN_FILLS_MAX, TURN_FILLS_US *NS_PER_US},
    [WORK_ASKED] = {TURN_ASKED_MAX, PEER_TURN_ASKED_MAX, TURN_ASKED_US *NS_PER_US},
};

enum work work_of(enum request_kind kind)
{
    switch (kind) {
    case REQUEST_FILL:
        return WORK_FILL;
    case REQUEST_GET:
    case REQUEST_EXPLAIN:
    case REQUEST_LIST:
    case REQUEST_STATUS:
    case REQUEST_CLIENTS:
    case REQUEST_LOG:
        return WORK_ASKED;
    default:
        return WORK_URGENT;
    }
}

uint32_t work_share(enum work work)
{
    return shares[work].peer_frames;
}

struct budget budget_begin(enum work work, uint64_t now_ns)
{
    return (struct budget){.until_ns = now_ns + shares[work].ns,
                           .frames_left = shares[work].frames};
}

bool budget_left(const struct budget *budget, uint64_t now_ns)
{
    return budget->frames_left > 0 && (!budget->used || now_ns < budget->until_ns);
}

bool budget_take(struct budget *budget, uint64_t now_ns)
{
    if (!budget_left(budget, now_ns))
        return false;
    budget->frames_left--;
    budget->used = true;
    return true;
}
