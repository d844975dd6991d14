"""The models of a hand-written receiver."""

import uuid

from django.db import models


class Registration(models.Model):
    """One endpoint and its key."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100)
    key = models.CharField(max_length=100)
    is_active = models.BooleanField(default=True)


class Event(models.Model):
    """One event."""

    registration = models.ForeignKey(Registration, on_delete=models.CASCADE)
    event_id = models.CharField(max_length=255)
    event_type = models.CharField(max_length=100)
    payload = models.JSONField()
    received_at = models.DateTimeField(auto_now_add=True, db_index=True)
    processed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["registration", "event_id"], name="one_row_per_event")]


class Effect(models.Model):
    """The effect of an event in the host's database: one insert."""

    event_id = models.CharField(max_length=255)
    title = models.CharField(max_length=255)
    started_at = models.DateTimeField(auto_now_add=True)
