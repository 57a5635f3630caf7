# SPDX-License-Identifier: Apache-2.0
"""etagd for Python: answer If-None-Match with 304 from shared memory.

    client = etagd.Client()
    token = client.token()                                     before any data is read
    key = etagd.Key(etagd.Resource("example.org", "/uploads/42"), "customer:7")
    request = etagd.Request("GET", key, [("If-None-Match", '"v1"')])
    answer = client.check(request, token)                      after authorization
    if answer.http_status: ...                                 304, 412, 428 with answer.fields
    status, answer = client.finish(request, etagd.Response([("ETag", '"v2"')], surrogates=["upload:42"]), answer)

    client.invalidate(surrogates=["upload:42"])                after COMMIT; or a guard around it

The rules live in libetag (etag.h); this package translates.
"""
from .client import Client, Guard, date_parse, evaluate, evaluate_with_range, variant
from .errors import (Again, Denied, EtagError, Failed, Invalid, NotFound, Pending, ProtocolBroken, Refused,
                     SystemFailure, Timeout, Unavailable, VersionMismatch)
from .exchange import BY_ENDPOINT, depends, withhold
from .model import (ABSENT, PUBLIC, Answer, Existence, Key, Range, Request, Resource, Response, Token, Validators,
                    Verdict)
from .writes import invalidates

__version__ = "0.1.0"

__all__ = [
    "ABSENT", "BY_ENDPOINT", "PUBLIC", "Again", "Answer", "Client", "Denied", "EtagError", "Existence", "Failed", "Guard", "Invalid",
    "Key", "NotFound", "Pending", "ProtocolBroken", "Range", "Refused", "Request", "Resource", "Response",
    "SystemFailure", "Timeout", "Token", "Unavailable", "Validators", "Verdict", "VersionMismatch", "date_parse",
    "depends", "evaluate", "evaluate_with_range", "invalidates", "variant", "withhold",
]
