"""dj-stripe's endpoint, if it is installed: a widely used receiver of another vendor's events.

It verifies the signature and stores the request, and nothing more, as in a project whose callback leaves the rest to a
task.
"""

import hashlib
import hmac
import importlib.util
import json
import time
from collections.abc import Iterator
from typing import Any

from benchmarks import events

IS_INSTALLED = importlib.util.find_spec("djstripe") is not None
SECRET = "whsec_" + "benchmark"
#: The environment variable that adds it to the settings, so that it slows no other receiver.
ENVIRONMENT = {"BENCHMARK_DJSTRIPE": "1"}
MAKE_ENDPOINT = f"""
from djstripe.models import WebhookEndpoint
endpoint = WebhookEndpoint.objects.create(
    id="we_1", livemode=False, enabled_events=["*"], secret="{SECRET}", status="enabled", url="https://example.org/"
)
print(endpoint.djstripe_uuid)
"""


def store_only(trigger: Any, api_key: str) -> None:
    """The project's callback."""


def bodies() -> Iterator[bytes]:
    """Yield events of the same size as the others."""
    for body in events.unique():
        webhook = json.loads(body)["webhook"]
        event = {"id": f"evt_{webhook['id']}", "object": "event", "type": "x", "livemode": False, "data": webhook}
        event["data"]["api_object"]["category"] = "x" * max(0, events.SIZE - len(json.dumps(event)))
        yield json.dumps(event).encode()


def signature(body: bytes) -> str:
    """Return the header with the signature of the body."""
    moment = int(time.time())
    digest = hmac.new(SECRET.encode(), b"%d.%s" % (moment, body), hashlib.sha256).hexdigest()
    return f"Stripe-Signature: t={moment},v1={digest}\r\n"
