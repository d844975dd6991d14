"""Pages of the admin: their URLs, text and forms, and failed events to show on them."""

import re

from django.urls import reverse

from django_bi_integration.models import ReceivedEvent
from django_bi_integration.models.event import digest


def url(model, page="changelist", *arguments):
    """Return the path of a model's admin page."""
    return reverse(f"admin:django_bi_integration_{model.__name__.lower()}_{page}", args=arguments)


def texts(response):
    """Return the page's text without tags, with single spaces."""
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


FAILED = {"register": {"status": "failed", "attempts": 5, "error": "ValueError: Ada", "traceback": "Ada"}}


def failed_events(registration, count, first=0):
    """Store ``count`` events whose receiver failed, with ids that count up from ``first``."""
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


def select_all(page, action):
    """Return the form data that a browser sends from a changelist after a click on "Select all"."""
    content = page.content.decode()
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', content))
    box = re.search(r'name="_selected_action" value="([^"]+)"', content)[1]
    return {**hidden, "action": action, "select_across": "1", "index": "0", "_selected_action": box}
