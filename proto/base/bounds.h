/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every bound of queues, loops, frames and keys, in one place. A bound that both ends must agree on
 * is part of the protocol: changing it means a new LAYOUT_VERSION or PROTOCOL_VERSION.
 */
#ifndef ETAG_PROTO_BOUNDS_H
#define ETAG_PROTO_BOUNDS_H

/* Names (bytes). */
#define HOST_BYTES_MAX 255
#define TARGET_BYTES_MAX 4096 /* path and query */
#define SCOPE_BYTES_MAX 255
#define RELEASE_BYTES_MAX 255
#define SCHEME_BYTES_MAX 16
#define VARY_COUNT_MAX 16
#define VARY_NAME_BYTES_MAX 64
#define VARY_VALUE_BYTES_MAX 1024
#define SURROGATE_BYTES_MAX 255
#define KEY_BYTES_MAX                                                                              \
    24576 /* a whole key in canonical form: the sum of the above and its lengths fits */

/* An entry. */
#define ENTITY_TAG_BYTES_MAX 256
#define SURROGATES_PER_ENTRY_MAX 128
/* Groups of names, on which an entry with too many names depends (surrogate.h). */
#define SURROGATE_GROUPS 128u
#define PREFIX_LEVELS_MAX 4 /* "/", "/a/", "/a/b/", "/a/b/c/": deeper prefixes count as these */
#define MAX_AGE_MS_MAX (UINT64_C(10) * 365 * 86400 * 1000) /* longer ones count as this */
#define FAMILIES_PER_ENTRY_MAX 16 /* of names; an entry of more depends on all there are */
#define CLOCKS_PER_ENTRY_MAX                                                                       \
    (1 + PREFIX_LEVELS_MAX + SURROGATES_PER_ENTRY_MAX + FAMILIES_PER_ENTRY_MAX)
#define FIELDS_PER_ENTRY_MAX 16 /* that a 304 repeats */
#define FIELDSET_BYTES_MAX 2000 /* packed, without Content-Location */
#define CONTENT_LOCATION_BYTES_MAX 1024
#define REPEATED_FIELDS_MAX 8 /* names that a client adds to those that a 304 repeats */
#define REPEATED_NAME_BYTES_MAX 64

/* The shared memory. */
#define CLOCKS_MIN 1024u
#define CLOCKS_MAX (1u << 24) /* a slot keeps clock numbers in 24 bits */
#define CAPACITY_MIN 1024u
#define CAPACITY_MAX (1u << 30)
#define POOL_UNIT_BYTES 64u
#define POOL_RECORD_BYTES_MAX 2048u
#define POOL_BYTES_MIN (1ull << 20)
#define POOL_BYTES_MAX (1ull << 36)
#define READ_RETRIES_MAX 8

/* The wire. */
#define FRAME_BYTES_MAX (1024u * 1024u)
#define FRAME_HEADER_BYTES 4u
#define TARGETS_PER_EVENT_MAX 4096
#define WIRE_DEPTH_MAX 6
#define LIST_PAGE_MAX 1000
#define CLIENTS_PAGE_MAX 256
#define CLIENT_COUNTS_MAX 64      /* counters of a client in an answer to "clients" */
#define STATS_MAX 512             /* in an answer to "status" */
#define HISTOGRAMS_MAX 8          /* in the same answer */
#define HISTOGRAM_BUCKETS_MAX 512 /* non-empty buckets of each */
#define LOG_PAGE_MAX 1000
#define LOG_SCAN_MAX 10000 /* events that one request for the log reads */
#define ERROR_TEXT_BYTES_MAX 512

/* The relay. */
#define RELAY_BATCH_TARGETS_MAX                                                                    \
    1024 /* events in one part of a batch; its names: TARGETS_PER_EVENT_MAX */
#define RELAY_CURSOR_BYTES_MAX 69632 /* 8192 numbers of 8 bytes, and some */
#define RELAY_LOG_ID_BYTES_MAX 255
#define RELAY_ENGINE_BYTES_MAX 31 /* of its name; the next: of a reason. Longer ones are cut */
#define RELAY_REASON_BYTES_MAX 127
#define RELAY_WRITERS_BYTES_MAX 511 /* who wrote the events of one part, for people */
#define L_NET_MS_MIN 100
#define L_NET_MS_MAX 60000
#define RELAY_QUEUE_MAX 4096 /* events that wait for the relay; beyond: one of everything */
#define RELAY_QUEUE_BYTES_MAX (16u * 1024 * 1024) /* their bytes */
#define RELAY_WINDOW_MAX 64                       /* of them sent to the relay and not done yet */
#define RELAY_WINDOW_BYTES_MAX (1024u * 1024)

/* A request decoded: what its arena may take. */
#define ARENA_BYTES_MAX (8u * 1024u * 1024u)

/* The daemon: peers with a role. A peer's requests wait while its answers are unread, and a peer
 * that leaves them unread for too long is closed. Answers that come later all the same (of
 * mutations that waited for the store, and events) may take PEER_QUEUED_BYTES_MAX. When half of the
 * bound of all peers is used, no peer gets a long answer, and a peer that leaves more than its
 * share unread for PEERS_UNREAD_MS_MAX is closed. */
#define PEERS_MAX 4096
#define WATCHERS_MAX 32 /* in all; each event is sent to each */
#define WATCHERS_OF_USER_MAX 16
#define PEER_IN_BYTES_MAX 65536u /* whole requests that wait; beyond: the peer is not read */
#define PEER_UNREAD_BYTES_MAX 65536u
#define PEER_UNREAD_MS_MAX 10000
#define PEERS_QUEUED_BYTES_MAX (64u * 1024u * 1024u)
#define PEERS_UNREAD_BYTES_MAX (PEERS_QUEUED_BYTES_MAX / 2 / PEERS_MAX) /* the share of one */
#define PEERS_UNREAD_MS_MAX 1000

/* A turn of the loop, for each kind of work (intake.h): requests of all peers, the time that they
 * may take, requests of one peer in a row. */
#define TURN_URGENT_MAX 1024
#define TURN_URGENT_US 2000
#define PEER_TURN_URGENT_MAX 64
#define TURN_FILLS_MAX 64
#define TURN_FILLS_US 200
#define PEER_TURN_FILLS_MAX 16
#define TURN_ASKED_MAX 16
#define TURN_ASKED_US 1000
#define PEER_TURN_ASKED_MAX 1

/* Peers without any role, in addition to those. */
#define STRANGERS_MAX 64
#define STRANGERS_WAITING_MAX 256 /* to be served or refused; beyond: the loop accepts none */
#define STRANGER_FRAME_BYTES_MAX 4096
#define STRANGER_REPLY_BYTES_MAX 1024
#define STRANGER_SOCKET_BYTES 4096 /* the kernel's buffer for answers that one has not read */

/* Lines of the log that a peer can cause. */
#define LOG_LIMITED_EVENTS_MAX 32
#define LOG_LIMITED_LINES 3  /* of each event at once */
#define LOG_LIMITED_MS 10000 /* ... and one more in each such time */

#define PEER_QUEUED_BYTES_MAX (4u * 1024u * 1024u) /* answers that a peer has not read yet */
#define PEER_HELLO_MS_MAX 5000                     /* time to say hello */
#define PEER_PARTIAL_MS_MAX 10000                  /* time to finish a frame once begun */
#define GUARDS_MAX 4096                            /* open at once; of a client too */
#define HOLDS_MAX 65536                            /* at once; beyond: one of everything */
#define GUARDS_BYTES_MAX (256u * 1024u * 1024u)    /* memory of guards and holds */
#define EXPIRED_PER_TURN_MAX 4096                  /* guards and holds that end in one turn, */
#define EXPIRED_TURN_US 2000                       /* and the longest time for it */
#define PEER_PENDING_MAX 65536                     /* mutations of a peer that wait for the store */
#define DIRTY_ENTRIES_MAX 262144                   /* accepted, not yet persisted */
#define DIRTY_BYTES_MAX (256u * 1024u * 1024u)     /* their bytes */
#define PERSIST_CHUNK_MAX 256                      /* entries in one write transaction */
#define JOURNAL_HALF_BYTES (4u * 1024u * 1024u)    /* events that the store may lack; of two */
#define UNSTORED_MAX 1024                          /* entries that the next event erases */
#define RETAINED_EVENTS_MAX 65536                  /* events whose write failed, to be retried */
#define RETAINED_BYTES_MAX (64u * 1024u * 1024u)   /* their bytes */
#define EVENTS_KEPT 100000                         /* default: events kept for explain and log */
#define EVENTS_KEPT_MAX 10000000u                  /* the largest value of the option */
#define EVENTS_KEPT_BYTES (UINT64_C(64) << 20)     /* default: bytes of the store for them */
#define EVENTS_KEPT_MS (UINT64_C(24) * 3600 * 1000) /* default: how long they are kept */
#define EVENTS_TRIMMED_MAX 131072                   /* deleted from the log in one transaction */
#define EVENTS_KEPT_MIN 1024                        /* if the store has little room */
#define CHECKPOINT_EVENTS 65536 /* new events that make a checkpoint of the clocks due */
#define CLOCK_CHUNK_WORDS 512u  /* clocks in one checkpoint record */
#define HOP_WINDOW 32u          /* an entry is within this many slots from its home */

/* The library. */
#define RECONNECT_MS_MIN 100
#define CLIENT_OUTGOING_BYTES_MAX (1024u * 1024u)
#define CLIENT_OPS_MAX 1024
#define CODINGS_OFFERED_MAX 16 /* that a front end chooses from */
#define LEASE_MS_MIN 20
#define LEASE_MS_MAX 60000

/* Guards and holds (milliseconds). */
#define HOLD_MS_MAX 3600000u
#define GUARD_MS_MAX 86400000u
#define GUARD_MS_DEFAULT 600000u
#define LINGER_MS_MIN 100
#define LINGER_MS_MAX 3600000

/* The spool (spool_format.h). */
#define SPOOL_SLOTS 4096u            /* events that may wait in it, each in a file */
#define SPOOL_ALL_SLOTS 64u          /* files that mean "purge everything" */
#define SPOOL_FILE_BYTES_MAX 65536u  /* of one event */
#define SPOOL_NAMES_MAX 16384u       /* names that a daemon reads of the directory at once */
#define SPOOL_REMOVALS_PER_SCAN 512u /* of garbage; the rest goes by the next scans */
#define SPOOL_WRITERS_MAX 1024u      /* uids that the mark names */
#define SPOOL_MARK_BYTES_MAX 32768u

#endif
