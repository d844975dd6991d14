"""Connect the receiver that is measured."""

from typing import Any

from django.apps import AppConfig


class PeersConfig(AppConfig):
    """The receivers that are measured."""

    name = "benchmarks.peers"

    def ready(self) -> None:
        """Connect a receiver that does what the other receivers' Celery task does."""
        from benchmarks.peers.models import Effect
        from django_bi_integration.signals import interview_created

        def insert(*, event: Any, data: Any, **arguments: Any) -> None:
            Effect.objects.create(event_id=event.vendor_event_id, title=data.title)

        interview_created.connect(insert, weak=False, dispatch_uid="benchmark")
