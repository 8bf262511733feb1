"""What schemathesis changes in what it sends, loaded by it for each run of `document_fuzz`."""

import itertools
import re

import schemathesis

NUMBERS = itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs):
    # The server would call whatever URL is made up, and nobody outside is to hear of a test.
    if isinstance(case.body, dict):
        case.body.pop("webhook_url", None)
    # It uses the same key again and again, and then most answers would be that of the first request, or 409. Some are left.
    key = (case.headers or {}).get("Idempotency-Key")
    number = next(NUMBERS)
    # What breaks a rule on purpose is left as it is: the checks ask for the answer to just that.
    as_described = case.meta is not None and case.meta.generation.mode.is_positive
    if as_described and isinstance(key, str) and re.fullmatch("[A-Za-z0-9_-]{1,200}", key) and number % 8:
        case.headers["Idempotency-Key"] = f"{key}-{number}"
