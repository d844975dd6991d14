"""A student's way to Big Interview and back, gone as a browser would go it, for when nobody is there to click."""

import html
import re
from dataclasses import dataclass
from http.cookiejar import CookieJar
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import HTTPCookieProcessor, Request, build_opener

from example_project.portal.models import Student

#: Seconds that a page may take.
PATIENCE = 20
#: How many webhooks the journey leads to: the interview is started, and finished.
EVENTS = 2


class LostWay(Exception):
    """A page lacks what would lead on."""


@dataclass(frozen=True)
class Page:
    """A page that was loaded, and what leads on from it."""

    url: str
    text: str

    def link(self, label: str) -> str:
        """Where the link of that label leads."""
        return self._found(rf'<a [^>]*href="([^"]*)"[^>]*>[^<]*{re.escape(label)}')

    def form(self, label: str) -> tuple[str, dict[str, str]]:
        """Where the form with a button of that label goes, with its hidden fields and first choices."""
        for form in re.findall(r"<form.*?</form>", self.text, re.DOTALL):
            if label in form:
                fields: dict[str, str] = {}
                for tag in re.findall(r"<input[^>]*>", form):
                    found = dict(re.findall(r'(\w+)="([^"]*)"', tag))
                    if "name" in found:
                        fields.setdefault(found["name"], html.unescape(found.get("value", "")))
                action = re.search(r'<form[^>]* action="([^"]*)"', form)
                return urljoin(self.url, html.unescape(action[1]) if action else ""), fields
        raise LostWay(f"{self.url} has no button {label!r}.")

    def _found(self, pattern: str) -> str:
        found = re.search(pattern, self.text)
        if found is None:
            raise LostWay(f"{self.url} lacks what leads on.")
        return urljoin(self.url, html.unescape(found[1]))


class Browser:
    """Keeps cookies, follows links and redirects, sends forms."""

    def __init__(self) -> None:
        self._open = build_opener(HTTPCookieProcessor(CookieJar())).open

    def get(self, url: str) -> Page:
        return self._load(Request(url))  # noqa: S310 - addresses of this machine alone

    def submit(self, page: Page, label: str) -> Page:
        """Press the button of that label."""
        url, fields = page.form(label)
        parts = urlsplit(page.url)
        headers = {"Origin": f"{parts.scheme}://{parts.netloc}", "Referer": page.url}
        return self._load(Request(url, urlencode(fields).encode(), headers))  # noqa: S310 - as above

    def _load(self, request: Request) -> Page:
        with self._open(request, timeout=PATIENCE) as response:
            return Page(response.url, response.read().decode())


def practise(portal: str, student: Student) -> Page:
    """Sign in as the student, practise at Big Interview, log out there; the page that they are on then.

    Raises LostWay, or OSError where a page does not come.
    """
    browser = Browser()
    page = browser.get(portal + student.get_absolute_url())
    page = browser.submit(page, "Sign in as")
    page = browser.get(page.link("Practise an interview"))
    page = browser.submit(page, "Start practice interview")
    page = browser.submit(page, "Finish")
    return browser.get(page.link("Log out"))
