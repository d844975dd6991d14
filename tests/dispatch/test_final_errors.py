"""Errors that no retry can fix: the receiver fails at the first attempt, and the error says what to do."""

import importlib

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, transaction

from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.signals import event_received
from tests.helpers.deliveries import big_interview, deliver, interview_event, stored, subscribed
from tests.host.models import Effect

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def opens_a_durable_block(**arguments):
    with transaction.atomic(durable=True):
        pass


@transaction.atomic(durable=True)
def is_a_durable_block(**arguments):
    pass


async def opens_a_durable_block_in_a_thread(**arguments):
    await sync_to_async(opens_a_durable_block)()


def misses_an_argument(sender, event):
    pass


def wants_another_argument(event, student, **arguments):
    pass


async def misses_an_argument_async(event):
    pass


def imports_what_is_missing(**arguments):
    importlib.import_module("no_such_package")


def imports_a_missing_name(**arguments):
    from tests.helpers.waiting import no_such_name  # noqa: F401, PLC0415


def compiles_nonsense(**arguments):
    compile("if", "nonsense.py", "exec")


def uses_an_unknown_name(**arguments):
    no_such_name  # noqa: B018, F821


async def calls_the_synchronous_orm(**arguments):
    Effect.objects.create(receiver="async", event_id="1")


FINAL = {
    opens_a_durable_block: "remove durable=True",
    is_a_durable_block: "remove durable=True",
    opens_a_durable_block_in_a_thread: "remove durable=True",
    misses_an_argument: "**kwargs",
    wants_another_argument: "**kwargs",
    misses_an_argument_async: "**kwargs",
    imports_what_is_missing: "restart the workers",
    imports_a_missing_name: "restart the workers",
    compiles_nonsense: "restart the workers",
    uses_an_unknown_name: "restart the workers",
    calls_the_synchronous_orm: "acreate()",
}


def count(event, **arguments):
    Effect.objects.create(receiver="good", event_id=event.vendor_event_id)


@pytest.mark.parametrize(("receiver", "remedy"), FINAL.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_an_error_that_no_retry_can_fix_fails_at_the_first_attempt(receiver, remedy):
    """Two hours of retries would only hide the error. The other receivers are done."""
    deliver(big_interview(), interview_event("1"))
    with subscribed(event_received, receiver, dispatch_uid="bad"), subscribed(event_received, count):
        assert dispatch_pending() == {"failed": 1}
    result = stored().receiver_results["bad"]
    assert (result["status"], result["attempts"]) == ("failed", 1)
    assert remedy in result["error"]
    assert stored().last_error == result["error"]
    assert Effect.objects.count() == 1
    assert not connection.in_atomic_block


def raises_a_type_error(**arguments):
    return None + 1


def raises_a_runtime_error(**arguments):
    raise RuntimeError("A durable atomic block cannot be nested within another atomic block, said another library.")


def depends_on_data(event, **arguments):
    if not event.vendor_event_id:
        student = "somebody"
    return student


def wrapped(function):
    def injects(**arguments):
        return function("a student", **arguments)

    injects.__wrapped__ = function
    return injects


@wrapped
def raises_inside_a_decorator_that_adds_an_argument(student, **arguments):
    return None + 1


@pytest.mark.parametrize(
    "receiver",
    [
        raises_a_type_error,
        raises_a_runtime_error,
        depends_on_data,
        raises_inside_a_decorator_that_adds_an_argument,
    ],
)
def test_an_error_that_may_depend_on_data_is_retried(receiver):
    """For example, a TypeError that the receiver's code raises is not a wrong signature."""
    deliver(big_interview())
    with subscribed(event_received, receiver, dispatch_uid="bad"):
        assert dispatch_pending() == {"pending": 1}
    assert stored().receiver_results["bad"]["status"] == "retry"


def test_a_long_error_is_shortened_so_that_the_advice_is_kept():
    def imports(**arguments):
        raise ImportError("x" * 5_000)

    deliver(big_interview())
    with subscribed(event_received, imports):
        assert dispatch_pending() == {"failed": 1}
    assert stored().last_error.endswith("restart the workers.")


def test_a_variable_of_an_enclosing_function_that_is_not_bound_yet_is_retried():
    """It may depend on data, like an unbound local variable."""

    def receiver(event, **arguments):
        def title():
            return text

        if event.vendor_event_id == "another":
            text = "x"
        return title()

    with subscribed(event_received, receiver):
        deliver(big_interview())
        assert dispatch_pending() == {"pending": 1}


def test_a_built_in_receiver_without_a_signature_is_retried():
    """Python cannot know which arguments it accepts, so the TypeError may have another cause."""
    deliver(big_interview())
    with subscribed(event_received, max, dispatch_uid="built-in"):
        assert dispatch_pending() == {"pending": 1}
    assert stored().receiver_results["built-in"]["error"].startswith("TypeError")
