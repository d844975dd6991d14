"""Text and JSON as every database can hold them."""

import json
import math
import re
from collections.abc import Iterable
from itertools import accumulate
from typing import Any, NoReturn

#: MariaDB rejects JSON that is nested deeper.
MAX_DEPTH = 30
#: JSON that is nested deeper is not parsed. Python 3.11 counts the request's own stack towards its limit of 1,000. 3.13
#: overflows a thread's stack of 1 MiB, at some 8,000 levels, before it reaches its limit: that kills the process.
MAX_NESTING = 200
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(set(range(256)) - set(_STEP))


def clean(text: str, length: int | None = None) -> str:
    """``text`` without NUL and lone surrogates (replaced), cut to ``length`` characters."""
    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return (text if text.isascii() else text.encode("utf-8", "replace").decode())[:length]


def end_of(text: str, length: int) -> str:
    """The last ``length`` characters of ``text``; what is not printable ASCII is replaced."""
    end = re.sub(r"[^ -~]", "?", text[-length:])
    return end if len(text) <= length else f"…{end[1:]}"


#: What a page shows as nothing at all, or as a change of direction: control characters, Unicode's "default ignorable"
#: ones, separators of lines, annotations, and the blank of braille.
_UNSEEN = (
    r"\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    r"\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_SEEN = rf"[^\x00-\x7f{_UNSEEN}]"
#: Persian, the languages of India and emoji spell words with these: between two characters that can be seen, they stay.
_SPELLING = rf"(?<={_SEEN})(?:\ufe0f\u200d|[\u200c\u200d])(?={_SEEN})|(?<={_SEEN})\ufe0f"
_UNSEEN_OR_SPELLING = re.compile(rf"({_SPELLING})|([{_UNSEEN}])")
_UNSEEN_IN_LINES = re.compile(rf"({_SPELLING})|((?![\t\n])[{_UNSEEN}])")


def visible(text: str, *, lines: bool = False) -> str:
    """``text`` with each invisible character shown as ``⟨U+202E⟩``, so that it neither hides nor reorders anything.

    With ``lines``, tabs and line feeds stay.
    """
    if text.isascii() and text.isprintable():
        return text
    unseen = _UNSEEN_IN_LINES if lines else _UNSEEN_OR_SPELLING
    return unseen.sub(lambda found: found[1] or f"⟨U+{ord(found[2]):04X}⟩", text)


def in_plane(text: str) -> str:
    """``text`` without what MariaDB's utf8mb3 lacks, emoji for example (replaced)."""
    return re.sub(r"[^\u0000-\uffff]", "\N{REPLACEMENT CHARACTER}", text)


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
    """Return whether the parser could meet more than ``MAX_NESTING`` open brackets. Takes linear time."""
    if body.count(b"[") + body.count(b"{") <= MAX_NESTING:  # true of every event that a vendor documents
        return False
    # Without escaped backslashes, and then without escaped quotation marks, each of those left begins or ends a string.
    outside_strings = body.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2]
    brackets = b"".join(outside_strings).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > MAX_NESTING


def plain_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object in ``body``, or None where there is none that every database could hold as JSON."""
    try:
        document = read_object(body)
    except ValueError:
        return None
    return document if is_plain(document) else None


def _parse_int(digits: str) -> int | float:
    """A whole number; one with more digits than Python reads is infinite, as 1e400 is."""
    try:
        return int(digits)
    except ValueError:
        return float(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_parse_int)


def is_plain(value: object) -> bool:
    """Whether every database can hold the parsed JSON ``value`` as JSON.

    Not where it is nested deeper than ``MAX_DEPTH``, or has NUL, a lone surrogate or an infinite number in it.
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
