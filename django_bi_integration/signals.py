"""The signals that host projects subscribe to.

Every receiver is called with

* ``sender``: the model class ``WebhookRegistration``,
* ``event``: the stored ``ReceivedEvent``,
* ``data``: the typed reading, an ``Interview`` or a ``CourseCompletion`` (``None`` where it is unknown),

and ``signal``, as with every Django signal. Take ``**kwargs`` too: arguments may be added.

``event_conflicted`` is sent with ``sender``, the model class ``ReceivedEvent``, and ``event``, once that delivery is
counted and committed. Its receivers run in the vendor's request, so keep them short; one that raises is logged and
changes nothing.

Receivers of the three signals of single sign-on run in the student's request, so keep them short; one that raises
is logged and changes nothing. They are called with ``sender``, the model class ``SSOSession``, and ``session``.
"""

from django.dispatch import Signal

from django_bi_integration.events import (
    COURSE_COMPLETE,
    INTERVIEW_CREATED,
    INTERVIEW_DELETED,
    INTERVIEW_UPDATED,
)

__all__ = [
    "course_completed",
    "event_conflicted",
    "event_received",
    "interview_created",
    "interview_deleted",
    "interview_updated",
    "sso_failed",
    "sso_launched",
    "sso_returned",
]

#: A user created an interview (Big Interview, ``interview.created``).
interview_created = Signal()
#: An interview was updated (Big Interview, ``interview.updated``); look at ``data.completed``.
interview_updated = Signal()
#: A user deleted their interview (Big Interview, ``interview.deleted``); ``data`` has the ids alone.
interview_deleted = Signal()
#: A learner completed a course (Innovative Educators, ``courseComplete``).
course_completed = Signal()
#: Any event at all, those above and unknown ones alike.
event_received = Signal()

#: Another body was delivered under the id of a stored event: a mistake of the vendor's, or a forgery.
event_conflicted = Signal()

#: A student is about to be sent to Big Interview.
sso_launched = Signal()
#: A student could not be sent there; ``error`` is the exception that says why.
sso_failed = Signal()
#: A student came back from Big Interview, for the first time since the launch.
sso_returned = Signal()

#: Which signal an event type has of its own.
BY_EVENT_TYPE = {
    INTERVIEW_CREATED: interview_created,
    INTERVIEW_UPDATED: interview_updated,
    INTERVIEW_DELETED: interview_deleted,
    COURSE_COMPLETE: course_completed,
}
