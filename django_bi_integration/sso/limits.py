"""Limits: how many launches of a process may wait at the same time, and how many a minute visitors may start."""

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_network
from random import randint

from django.http import HttpRequest
from rest_framework.throttling import SimpleRateThrottle

from django_bi_integration.conf import settings
from django_bi_integration.exceptions import TooManyLaunches, TooManyVisits
from django_bi_integration.webhooks.client_address import client_address

logger = logging.getLogger(__name__)

#: When to try again if no slot was free, in seconds. A random value of this range spreads the retries.
SOONEST, LATEST = 3, 8

_lock = threading.Lock()
_taken = 0


@contextmanager
def slot() -> Iterator[None]:
    """Hold one of this process's slots for launches; raise TooManyLaunches at once if none is free.

    A launch waits for the Partner API. While the API hangs, launches would otherwise occupy every thread of a server,
    and webhooks would time out. A semaphore cannot be used: its size is fixed, and the setting is read live.
    """
    global _taken
    with _lock:
        if _taken >= settings.MAX_CONCURRENT_LAUNCHES:
            raise TooManyLaunches(
                f"{_taken} launches of this process are waiting for Big Interview, as many as"
                " BI_INTEGRATION['MAX_CONCURRENT_LAUNCHES'] allows.",
                retry_after=randint(SOONEST, LATEST),  # noqa: S311 - not a secret
            )
        _taken += 1
    try:
        yield
    finally:
        with _lock:
            _taken -= 1


def limit_visitors(request: HttpRequest) -> None:
    """Count a launch without a log-in; raise TooManyVisits if the visitor's network has started too many.

    If the cache is unavailable, nothing is limited, because visitors should get through without it.
    """
    rate = VisitorRate()
    try:
        is_allowed = rate.allow_request(request, None)  # type: ignore[arg-type]  # only get_cache_key() reads them
    except Exception as error:  # noqa: BLE001 - each cache backend raises different exceptions
        logger.warning("launches of visitors are not limited: the cache raised %s", type(error).__name__)
        return
    if not is_allowed:
        raise TooManyVisits(
            "This network has launched as often as BI_INTEGRATION['VISITOR_LAUNCHES_PER_MINUTE'] allows.",
            retry_after=math.ceil(rate.wait() or 1),
        )


class VisitorRate(SimpleRateThrottle):
    """Django REST framework's throttle, by the client address that ``TRUSTED_PROXIES`` establishes."""

    def get_rate(self) -> str:
        return f"{settings.VISITOR_LAUNCHES_PER_MINUTE}/min"

    def get_cache_key(self, request: HttpRequest, view: object) -> str:
        address = client_address(request)
        # Providers assign an IPv6 network of /64 to each customer. Visitors with an unknown address share one limit.
        network = ip_network((address, 64), strict=False) if isinstance(address, IPv6Address) else address
        return f"django_bi_integration:visitor:{network}"
