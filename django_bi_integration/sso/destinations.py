"""Pages at Big Interview that a launch may lead to, by their path or by a name."""

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

from django_bi_integration.exceptions import NotAllowed
from django_bi_integration.models import ObjectState
from django_bi_integration.vendors.big_interview import OBJECT_TYPE

#: The longest path, in characters after percent-encoding.
LONGEST = 4096
#: How many times percent-encoding is undone to look at a path: browsers, proxies and servers may each decode it again.
DECODINGS = 3
#: Control characters, surrogates, and characters that some databases cannot store.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\U00010000-\U0010ffff]")

#: The paths that the vendor's documentation shows.
DASHBOARD = "/members/dashboard"
CHAPTER = "/members/curriculum?chapter={chapter}"
DESTINATIONS = ("dashboard", "track", "review", "retake")


def check_page(redirect_to: str, to: str) -> None:
    """Raise NotAllowed if both a path and a name are given, or if the path is not allowed."""
    if redirect_to and to:
        raise NotAllowed("Give a path or the name of a page, not both.")
    if redirect_to:
        check_path(redirect_to)


def check_path(path: str) -> str:
    """Return ``path`` if it stays on its host; raise NotAllowed if not.

    Reject whatever a browser or a server might take for another host, percent-encoded or not: a second slash, a
    backslash, a control character.
    """
    decoded = path
    for _ in range(DECODINGS + 1):
        if not _stays_on_its_host(decoded):
            raise NotAllowed("A path begins with one slash, and has neither a backslash nor a control character.")
        previous, decoded = decoded, unquote(decoded, errors="surrogateescape")
        if previous == decoded:
            break
    else:
        raise NotAllowed("The path is percent-encoded too many times.")
    if len(quote(path, safe="")) > LONGEST:
        raise NotAllowed(f"The path is longer than {LONGEST} characters, percent-encoded.")
    return path


def _stays_on_its_host(path: str) -> bool:
    before_query = re.split(r"[?#]", path, maxsplit=1)[0]
    is_plain = path.startswith("/") and "//" not in before_query and "\\" not in path
    return is_plain and not UNPRINTABLE.search(path)


def destination(name: str, partner_id: str, options: Mapping[str, object]) -> str:
    """Return the path of the named page; raise NotAllowed if there is no such page for this person.

    The names are ``dashboard``; ``track`` with a ``chapter``; ``review`` and ``retake`` with the id of an ``interview``
    of this person that webhooks have reported. Opening ``retake`` starts a new interview.
    """
    match name:
        case "dashboard":
            return DASHBOARD
        case "track":
            chapter = str(options.get("chapter", ""))
            if not re.fullmatch(r"[0-9]{1,6}", chapter):
                raise NotAllowed("A track needs the number of its chapter.")
            return CHAPTER.format(chapter=chapter)
        case "review" | "retake":
            return check_path(_interview_path(name, partner_id, str(options.get("interview", ""))))
    raise NotAllowed(f"There is no page of this name. The names are {', '.join(DESTINATIONS)}.")


def _interview_path(name: str, partner_id: str, interview_id: str) -> str:
    own = ObjectState.objects.of_subject(partner_id).filter(object_type=OBJECT_TYPE, object_id=interview_id)
    # Without a partner id, these would be events that name no person. An interview's id is a number.
    for state in own if partner_id and interview_id.isalnum() and interview_id.isascii() else ():
        # Compare here too, because a database may consider "Abc" equal to "abc".
        if state.subject_id == partner_id and (path := (state.data or {}).get(f"{name}_path")):
            return str(path)
    raise NotAllowed("Webhooks have reported no such interview of this person, or it does not have this page.")
