/* SPDX-License-Identifier: Apache-2.0 */
/* Fill tokens as text: "incarnation.lsn", both in hex. */
#ifndef ETAGCTL_TOKEN_H
#define ETAGCTL_TOKEN_H

#include "ctl.h"

#define CTL_TOKEN_BYTES 40
void ctl_token_format(etag_token token, char out[CTL_TOKEN_BYTES]);
MUST_USE bool ctl_token_parse(const char *text, etag_token *out);

#endif
