/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 with padding (RFC 4648 section 4), as etcd's JSON gateway writes keys and values. */
#ifndef ETAG_RELAY_BASE64_H
#define ETAG_RELAY_BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cleanup.h"

#include <etag/etag.h>

/* Of so many bytes, without a NUL. */
#define BASE64_BYTES(len) (((len) + 2) / 3 * 4)

/* Writes BASE64_BYTES(bytes.len) characters. */
void base64_encode(char *out, etag_str bytes);

/* Writes at most text.len / 4 * 3 bytes. False: it is no base64, or is not the one form of its
 * bytes (padding left out, bits set after the last byte). */
MUST_USE bool base64_decode(uint8_t *out, size_t *len, etag_str text);

#endif
