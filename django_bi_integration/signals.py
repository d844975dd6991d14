"""The signals that host projects subscribe to.

A worker calls the receivers of events with

* ``sender``: the model class ``ReceivedEvent``,
* ``event``: the stored ``ReceivedEvent``,
* ``data``: its typed data, an ``Interview`` or a ``CourseCompletion`` (None if the event type is unknown),

and ``signal``, as with every Django signal. Accept ``**kwargs``, too: arguments may be added.

``event_conflicted`` is sent with ``sender``, the model class ``ReceivedEvent``, and ``event``, after the delivery was
counted and committed. Its receivers run in the vendor's request, so keep them short. If one raises, that is logged and
changes nothing.

Receivers of the three signals of single sign-on run in the student's request, so keep them short. If one raises, that
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
#: A user deleted their interview (Big Interview, ``interview.deleted``); ``data`` has only the ids.
interview_deleted = Signal()
#: A learner completed a course (Innovative Educators, ``courseComplete``).
course_completed = Signal()
#: Any event, of a type above or unknown.
event_received = Signal()

#: Another body was delivered under the id of a stored event: a mistake of the vendor's, or a forgery.
event_conflicted = Signal()

#: A student is about to be sent to Big Interview.
sso_launched = Signal()
#: A student could not be sent there; ``error`` is the exception.
sso_failed = Signal()
#: A student returned from Big Interview, for the first time since the launch.
sso_returned = Signal()

#: The signal of each known event type.
BY_EVENT_TYPE = {
    INTERVIEW_CREATED: interview_created,
    INTERVIEW_UPDATED: interview_updated,
    INTERVIEW_DELETED: interview_deleted,
    COURSE_COMPLETE: course_completed,
}
