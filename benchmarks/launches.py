"""Launches while the Partner API hangs: how fast webhooks are in the threads of the same web server."""

import random
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from http.client import HTTPConnection
from multiprocessing import get_context
from urllib.parse import urlsplit

import django

from benchmarks import events, load
from benchmarks.deployment import Deployment
from benchmarks.registrations import KEY, registration
from benchmarks.report import Table, ratio
from django_bi_integration.conf import Settings
from django_bi_integration.models import BigInterviewAccount
from tests.helpers.partner_api import API_KEY, PartnerAPI, partner_api

VISITORS = 40
WORKERS, THREADS = 2, 8
CONNECTIONS = 8
#: Seconds until every visitor has launched and all hanging launches are waiting.
LEAD = 5.0
#: Rounds without a limit. Each waits until every queued launch has hung for its whole time budget.
UNLIMITED_ROUNDS = 3


def measure(deployment: Deployment, *, rounds: int, seconds: float) -> Table:
    """Measure webhooks without and with visitors in turns, then the same without a limit of launches."""
    head = ["launches at once in a process", "rate, against no visitors", "median", "p99", "no visitors: median", "p99"]
    title = f"Webhooks while the Partner API hangs: {VISITORS} visitors, {WORKERS} processes of {THREADS} threads"
    table = Table(title, head)
    never = threading.Event()
    limit = Settings.MAX_CONCURRENT_LAUNCHES
    for name, allowed, turns in ((str(limit), limit, rounds), ("any number", 1000, min(rounds, UNLIMITED_ROUNDS))):
        with partner_api(lambda line, request: never.wait(60)) as api:
            account()
            environment = {
                "BENCHMARK_BASE_URL": api.url,
                "BENCHMARK_LAUNCHES": str(allowed),
                "BENCHMARK_PROXIES": "127.0.0.1",  # each visitor has an address
            }
            with deployment.web("benchmarks.wsgi", threads=THREADS, **environment) as served:
                table.add(name, *compare(served.url, api, turns, seconds))
    return table


def compare(url: str, api: PartnerAPI, rounds: int, seconds: float) -> list[str]:
    """Return the ratio of the rates, and the latencies of both in milliseconds."""
    to = url + registration().get_absolute_url()
    post(to, 1)
    undisturbed, beside = [], []
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=django.setup) as other:
        other.submit(visit, url, 0).result()
        for _ in range(rounds):
            undisturbed.append(post(to, seconds))
            asked = len(api.requests)
            visitors = other.submit(visit, url, LEAD + seconds)
            time.sleep(LEAD)
            if len(api.requests) == asked:
                raise RuntimeError("No launch has asked the Partner API.")
            beside.append(post(to, seconds))
            if set(statuses := visitors.result()) != {503}:  # every launch fails, and its response says when to retry
                raise RuntimeError(f"visitors: {statuses}")
    return [
        ratio([result.rate for result in beside], [result.rate for result in undisturbed]),
        *(f"{quantile(results, part):,.0f} ms" for results in (beside, undisturbed) for part in (0.5, 0.99)),
    ]


def post(url: str, seconds: float) -> load.Result:
    """Post a vendor's deliveries, and check that every one is stored."""
    result = load.post(url, events.unique(), key=KEY, seconds=seconds, connections=CONNECTIONS)
    if set(result.statuses) != {200}:
        raise RuntimeError(f"webhooks: {result.statuses}")
    return result


def quantile(results: list[load.Result], part: float) -> float:
    """Return a quantile of the latencies of all rounds."""
    return load.Result(latencies=[latency for result in results for latency in result.latencies]).quantile(part)


def visit(url: str, seconds: float) -> list[int]:
    """Let visitors launch until ``leave`` is set, each again when the page says so; return the statuses."""

    def browser(number: int) -> list[int]:
        statuses = []
        time.sleep(random.uniform(0, min(LEAD - 1, seconds)))
        while time.monotonic() < end:
            line = HTTPConnection(urlsplit(url).netloc, timeout=120)
            line.request("GET", "/ours/sso/login/", headers={"X-Forwarded-For": f"192.0.2.{number}"})
            response = line.getresponse()
            statuses.append(response.status)
            line.close()
            time.sleep(min(float(response.headers.get("Refresh", LEAD)), max(end - time.monotonic(), 0)))
        return statuses

    end = time.monotonic() + seconds
    with ThreadPoolExecutor(VISITORS) as browsers:
        return [status for statuses in browsers.map(browser, range(1, VISITORS + 1)) for status in statuses]


def account() -> None:
    """Return the account for visitors."""
    made = BigInterviewAccount.objects.first() or BigInterviewAccount(subdomain="xyz")
    made.allows_anonymous = True
    made.set_api_key(API_KEY)
    made.save()
