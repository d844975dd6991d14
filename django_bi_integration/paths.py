"""Paths of this package's URLs, under the prefix that the host project includes them with."""

from uuid import UUID

from django.urls import NoReverseMatch, reverse

REMEDY = 'Add `path("bi/", include("django_bi_integration.urls"))` to the URLconf.'


def own_path(name: str, **parameters: UUID) -> str:
    """Return the path of the URL ``name``; raise NoReverseMatch with the remedy if the URLconf does not include it."""
    try:
        return reverse(f"django_bi_integration:{name}", kwargs=parameters)
    except NoReverseMatch as error:
        raise NoReverseMatch(f"The URLs of django_bi_integration are not included here. {REMEDY}") from error
