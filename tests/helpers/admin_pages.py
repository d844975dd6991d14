"""The admin's pages: their addresses, their text, their forms; and events to fill them."""

import re

from django.urls import reverse

from django_bi_integration.models import ReceivedEvent
from django_bi_integration.models.event import digest


def url(model, page="changelist", *arguments):
    return reverse(f"admin:django_bi_integration_{model.__name__.lower()}_{page}", args=arguments)


def texts(response):
    """What a person reads on the page."""
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


FAILED = {"register": {"status": "failed", "attempts": 5, "error": "ValueError: Ada", "traceback": "Ada"}}


def failed_events(registration, count, first=0):
    """So many events of which a receiver has failed; those with the last numbers are the newest."""
    ReceivedEvent.objects.bulk_create(
        [
            ReceivedEvent(
                registration=registration,
                vendor="big_interview",
                vendor_event_id=str(number),
                event_digest=digest("id", str(number)),
                event_type="interview.updated",
                body=b'{"name": "Ada"}',
                status="failed",
                next_attempt_at=None,
                receiver_results=FAILED,
            )
            for number in range(first, first + count)
        ],
        batch_size=1000,
    )


def chosen(page, action):
    """The form of a list's page after a click on "Select all", as the browser sends it."""
    content = page.content.decode()
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', content))
    box = re.search(r'name="_selected_action" value="([^"]+)"', content)[1]
    return {**hidden, "action": action, "select_across": "1", "index": "0", "_selected_action": box}
