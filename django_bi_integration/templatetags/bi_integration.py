"""``{% load bi_integration %}``: links into Big Interview, as a URL or as a button."""

from collections.abc import Callable
from inspect import signature

from django import template
from django.template.base import Node, Parser, Token
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from django_bi_integration.paths import own_path

register = template.Library()


@register.simple_tag
def bi_sso_url(
    *,
    account: object = "",
    redirect_to: object = "",
    to: object = "",
    chapter: object = "",
    interview: object = "",
    return_url: object = "",
) -> str:
    """Return the URL that logs the user in at Big Interview. The options are those of ``sso.start``.

    ``{% bi_sso_url to="review" interview=interview.id return_url=request.path %}``
    """
    options = {
        "account": account,
        "redirect_to": redirect_to,
        "to": to,
        "chapter": chapter,
        "interview": interview,
        "return_url": return_url,
    }
    query = urlencode({name: str(value) for name, value in options.items() if value not in (None, "")})
    return own_path("sso-login") + (f"?{query}" if query else "")


@register.inclusion_tag("django_bi_integration/sso/button.html")
def bi_sso_button(
    label: str = "",
    *,
    css_class: str = "",
    account: object = "",
    redirect_to: object = "",
    to: object = "",
    chapter: object = "",
    interview: object = "",
    return_url: object = "",
) -> dict[str, str]:
    """Return a link to the same URL, with your ``css_class`` and a script that ignores the second of two clicks.

    ``{% bi_sso_button "Practise an interview" css_class="button" return_url=request.path %}``
    """
    url = bi_sso_url(
        account=account, redirect_to=redirect_to, to=to, chapter=chapter, interview=interview, return_url=return_url
    )
    return {"label": label or _("Practise an interview"), "css_class": css_class, "url": url}


def list_options_in_errors(tag: Callable[..., object]) -> None:
    """Add the names of the tag's options to the TemplateSyntaxError that Django raises for an unknown one."""
    name, options = tag.__name__, ", ".join(signature(tag).parameters)
    compile_tag: Callable[[Parser, Token], Node] = register.tags[name]

    def compile_with_hint(parser: Parser, token: Token) -> Node:
        try:
            return compile_tag(parser, token)
        except template.TemplateSyntaxError as error:
            raise template.TemplateSyntaxError(f"{error}. The options of {name} are {options}.") from error

    register.tag(name, compile_with_hint)


list_options_in_errors(bi_sso_url)
list_options_in_errors(bi_sso_button)
