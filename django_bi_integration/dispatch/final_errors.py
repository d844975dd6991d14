"""Errors that no retry can cure, but only a change to the code or the installation."""

import inspect
from collections.abc import Callable
from traceback import walk_tb

from django.core.exceptions import SynchronousOnlyOperation
from django.db.transaction import Atomic

Function = Callable[..., object]

#: What every receiver is called with, by keyword.
ARGUMENTS = ("signal", "sender", "event", "data")


def remedy_for(error: BaseException, function: Function) -> str:
    """Return what to do about an error of this receiver that no retry can cure; "" if a retry may succeed."""
    return next((remedy for fits, remedy in REMEDIES if fits(error, function)), "")


def accepts_arguments(function: Function) -> bool:
    """Return False if a receiver's signature does not accept the arguments that receivers are called with.

    A decorator's signature counts, not that of the function inside it: a decorator may add or drop arguments.
    """
    try:
        inspect.signature(function, follow_wrapped=False).bind(**dict.fromkeys(ARGUMENTS))
    except TypeError:
        return False
    except ValueError:  # a built-in function that does not have a signature
        return True
    return True


def _is(*kinds: type[BaseException]) -> Callable[[BaseException, Function], bool]:
    return lambda error, function: isinstance(error, kinds)


def _is_durable_block(error: BaseException, function: Function) -> bool:
    """Return True if ``transaction.atomic(durable=True)`` raised it; Django has no exception class for that."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    return isinstance(error, RuntimeError) and bool(frames) and frames[-1].f_code is Atomic.__enter__.__code__


def _is_wrong_signature(error: BaseException, function: Function) -> bool:
    return isinstance(error, TypeError) and not accepts_arguments(function)


def _is_unknown_name(error: BaseException, function: Function) -> bool:
    """A variable that is not bound yet, local or of an enclosing function, may depend on data, so that is not final."""
    if not isinstance(error, NameError) or isinstance(error, UnboundLocalError):
        return False
    return "free variable" not in str(error)


#: Which errors are final, and what to do. An error that data, another service or a migration may cure is not listed.
REMEDIES: tuple[tuple[Callable[[BaseException, Function], bool], str], ...] = (
    (
        _is_durable_block,
        "A receiver runs in a transaction, so a durable block cannot work: remove durable=True, or move what has to"
        " happen after the commit to transaction.on_commit().",
    ),
    (
        _is_wrong_signature,
        f"A receiver is called with {', '.join(ARGUMENTS[:-1])} and {ARGUMENTS[-1]} as keyword arguments: accept those"
        " that you use, and **kwargs.",
    ),
    (
        _is(ImportError),
        "Install the missing module in the worker's environment, or correct the import, and restart the workers.",
    ),
    (_is(SyntaxError), "Correct the code and restart the workers."),
    (_is_unknown_name, "Correct the name or add the missing import, and restart the workers."),
    (
        _is(SynchronousOnlyOperation),
        "An async receiver cannot call the ORM's synchronous methods: use the async ones, such as acreate(), wrap the"
        " call in sync_to_async(), or make the receiver a plain function.",
    ),
)
