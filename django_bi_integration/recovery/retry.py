"""Run failed receivers again: make their events due."""

from collections.abc import Callable
from functools import cache, partial

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from django_bi_integration.dispatch import outcomes
from django_bi_integration.dispatch.notify import notify_worker
from django_bi_integration.dispatch.outcomes import Outcome
from django_bi_integration.models import ReceivedEvent
from django_bi_integration.sql import BulkUpdate, fields_of
from django_bi_integration.transactions import retry_on_conflict, write_transaction

#: How many events one transaction changes.
BATCH = 200

#: Called with the events that a transaction changes; the writes of this function commit with them.
Record = Callable[[list[ReceivedEvent]], object]
Status = ReceivedEvent.Status


def retry_failed(events: QuerySet[ReceivedEvent], *, record: Record | None = None) -> int:
    """Make the failed events among ``events`` due again, only for the receivers that failed; return their number.

    Commit batch by batch, so that nothing waits long for a lock; ``record`` is called with each batch and commits with
    it. If an error ends this, the batches before it stay due.
    """
    failed = sorted(events.filter(status=Status.FAILED).order_by().values_list("pk", flat=True))
    batches = [failed[start : start + BATCH] for start in range(0, len(failed), BATCH)]
    count = sum(retry_on_conflict(partial(_retry, batch, record)) for batch in batches)
    transaction.on_commit(notify_worker, robust=True)
    return count


def _retry(pks: list[int], record: Record | None) -> int:
    with write_transaction():
        # Not the caller's queryset, which may join the registrations: locking them would keep deliveries waiting.
        rows = ReceivedEvent.objects.filter(pk__in=pks, status=Status.FAILED).defer("body", "conflicting_body")
        failed = list(rows.order_by("pk").select_for_update())
        for event in failed:
            stored = outcomes.load(event)
            for name, outcome in stored.items():
                if outcome.status == "failed":
                    stored[name] = Outcome()
            event.receiver_results = outcomes.dump(stored)
            event.status, event.next_attempt_at, event.attempts = Status.PENDING, timezone.now(), 0
        if failed:
            _update_statement().execute(failed)
            if record is not None:
                record(failed)
    return len(failed)


@cache
def _update_statement() -> BulkUpdate:
    changed = fields_of(ReceivedEvent, "receiver_results", "status", "next_attempt_at", "attempts")
    return BulkUpdate(ReceivedEvent, changed, fields_of(ReceivedEvent, "id"))
