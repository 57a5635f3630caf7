/* SPDX-License-Identifier: Apache-2.0 */
/* Prints what docs/protocol.md has tables of, as the sources have it: for
 * tests/docs/protocol_tables. */
#include "counters.h"
#include "layout.h"
#include "message.h"
#include "spool_format.h"

#include <stdio.h>

#define MEMBER(table, type, member)                                                                \
    printf(#table " %zu %zu " #member "\n", offsetof(struct type, member),                         \
           sizeof(((struct type *)0)->member))

static void print_layout(void)
{
    MEMBER(header, layout_header, magic);
    MEMBER(header, layout_header, version);
    MEMBER(header, layout_header, header_bytes);
    MEMBER(header, layout_header, total_bytes);
    MEMBER(header, layout_header, slots_offset);
    MEMBER(header, layout_header, details_offset);
    MEMBER(header, layout_header, clocks_offset);
    MEMBER(header, layout_header, pool_offset);
    MEMBER(header, layout_header, home_count);
    MEMBER(header, layout_header, clock_count);
    MEMBER(header, layout_header, pool_units);
    MEMBER(header, layout_header, incarnation);
    MEMBER(header, layout_header, incarnation_id);
    MEMBER(header, layout_header, hash_key);
    MEMBER(header, layout_header, lease_ns);
    MEMBER(header, layout_header, lease_deadline_ns);
    MEMBER(header, layout_header, lsn);
    MEMBER(slot, layout_slot, sequence);
    MEMBER(slot, layout_slot, hop);
    MEMBER(slot, layout_slot, fingerprint);
    MEMBER(slot, layout_slot, fill_lsn);
    MEMBER(slot, layout_slot, expires_ns);
    MEMBER(slot, layout_slot, clocks);
    MEMBER(detail, layout_detail, last_modified);
    MEMBER(detail, layout_detail, fieldset);
    MEMBER(detail, layout_detail, overflow);
    MEMBER(detail, layout_detail, etag_len);
    MEMBER(detail, layout_detail, flags);
    MEMBER(detail, layout_detail, etag);
}

/* A bound that the page names, with a word that stands in the same line or sentence there. */
#define BOUND(words, value) printf("bound %llu " words "\n", (unsigned long long)(value))

static void print_bounds(void)
{
    BOUND("length of the payload: 1 to", FRAME_BYTES_MAX);
    BOUND("nesting deeper than", WIRE_DEPTH_MAX);
    BOUND("time to the hello |", PEER_HELLO_MS_MAX);
    BOUND("to its last |", PEER_PARTIAL_MS_MAX);
    BOUND("has not read |", PEER_QUEUED_BYTES_MAX);
    BOUND("wait for the store |", PEER_PENDING_MAX);
    BOUND("connections |", PEERS_MAX);
    BOUND("open at once |", GUARDS_MAX);
    BOUND("at most once in", RECONNECT_MS_MIN);
    BOUND("names: at most", TARGETS_PER_EVENT_MAX);
    BOUND("`hold_ms` | uint32 | at most", HOLD_MS_MAX);
    BOUND("keep it open, at most", GUARD_MS_MAX);
    BOUND("at most 86400000; 0:", GUARD_MS_DEFAULT);
    BOUND("`host` | bytes | at most", HOST_BYTES_MAX);
    BOUND("`target` | bytes | 1 to", TARGET_BYTES_MAX);
    BOUND("`release` | bytes | at most", RELEASE_BYTES_MAX);
    BOUND("whose; 1 to", SCOPE_BYTES_MAX);
    BOUND("`scheme` | bytes | a URI scheme without `:`, at most", SCHEME_BYTES_MAX);
    BOUND("`vary` | repeated VaryField | at most", VARY_COUNT_MAX);
    BOUND("`name` | bytes | 1 to", VARY_NAME_BYTES_MAX);
    BOUND("`value` | bytes | at most", VARY_VALUE_BYTES_MAX);
    BOUND("`etag` | bytes | 2 to", ENTITY_TAG_BYTES_MAX);
    BOUND("`fields` | repeated KeptField | at most", FIELDS_PER_ENTRY_MAX);
    BOUND("packed (see field sets) at most", FIELDSET_BYTES_MAX);
    BOUND("`content_location` | bytes | at most", CONTENT_LOCATION_BYTES_MAX);
    BOUND("`surrogates` | repeated bytes | at most", SURROGATES_PER_ENTRY_MAX);
    BOUND("of more than", FAMILIES_PER_ENTRY_MAX);
    BOUND("`limit` | uint32 | at most", LIST_PAGE_MAX);
    BOUND("Not the same: back to 4, at most", READ_RETRIES_MAX);
    BOUND("length at most", POOL_RECORD_BYTES_MAX);
    BOUND("a power of two from", CLOCKS_MIN);
    BOUND("a power of two from 1024 to", CLOCKS_MAX);
    BOUND("(home_count +", HOP_WINDOW - 1);
    BOUND("whole entity tag; over", DETAIL_ETAG_BYTES);
    BOUND("regular file (open it with `O_NOFOLLOW` and `O_NONBLOCK`) of at most",
          SPOOL_MARK_BYTES_MAX);
    BOUND("guard step. Over", SPOOL_FILE_BYTES_MAX);
}

int main(void)
{
    printf("version protocol %u\nversion layout of the memory %u\n", PROTOCOL_VERSION,
           LAYOUT_VERSION);
    printf("magic 0x%llx\nmagic 0x%llx\n", (unsigned long long)LAYOUT_MAGIC,
           (unsigned long long)COUNTERS_MAGIC);
    printf("role %d read\nrole %d fill\nrole %d mutate\nrole %d admin\n", ROLE_READ, ROLE_FILL,
           ROLE_MUTATE, ROLE_ADMIN);
    print_layout();
#define PRINT_COUNTER(name, text)                                                                  \
    printf("counters %zu 8 " #name "\n", offsetof(struct counters, name));
    CLIENT_COUNTERS(PRINT_COUNTER)
#define PRINT_ERROR(name, code, status, word) printf("error %d " word "\n", code);
    WIRE_ERRORS(PRINT_ERROR)
#define PRINT_REASON(name, value, word, text) printf("reason %d " word "\n", value);
    ETAG_REASONS(PRINT_REASON)
#define PRINT_EVENT(name, number, word) printf("event %d " word "\n", number);
    EVENT_KINDS(PRINT_EVENT)
    print_bounds();
    return 0;
}
