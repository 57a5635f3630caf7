/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structs of the public interface grow at their end. A caller that was compiled with an older header passes smaller
 * ones: what it does not have reads as zero, and nothing is written behind what it has.
 */
#ifndef LIBETAG_ABI_H
#define LIBETAG_ABI_H

#include <etag/etag.h>
#include <string.h>

/* in as one of our structs of 'bytes': in itself where it is as large, else a copy in 'scratch'. NULL: in is NULL, or
 * smaller than the first version, so its size was never set. */
static inline const void *abi_in(const void *in, void *scratch, size_t bytes, size_t first_bytes)
{
    size_t size;
    if (!in)
        return NULL;
    memcpy(&size, in, sizeof(size));
    if (__builtin_expect(size >= bytes, 1))
        return in;
    if (size < first_bytes)
        return NULL;
    memcpy(scratch, in, size);
    memset((char *)scratch + size, 0, bytes - size);
    return scratch;
}

/* Copies 'full' out as far as the caller's struct goes; its size stays. False: nothing was written. */
static inline bool abi_out(void *out, const void *full, size_t bytes, size_t first_bytes)
{
    size_t size;
    if (!out)
        return false;
    memcpy(&size, out, sizeof(size));
    if (size < first_bytes)
        return false;
    if (size > bytes)
        size = bytes;
    memcpy((char *)out + sizeof(size), (const char *)full + sizeof(size), size - sizeof(size));
    return true;
}

/* Where the first published version of each ended: its last member. Never change these. */
#define ABI_FIRST(type, last) (offsetof(type, last) + sizeof(((type *)NULL)->last))
#define ABI_FIRST_KEY ABI_FIRST(etag_key, vary_count)
#define ABI_FIRST_TARGETS ABI_FIRST(etag_targets, everything)
#define ABI_FIRST_REQUEST ABI_FIRST(etag_request, field_count)
#define ABI_FIRST_VALIDATORS ABI_FIRST(etag_validators, last_modified)
#define ABI_FIRST_ANSWER ABI_FIRST(etag_answer, token)
#define ABI_FIRST_OPTIONS ABI_FIRST(etag_client_options, no_wait)
#define ABI_FIRST_ENTRY ABI_FIRST(etag_entry, max_age_s)
#define ABI_FIRST_RECEIPT ABI_FIRST(etag_receipt, lsn)

#endif
