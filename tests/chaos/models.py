"""What the receivers count."""

from django.db import models


class Count(models.Model):
    """A row that each event counts up by one."""

    name = models.CharField(max_length=20, unique=True)
    value = models.IntegerField(default=0)

    def __str__(self):
        return f"{self.name}: {self.value}"


class Seen(models.Model):
    """One call of the receiver: which event it was, and which one before it wrote nothing."""

    event_id = models.CharField(max_length=100)

    def __str__(self):
        return self.event_id
