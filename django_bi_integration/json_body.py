"""The JSON object in a request's body: parse it within limits; keep it only if every database can hold it."""

import json
import math
from collections.abc import Iterable
from itertools import accumulate
from typing import Any, NoReturn

from django_bi_integration.text import clean

#: MariaDB rejects JSON that is nested deeper.
MAX_DEPTH = 30
#: JSON that is nested deeper is not parsed. Python 3.11 counts the request's stack towards its limit of 1,000. Python
#: 3.13 overflows a thread's stack of 1 MiB at some 8,000 levels, before it reaches its limit, and the process dies.
MAX_NESTING = 200
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(set(range(256)) - set(_STEP))


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in ``body``; raise ValueError if it is not one, or is nested deeper than ``MAX_NESTING``.

    A byte order mark is accepted and the last of duplicate keys wins; ``NaN`` and ``Infinity`` are not JSON.
    """
    if _is_too_deep(body):
        raise ValueError("nested too deep")
    document = _DECODER.decode(body.decode("utf-8-sig"))
    if not isinstance(document, dict):
        raise ValueError("not an object")
    return document


def _is_too_deep(body: bytes) -> bool:
    """Return True if the parser could meet more than ``MAX_NESTING`` open brackets. This takes linear time."""
    if body.count(b"[") + body.count(b"{") <= MAX_NESTING:  # true of every event that a vendor documents
        return False
    # Without escaped backslashes and escaped quotation marks, each quotation mark that is left begins or ends a string.
    outside_strings = body.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2]
    brackets = b"".join(outside_strings).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > MAX_NESTING


def plain_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object in ``body``; None if it is invalid or not every database could hold it as JSON."""
    try:
        document = read_object(body)
    except ValueError:
        return None
    return document if is_plain(document) else None


def _parse_int(digits: str) -> int | float:
    """Return an integer; infinity, as for 1e400, if it has more digits than Python parses."""
    try:
        return int(digits)
    except ValueError:
        return float(digits)


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_reject_constant, parse_int=_parse_int)


def is_plain(value: object) -> bool:
    """Return True if every database can hold the parsed JSON ``value`` as JSON.

    It must not be nested deeper than ``MAX_DEPTH``, nor contain NUL, a lone surrogate or an infinite number.
    """
    layer = [value]
    for _ in range(MAX_DEPTH + 1):
        if not all(map(_is_plain_leaf, layer)):
            return False
        layer = [inner for outer in layer for inner in _inside(outer)]
        if not layer:
            return True
    return False


def _is_plain_leaf(value: object) -> bool:
    if isinstance(value, str):
        return clean(value) == value
    return not isinstance(value, float) or math.isfinite(value)


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else ()
