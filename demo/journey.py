"""A student's visit to Big Interview, as a browser would make it, for a demo that nobody watches."""

import html
import re
from dataclasses import dataclass
from http.cookiejar import CookieJar
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import HTTPCookieProcessor, Request, build_opener

from example_project.portal.models import Student

#: Seconds that a page may take.
TIMEOUT = 20
#: The number of webhooks that the visit causes: the interview is started, and finished.
EVENTS = 2


class MissingElement(Exception):
    """A page lacks the link or the button that comes next."""


@dataclass(frozen=True)
class Page:
    """A page that was loaded."""

    url: str
    text: str

    def link(self, label: str) -> str:
        """Return the URL of the link with this label."""
        found = re.search(rf'<a [^>]*href="([^"]*)"[^>]*>[^<]*{re.escape(label)}', self.text)
        if found is None:
            raise MissingElement(f"{self.url} has no link {label!r}.")
        return urljoin(self.url, html.unescape(found[1]))

    def form(self, label: str) -> tuple[str, dict[str, str]]:
        """Return the URL of the form that has a button with this label, and its hidden fields and first choices."""
        for form in re.findall(r"<form.*?</form>", self.text, re.DOTALL):
            if label in form:
                fields: dict[str, str] = {}
                for tag in re.findall(r"<input[^>]*>", form):
                    found = dict(re.findall(r'(\w+)="([^"]*)"', tag))
                    if "name" in found:
                        fields.setdefault(found["name"], html.unescape(found.get("value", "")))
                action = re.search(r'<form[^>]* action="([^"]*)"', form)
                return urljoin(self.url, html.unescape(action[1]) if action else ""), fields
        raise MissingElement(f"{self.url} has no button {label!r}.")


class Browser:
    """Keeps cookies, follows links and redirects, submits forms."""

    def __init__(self) -> None:
        self._open = build_opener(HTTPCookieProcessor(CookieJar())).open

    def get(self, url: str) -> Page:
        return self._load(Request(url))  # noqa: S310 - only URLs of this machine

    def submit(self, page: Page, label: str) -> Page:
        """Press the button with this label."""
        url, fields = page.form(label)
        parts = urlsplit(page.url)
        headers = {"Origin": f"{parts.scheme}://{parts.netloc}", "Referer": page.url}
        return self._load(Request(url, urlencode(fields).encode(), headers))  # noqa: S310 - as above

    def _load(self, request: Request) -> Page:
        with self._open(request, timeout=TIMEOUT) as response:
            return Page(response.url, response.read().decode())


def practise(portal: str, student: Student) -> Page:
    """Sign in as the student, practise at Big Interview, log out there, and return the page that this leads to.

    Raise MissingElement if a page lacks the next link or button, and OSError if a page cannot be loaded.
    """
    browser = Browser()
    page = browser.get(portal + student.get_absolute_url())
    page = browser.submit(page, "Sign in as")
    page = browser.get(page.link("Practise an interview"))
    page = browser.submit(page, "Start practice interview")
    page = browser.submit(page, "Finish")
    return browser.get(page.link("Log out"))
