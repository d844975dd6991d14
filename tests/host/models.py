"""Tables for the effects of receivers."""

from django.db import models


class Effect(models.Model):
    """One call of one receiver."""

    receiver = models.CharField(max_length=100)
    event_id = models.CharField(max_length=255)
    created = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.receiver} got {self.event_id}"


class Note(models.Model):
    """A row with a foreign key to an event, so that the database locks the event's row when it is inserted."""

    event = models.ForeignKey("django_bi_integration.ReceivedEvent", on_delete=models.CASCADE)

    def __str__(self) -> str:
        return f"about {self.event}"


class Counter(models.Model):
    """A row that several receivers increment."""

    name = models.CharField(max_length=100, unique=True)
    value = models.IntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name}: {self.value}"


class Campus(models.Model):
    """A row that is deleted together with its registration."""

    name = models.CharField(max_length=100)
    registration = models.ForeignKey("django_bi_integration.WebhookRegistration", on_delete=models.CASCADE)

    def __str__(self) -> str:
        return self.name
