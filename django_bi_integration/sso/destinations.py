"""Where a launch may lead: pages at Big Interview, by path or by name, and pages to come back to."""

import re
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import quote, unquote, urljoin, urlsplit

from django.urls import Resolver404, get_script_prefix, resolve
from django.utils.translation import get_language, get_language_from_path, override

from django_bi_integration.conf import settings
from django_bi_integration.exceptions import NotAllowed
from django_bi_integration.models import ObjectState
from django_bi_integration.vendors.big_interview import OBJECT_TYPE

LONGEST = 4096
#: The namespace of this package's URLs.
APP_NAME = "django_bi_integration"
#: How often a path may have been percent-encoded: whoever looks at it next decodes it at least once.
DECODINGS = 3
#: Control characters, what is no character at all, and what not every database can hold.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\U00010000-\U0010ffff]")

#: Pages by name, as the vendor's documentation shows their paths.
DASHBOARD = "/members/dashboard"
CHAPTER = "/members/curriculum?chapter={chapter}"
DESTINATIONS = ("dashboard", "track", "review", "retake")


def check_path(path: str) -> str:
    """``path``, if it is one on the host that it is given to; raises NotAllowed.

    What a browser or a server might take for another host is rejected, encoded or not: a second slash, a
    backslash, a control character.
    """
    decoded = path
    for _ in range(DECODINGS + 1):
        if not _stays_on_its_host(decoded):
            raise NotAllowed("A path begins with one slash, and has neither a backslash nor a control character.")
        former, decoded = decoded, unquote(decoded, errors="surrogateescape")
        if former == decoded:
            break
    else:
        raise NotAllowed("The path is percent-encoded again and again.")
    if len(quote(path, safe="")) > LONGEST:
        raise NotAllowed(f"The path is longer than {LONGEST} characters, percent-encoded.")
    return path


def _stays_on_its_host(path: str) -> bool:
    before_query = re.split(r"[?#]", path, maxsplit=1)[0]
    is_plain = path.startswith("/") and "//" not in before_query and "\\" not in path
    return is_plain and not UNPRINTABLE.search(path)


def check_return_url(url: str) -> str:
    """Return ``url`` if it is a path on this site or a URL of ``RETURN_URL_ORIGINS``.

    Raises NotAllowed for any other URL, and for one that leads into single sign-on: logging out at Big Interview
    would log the student in again.
    """
    if url.startswith("/"):
        check_path(url)
    else:
        _check_absolute(url)
    if leads_into_sign_on(url):
        raise NotAllowed("The return URL leads back into single sign-on. Give a page of your site.")
    return url


def _check_absolute(url: str) -> None:
    if (
        len(quote(url, safe="", errors="replace")) > LONGEST
        or not url.isascii()
        or UNPRINTABLE.search(url)
        or "\\" in url
        or " " in url
    ):
        raise NotAllowed("The return URL is too long, or has characters that belong into no URL.")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise NotAllowed("The return URL is none.") from None
    # The whole of what stands before the path is compared, user info and port included.
    if f"{parts.scheme}://{parts.netloc}" not in settings.RETURN_URL_ORIGINS:
        raise NotAllowed("The return URL's scheme and host are not in BI_INTEGRATION['RETURN_URL_ORIGINS'].")


def leads_into_sign_on(url: str) -> bool:
    """Return whether the path of ``url`` is one of this package's URLs, however it is encoded.

    The host is not compared: the same path on another allowed origin would start a launch there.
    """
    try:
        path = urlsplit(url).path
    except ValueError:
        return False  # not a URL
    for _ in range(DECODINGS + 1):
        if _is_own_view(path):
            return True
        path = unquote(path)
    return False


def _is_own_view(path: str) -> bool:
    # Browsers and servers resolve dot segments and may merge slashes before Django sees the path.
    plain = urljoin("/", re.sub("/+", "/", path))
    path_info = "/" + plain.removeprefix(get_script_prefix()).removeprefix("/")
    with override(get_language_from_path(path_info) or get_language()):  # for i18n_patterns
        for candidate in (path_info, f"{path_info}/"):  # APPEND_SLASH redirects to the second
            with suppress(Resolver404):
                if APP_NAME in resolve(candidate).app_names:
                    return True
    return False


def destination(name: str, partner_id: str, options: Mapping[str, object]) -> str:
    """The path of a page by its name; raises NotAllowed where there is no such page for this person.

    ``dashboard``; ``track`` with a ``chapter``; ``review`` and ``retake`` with an ``interview``, one of the person's
    own that webhooks have told of. Opening ``retake`` starts a new interview.
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
            return check_path(_link(name, partner_id, str(options.get("interview", ""))))
    raise NotAllowed(f"There is no destination of this name. There are {', '.join(DESTINATIONS)}.")


def _link(name: str, partner_id: str, interview_id: str) -> str:
    own = ObjectState.objects.of_subject(partner_id).filter(object_type=OBJECT_TYPE, object_id=interview_id)
    # Events that name nobody are nobody's; an interview's id is a number.
    for state in own if partner_id and interview_id.isalnum() and interview_id.isascii() else ():
        # A database may take "Abc" for "abc": the person is compared here.
        if state.subject_id == partner_id and (path := (state.data or {}).get(f"{name}_path")):
            return str(path)
    raise NotAllowed("Nothing is known of such an interview of this person, or it has no such page.")
