"""Text that every database can hold, and that a page can show."""

import re


def clean(text: str, length: int | None = None) -> str:
    """Return ``text`` cut to ``length`` characters, with NUL and lone surrogates replaced."""
    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return (text if text.isascii() else text.encode("utf-8", "replace").decode())[:length]


def end_of(text: str, length: int) -> str:
    """Return the last ``length`` characters of ``text``, with all but printable ASCII replaced."""
    end = re.sub(r"[^ -~]", "?", text[-length:])
    return end if len(text) <= length else f"…{end[1:]}"


#: Characters that a page does not show, or that change its direction: control characters, Unicode's "default
#: ignorable" ones, separators of lines, annotations, and the blank of braille.
_UNSEEN = (
    r"\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    r"\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_SEEN = rf"[^\x00-\x7f{_UNSEEN}]"
#: Persian, the languages of India and emoji need these in words: between two visible characters, they stay.
_SPELLING = rf"(?<={_SEEN})(?:\ufe0f\u200d|[\u200c\u200d])(?={_SEEN})|(?<={_SEEN})\ufe0f"
_UNSEEN_OR_SPELLING = re.compile(rf"({_SPELLING})|([{_UNSEEN}])")
_UNSEEN_IN_LINES = re.compile(rf"({_SPELLING})|((?![\t\n])[{_UNSEEN}])")


def visible(text: str, *, lines: bool = False) -> str:
    """Return ``text`` with each invisible character shown as ``⟨U+202E⟩``, so that none hides or reorders anything.

    With ``lines``, tabs and line feeds stay.
    """
    if text.isascii() and text.isprintable():
        return text
    unseen = _UNSEEN_IN_LINES if lines else _UNSEEN_OR_SPELLING
    return unseen.sub(lambda found: found[1] or f"⟨U+{ord(found[2]):04X}⟩", text)


def in_plane(text: str) -> str:
    """Return ``text`` with the characters replaced that MariaDB's utf8mb3 lacks, for example emoji."""
    return re.sub(r"[^\u0000-\uffff]", "\N{REPLACEMENT CHARACTER}", text)
