/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structs of the public interface grow at their end. A caller compiled with an older header passes
 * smaller ones: the library reads missing members as zero and writes nothing after the caller's
 * last one. A caller compiled with a newer header passes larger ones: a member that this library
 * does not know would ask for something that it can't do, so it must be zero. Structs without a
 * size member (etag_str, etag_field, etag_resource, etag_scope, etag_token) never grow.
 */
#ifndef LIBETAG_ABI_H
#define LIBETAG_ABI_H

#include <etag/etag.h>
#include <string.h>

/* Far above the size of all our structs: a larger value means that the size was never set. */
#define ABI_BYTES_MAX 4096u

static inline size_t abi_size(const void *in)
{
    size_t size;

    memcpy(&size, in, sizeof(size));
    return size;
}

/* Returns whether everything in the caller's struct beyond ours is zero. */
static inline bool abi_tail_is_zero(const void *in, size_t bytes, size_t size)
{
    for (size_t i = bytes; i < size; i++)
        if (((const unsigned char *)in)[i] != 0)
            return false;
    return true;
}

/* Returns the caller's struct as one of ours, of 'bytes': 'in' itself if it has that size, else a
 * copy in 'scratch'. Returns NULL if 'in' is NULL, smaller than the first version (its size was
 * never set), or larger than ours with an unknown member set (see abi_why()). */
static inline const void *abi_in(const void *in, void *scratch, size_t bytes, size_t first_bytes)
{
    if (!in)
        return NULL;
    const size_t size = abi_size(in);
    if (__builtin_expect(size == bytes, 1))
        return in;
    if (size > bytes)
        return size <= ABI_BYTES_MAX && abi_tail_is_zero(in, bytes, size) ? in : NULL;
    if (size < first_bytes)
        return NULL;
    memcpy(scratch, in, size);
    memset((char *)scratch + size, 0, bytes - size);
    return scratch;
}

/* The same for a struct that the library fills in: members that we don't know may have any value,
 * since they ask for nothing. */
static inline const void *abi_in_answer(const void *in, void *scratch, size_t bytes,
                                        size_t first_bytes)
{
    return in && abi_size(in) > bytes ? in : abi_in(in, scratch, bytes, first_bytes);
}

/* Chooses the sentence that says why abi_in() returned NULL: unset for a struct without a size, or
 * unknown for one with an unknown member. */
static inline const char *abi_why(const void *in, size_t bytes, const char *unset,
                                  const char *unknown)
{
    return in && abi_size(in) > bytes && abi_size(in) <= ABI_BYTES_MAX ? unknown : unset;
}

/* The two sentences for a struct that is called 'what' (a literal). */
#define ABI_WHY(in, bytes, what)                                                                   \
    abi_why(in, bytes, "the " what "'s size is not set",                                           \
            "the " what                                                                            \
            " has a member that this libetag does not know, and it is set: install the "           \
            "libetag that the program was built with, or leave it zero")

/* Copies as much of 'full' as the caller's struct has room for, and keeps its size member. Returns
 * false if nothing was written. */
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

/* Where the first published version of each ends: its last member of release 0.1.0, from whose tag
 * on these never change. */
#define ABI_FIRST(type, last) (offsetof(type, last) + sizeof(((type *)NULL)->last))
#define ABI_FIRST_KEY ABI_FIRST(etag_key, scheme)
#define ABI_FIRST_PREPARED ABI_FIRST(etag_prepared_key, place)
#define ABI_FIRST_TARGETS ABI_FIRST(etag_targets, max_ms)
#define ABI_FIRST_REQUEST ABI_FIRST(etag_request, shadow)
#define ABI_FIRST_VALIDATORS ABI_FIRST(etag_validators, last_modified_is_strong)
#define ABI_FIRST_ANSWER ABI_FIRST(etag_answer, place)
#define ABI_FIRST_OPTIONS ABI_FIRST(etag_client_options, shadow)
#define ABI_FIRST_ENTRY ABI_FIRST(etag_entry, surrogate_list_count)
#define ABI_FIRST_RECEIPT ABI_FIRST(etag_receipt, lsn)

#endif
