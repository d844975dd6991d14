"""The feed of the portal: each call of a receiver writes one ``Activity``."""

from dataclasses import dataclass

from django.utils.translation import gettext as _

from django_bi_integration.models import ReceivedEvent
from example_project.portal.models import Activity, Student


@dataclass(frozen=True)
class ReceiverLog:
    """Writes the Activity of one call of one receiver."""

    receiver: str
    event: ReceivedEvent

    def write(self, kind: Activity.Kind, text: str, student: Student | None = None) -> None:
        """Write what happened, as a clause that follows the student's name."""
        Activity.objects.create(receiver=self.receiver, event=self.event, student=student, kind=kind, text=text[:500])

    def late(self, text: str, student: Student) -> None:
        """Write that the event is stale and changed nothing."""
        self.write(
            Activity.Kind.LATE, _("%(text)s (this event came late, so newer data is kept)") % {"text": text}, student
        )

    def incomplete(self) -> None:
        """Write that the event lacks an id. Students who signed up at the vendor themselves have none, for example."""
        self.write(
            Activity.Kind.OTHER,
            _("%(type)s does not say who or what it is about, so it changes nothing") % {"type": self.event.event_type},
        )
