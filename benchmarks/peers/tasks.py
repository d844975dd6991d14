"""One Celery task for each event, and the receiver's work, which is the same for all."""

from celery import shared_task
from django.db import transaction
from django.utils import timezone

from benchmarks.peers.models import Effect, Event


@shared_task(acks_late=True, ignore_result=True)
def process(pk: int) -> None:
    """Process the event once, and store that it is done."""
    with transaction.atomic():
        event = Event.objects.select_for_update().get(pk=pk)
        if event.processed_at:
            return
        Effect.objects.create(event_id=event.event_id, title=event.payload["api_object"]["title"])
        event.processed_at = timezone.now()
        event.save(update_fields=["processed_at"])
