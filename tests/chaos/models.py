"""Tables for the effects of the receivers."""

from django.db import models


class Count(models.Model):
    """A row that each event increments by one."""

    name = models.CharField(max_length=20, unique=True)
    value = models.IntegerField(default=0)

    def __str__(self):
        return f"{self.name}: {self.value}"


class Seen(models.Model):
    """One call of the receiver ``see``."""

    event_id = models.CharField(max_length=100)

    def __str__(self):
        return self.event_id
