/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries whose every byte follows from their key number and fill LSN. So whoever finds one can
 * tell whether all parts of it belong together, without having been told what was stored.
 */
#ifndef ETAG_TESTS_MADE_ENTRY_H
#define ETAG_TESTS_MADE_ENTRY_H

#include "entry.h"
#include "index.h"
#include "testing.h"
#include "text.h"

#include <stdio.h>
#include <string.h>

#define MADE_FIELDS_MAX 3
#define MADE_LOCATION_MAX 300

struct made_entry {
    /* points into the rest */
    struct index_entry entry;
    uint32_t clocks[CLOCKS_PER_ENTRY_MAX];
    struct kept_field fields[MADE_FIELDS_MAX];
    uint8_t packed[FIELDSET_BYTES_MAX];
    char etag[ENTITY_TAG_BYTES_MAX];
    char location[MADE_LOCATION_MAX];
    char value[32];
};

/* The fingerprint of key 'number' with a chosen home. */
struct hash128 made_fingerprint(uint64_t home_count, uint64_t home, uint64_t number);

etag_str made_fieldset(uint8_t out[FIELDSET_BYTES_MAX], const struct kept_field *fields,
                       size_t count);

void made_text(char *out, size_t len, uint64_t seed);

/* Most entries are small; some need the overflow record for one reason, some for all. */
void made_entry_init(struct made_entry *made, struct hash128 fingerprint, uint64_t fill_lsn,
                     uint32_t clock_count);

/* NULL, or which part of a found entry is not the made one's. */
const char *made_entry_differs(const struct made_entry *made, const struct shm_entry *found);

#endif
