"""Parse the times that vendors send. No time is better than a wrong time, so an ambiguous one is not parsed."""

import re
from datetime import UTC, datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_CLOCK = r"(?P<hour>\d\d)(?::?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?)?"
_ZONE = r"(?P<zone>Z|UTC?|GMT|(?P<sign>[+-])(?P<hours>\d\d)(?::?(?P<minutes>[0-5]\d))?)"
#: ISO 8601 and RFC 3339, extended or basic; a blank may replace the T and precede the zone. Without a zone: UTC.
_ISO = re.compile(
    rf"(?P<year>\d{{4}})(?P<dash>-?)(?P<month>\d\d)(?P=dash)(?P<day>\d\d)(?:[T ]{_CLOCK}(?: ?{_ZONE})?)?",
    re.ASCII | re.IGNORECASE,
)
#: RFC 2822 and HTTP dates.
_MAIL = re.compile(
    rf"(?:[a-z]{{3}}, )?(?P<day>\d\d?) (?P<month>[a-z]{{3}}) (?P<year>\d{{4}}) {_CLOCK} {_ZONE}",
    re.ASCII | re.IGNORECASE,
)
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
#: Ten digits before the point count seconds, thirteen milliseconds: in either case 2001-09-09 to 2286-11-20.
_SINCE_EPOCH = re.compile(r"(?P<whole>[1-9]\d{9}(?:\d{3})?)(?:\.(?P<fraction>\d+))?", re.ASCII)


def parse_time(text: str) -> datetime | None:
    """Parse a time to UTC; return None if it is invalid, ambiguous or outside 1970–9998.

    Accept ISO 8601 and RFC 3339, RFC 2822 dates, and Unix time in seconds or milliseconds.
    """
    text = text.strip()
    if match := _SINCE_EPOCH.fullmatch(text):
        digits = match["whole"] + (match["fraction"] or "")
        return EPOCH + timedelta(microseconds=int(f"{digits[:16]:0<16}"))
    match = _ISO.fullmatch(text) or _MAIL.fullmatch(text)
    try:
        return _from_parts(match.groupdict(default="")) if match else None
    except (ValueError, OverflowError):
        return None


def _from_parts(parts: dict[str, str]) -> datetime | None:
    year, month, second = int(parts["year"]), parts["month"], int(parts["second"] or 0)
    if not 1970 <= year < 9999:
        return None
    is_leap_second = second == 60
    offset = timedelta(hours=int(parts["hours"] or 0), minutes=int(parts["minutes"] or 0))
    moment = datetime(
        year,
        int(month) if month.isdigit() else _MONTHS.index(month.lower()) + 1,
        int(parts["day"]),
        int(parts["hour"] or 0),
        int(parts["minute"] or 0),
        59 if is_leap_second else second,
        999_999 if is_leap_second else int(f"{parts['fraction'][:6]:0<6}"),
        tzinfo=timezone(-offset if parts["sign"] == "-" else offset),
    ).astimezone(UTC)
    # A leap second is the last one of a day in UTC. It counts as the end of the second before, which keeps the order.
    return None if is_leap_second and (moment.hour, moment.minute) != (23, 59) else moment
