"""Keys that people paste: check them, and say how to correct one that cannot work."""

import re

from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables

#: The words that precede the key in requests to other APIs. Both vendors send their keys without it.
SCHEME = re.compile(
    r"\A(?:(?:(?:proxy-)?authorization|x-api-key)\s*[:=]\s*)?"
    r"(?:(?:bearer|token|basic|digest|key|api[-_ ]?key)\s*[:=]?\s)?",
    re.IGNORECASE,
)
#: Strangers can try webhook keys over the network. 16 hexadecimal digits are 64 bits, which is too many to try.
SHORTEST = 16


@sensitive_variables()
def checked_key(raw: str, *, shortest: int = 1, ascii_only: bool = True) -> str:
    """Return ``raw`` without surrounding white space.

    Raise ValueError if it is blank, begins with a scheme such as "Bearer", contains white space, cannot be sent in a
    header, or has fewer than ``shortest`` characters. The message never quotes the key.
    """
    key = raw.strip()
    if not key:
        raise ValueError(_("The key is blank. Copy it from Big Interview's API Settings."))
    match = SCHEME.match(key)
    if match and (scheme := " ".join(match.group().split())):
        text = _("The key is sent by itself, and “%s” is not part of it. Paste only what follows it.")
        raise ValueError(text % scheme)
    if not key.isprintable() or (ascii_only and not key.isascii()):
        raise ValueError(_("The key has characters that no HTTP header can carry. Copy it again."))
    if " " in key:
        raise ValueError(_("The key contains white space. Copy it again, without any text around it."))
    if len(key) < shortest:
        raise ValueError(
            _("The key has fewer than %d characters, so strangers could guess it. Check that it was copied whole.")
            % shortest
        )
    return key
