/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that are none: who is sent away is seen in the guests. */
#include "exporter_crowd.h"

#include "testing.h"

#include <arpa/inet.h>
#include <stdio.h>

static struct guest *enter(struct crowd *crowd, const char *address)
{
    struct sockaddr_in from = {.sin_family = AF_INET};

    assert_int_equal(inet_pton(AF_INET, address, &from.sin_addr), 1);
    return crowd_enter(crowd, -1, (const struct sockaddr *)&from);
}

static unsigned staying(const struct crowd *crowd)
{
    unsigned count = 0;

    for (size_t i = 0; i < CROWD_MAX; i++)
        count += crowd->guests[i].here && !crowd->guests[i].leaving;
    return count;
}

TEST(who_waits_longest_goes_first)
{
    struct crowd crowd = {0};
    struct guest *guests[CROWD_ADDRESS_MAX];

    for (size_t i = 0; i < CROWD_ADDRESS_MAX; i++)
        guests[i] = enter(&crowd, "127.0.0.1");
    crowd_asks(guests[0]); /* a scrape that is under way */
    crowd_asks(guests[1]);
    crowd_answered(&crowd, guests[1]); /* and one that is done */
    assert_false(enter(&crowd, "127.0.0.1")->leaving);
    assert_true(guests[2]->leaving);
    for (size_t i = 3; i < CROWD_ADDRESS_MAX; i++)
        (void)enter(&crowd, "127.0.0.1");
    assert_true(guests[CROWD_ADDRESS_MAX - 1]->leaving);
    assert_false(guests[0]->leaving);
    assert_false(guests[1]->leaving);
    assert_int_equal(staying(&crowd), CROWD_ADDRESS_MAX);
    /* Where all are being answered, the first of these: nobody keeps the place by not reading. */
    for (size_t i = 0; i < CROWD_MAX; i++)
        crowd.guests[i].asking = true;
    assert_false(enter(&crowd, "127.0.0.1")->leaving);
    assert_true(guests[0]->leaving);
}

TEST(an_address_takes_nobody_elses_place)
{
    struct crowd crowd = {0};
    struct guest *collector = enter(&crowd, "192.0.2.1");

    for (size_t i = 0; i < (size_t)3 * CROWD_MAX; i++) {
        struct guest *guest = enter(&crowd, "192.0.2.2");
        if (!guest) /* those on their way out are still here */
            for (size_t j = 0; j < CROWD_MAX; j++)
                if (crowd.guests[j].leaving)
                    crowd_leave(&crowd.guests[j]);
    }
    assert_false(collector->leaving);
    assert_int_equal(staying(&crowd), 1 + CROWD_ADDRESS_MAX);
    /* From many addresses: whoever has most gives. */
    char address[16];
    for (unsigned i = 0; i < CROWD_STAY_MAX; i++) {
        for (size_t j = 0; j < CROWD_MAX; j++)
            if (crowd.guests[j].here && crowd.guests[j].leaving)
                crowd_leave(&crowd.guests[j]);
        snprintf(address, sizeof(address), "198.51.100.%u", i);
        assert_false(enter(&crowd, address)->leaving);
        if (i < CROWD_STAY_MAX - 2)
            assert_false(collector->leaving);
    }
    assert_int_equal(staying(&crowd), CROWD_STAY_MAX);
}

TEST(a_unix_socket_and_a_network_are_one_place)
{
    struct crowd crowd = {0};
    struct guest *first = crowd_enter(&crowd, -1, NULL);

    for (size_t i = 0; i < CROWD_ADDRESS_MAX; i++)
        (void)crowd_enter(&crowd, -1, NULL);
    assert_true(first->leaving);

    struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    for (unsigned i = 0; i <= CROWD_ADDRESS_MAX; i++) {
        char address[32];
        snprintf(address, sizeof(address), "2001:db8::%x", i + 1);
        assert_int_equal(inet_pton(AF_INET6, address, &six.sin6_addr), 1);
        struct guest *guest = crowd_enter(&crowd, -1, (const struct sockaddr *)&six);
        if (i == 0)
            first = guest;
    }
    assert_true(first->leaving);
}
