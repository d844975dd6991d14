"""``{% load bi_integration %}``: the way into Big Interview, as a URL or as a button."""

from typing import Any

from django import template
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from django_bi_integration.paths import own_path

register = template.Library()


@register.simple_tag
def bi_sso_url(**options: Any) -> str:
    """The link that logs the user in at Big Interview; the options are those of ``sso.start``, as text.

    ``{% bi_sso_url to="review" interview=interview.id return_url=request.path %}``
    """
    query = urlencode({name: value for name, value in options.items() if value not in (None, "")})
    return own_path("sso-login") + (f"?{query}" if query else "")


@register.inclusion_tag("django_bi_integration/sso/button.html")
def bi_sso_button(label: str = "", **options: Any) -> dict[str, str]:
    """The same as a link that looks like your ``css_class`` and takes a double click for one.

    ``{% bi_sso_button "Practise an interview" css_class="button" return_url=request.path %}``
    """
    css_class = options.pop("css_class", "")
    return {"label": label or _("Practise an interview"), "css_class": css_class, "url": bi_sso_url(**options)}
