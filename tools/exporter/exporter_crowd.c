/* SPDX-License-Identifier: Apache-2.0 */
/* A table that is small enough to be walked at each connection. */
#include "exporter_crowd.h"

#include <netinet/in.h>
#include <string.h>

static void address_note(struct guest *guest, const struct sockaddr *address)
{
    memset(guest->address, 0, sizeof(guest->address));
    if (!address)
        return;
    guest->address[0] = (uint8_t)address->sa_family;
    if (address->sa_family == AF_INET)
        memcpy(guest->address + 1, &((const struct sockaddr_in *)(const void *)address)->sin_addr,
               sizeof(struct in_addr));
    else if (address->sa_family ==
             AF_INET6) /* a /64 is one subscriber, however many it takes of it */
        memcpy(guest->address + 1, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr,
               8);
}

static bool is_same_place(const struct guest *a, const struct guest *b)
{
    return memcmp(a->address, b->address, sizeof(a->address)) == 0;
}

static bool is_staying(const struct guest *guest)
{
    return guest->here && !guest->leaving;
}

static unsigned staying_from(const struct crowd *crowd, const struct guest *of)
{
    unsigned count = 0;

    for (size_t i = 0; i < CROWD_MAX; i++)
        count += is_staying(&crowd->guests[i]) && (!of || is_same_place(&crowd->guests[i], of));
    return count;
}

/* Has waited for longer; those that are being answered come last. */
static bool goes_before(const struct guest *a, const struct guest *b)
{
    return a->asking != b->asking ? b->asking : a->since < b->since;
}

/* The connection that makes room for a newcomer: one from its own place, else one from the place
 * that has most here. Never the newcomer. */
static void send_away(struct crowd *crowd, const struct guest *newcomer, bool of_its_place)
{
    struct guest *first = NULL;
    unsigned most = 0;

    for (size_t i = 0; i < CROWD_MAX; i++) {
        struct guest *guest = &crowd->guests[i];
        if (!is_staying(guest) || guest == newcomer ||
            (of_its_place && !is_same_place(guest, newcomer)))
            continue;
        const unsigned count = staying_from(crowd, guest);
        if (!first || count > most || (count == most && goes_before(guest, first))) {
            first = guest;
            most = count;
        }
    }
    if (!first)
        return;
    first->leaving = true;
    (void)shutdown(first->fd, SHUT_RDWR);
}

struct guest *crowd_enter(struct crowd *crowd, int fd, const struct sockaddr *address)
{
    struct guest *guest = NULL;

    for (size_t i = 0; i < CROWD_MAX && !guest; i++)
        if (!crowd->guests[i].here)
            guest = &crowd->guests[i];
    if (!guest) {
        (void)shutdown(fd, SHUT_RDWR);
        return NULL;
    }
    *guest = (struct guest){.here = true, .fd = fd, .since = ++crowd->count};
    address_note(guest, address);
    if (staying_from(crowd, guest) > CROWD_ADDRESS_MAX)
        send_away(crowd, guest, true);
    else if (staying_from(crowd, NULL) > CROWD_STAY_MAX)
        send_away(crowd, guest, false);
    return guest;
}

void crowd_asks(struct guest *guest)
{
    guest->asking = true;
}

void crowd_answered(struct crowd *crowd, struct guest *guest)
{
    guest->asking = false;
    guest->since = ++crowd->count;
}

void crowd_leave(struct guest *guest)
{
    guest->here = false;
}
