"""Finding and repairing what was done with a leaked key: conflicts, times in the future, deletions, object states."""

import html
import json
import re
import threading
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from random import Random

import pytest
import time_machine
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.db.models.signals import post_save
from django.utils import timezone

from django_bi_integration import signals
from django_bi_integration.dispatch.queue import claim
from django_bi_integration.dispatch.worker import dispatch, dispatch_pending
from django_bi_integration.models import BigInterviewAccount, ObjectState, ReceivedEvent
from django_bi_integration.signals import event_received, interview_updated
from tests.helpers.deliveries import Recorder, big_interview, deliver, interview_event, stored, subscribed
from tests.helpers.partner_api import API_KEY, answer, partner_api
from tests.helpers.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

LIST = "/admin/django_bi_integration/receivedevent/"
GENUINE = interview_event("7", at="2026-05-02T10:00:00.000Z").replace(b"Top 10 Questions", b"Genuine")
FORGED = interview_event("7", at="2026-05-01T10:00:00.000Z", interview="666").replace(b"Top 10 Questions", b"Forged")


def texts(response):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def send(to, *bodies):
    """Deliver the bodies to a registration, and assert that each response is a 200."""
    assert [deliver(to, body).status_code for body in bodies] == [200] * len(bodies)


def dispatched(recorder):
    """Return the title and ``is_stale`` of each event that the receiver got."""
    return [(call["data"].title, call["event"].is_stale) for call in recorder.calls]


def rebuild(*arguments):
    """Run bi_rebuild_states, and return its counts."""
    out = StringIO()
    call_command("bi_rebuild_states", "--json", *arguments, stdout=out)
    return json.loads(out.getvalue())


def facts(state):
    """Return the fields of a state that are derived from events."""
    return (state.subject_id, state.newest_at, state.newest_event_id, state.data, state.is_deleted)


def all_facts():
    return {state.key: facts(state) for state in ObjectState.objects.all()}


def swap(client, *events):
    """Select events in the admin, and run the action that dispatches their conflicting bodies."""
    action = {"action": "dispatch_conflicting", "_selected_action": [event.pk for event in events]}
    return client.post(LIST, action, follow=True)


@pytest.fixture
def preposted():
    """Dispatch a forged event with the id of a genuine one that is delivered later. Return the registration."""
    to = big_interview()
    send(to, FORGED)
    dispatch_pending()
    send(to, GENUINE)
    dispatch_pending()
    return to


@pytest.fixture
def notified(monkeypatch):
    """Return a list that gets an entry for each notification of workers."""
    asked = []
    for module in ("conflicting_bodies", "object_states"):
        monkeypatch.setattr(f"django_bi_integration.recovery.{module}.notify_worker", lambda: asked.append(True))
    return asked


class TestConflicts:
    def test_the_list_can_be_filtered_by_conflicts(self, admin_client, preposted):
        send(preposted, interview_event("8"))
        page = admin_client.get(LIST, {"conflicts": "yes"})
        assert [event.vendor_event_id for event in page.context["cl"].result_list] == ["7"]

    def test_the_doctor_reports_conflicts(self, preposted):
        out = StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("django_bi_integration.operations.doctor.workers", lambda: ())
            call_command("bi_doctor", "--json", stdout=out)
        found = [item for item in json.loads(out.getvalue())["findings"] if item["subject"] == "conflicts"]
        assert [(item["level"], item["message"].split(" in the")[0]) for item in found] == [
            ("warn", "1 events had another body delivered under their id")
        ]
        assert "with conflicts" in found[0]["remedy"]

    def test_a_signal_reports_each_conflict_after_its_commit(self, preposted):
        reported = []

        def receiver(sender, event, **arguments):
            reported.append((sender, event.vendor_event_id, event.conflicts, connection.in_atomic_block))

        with subscribed(signals.event_conflicted, receiver):
            send(preposted, GENUINE, FORGED)
        assert reported == [(ReceivedEvent, "7", 2, False)], "a duplicate was reported as a conflict"

    def test_a_conflict_is_stored_even_if_a_receiver_of_its_signal_raises(self, preposted):
        def receiver(**arguments):
            raise RuntimeError("no mail server")

        with subscribed(signals.event_conflicted, receiver):
            send(preposted, GENUINE)
        assert stored().conflicts == 2

    def test_the_conflicting_body_is_dispatched_instead(self, admin_client, preposted):
        recorder = Recorder()
        with subscribed(interview_updated, recorder):
            page = swap(admin_client, stored())
            assert "The other body of 1 event will be dispatched." in texts(page)
            dispatch_pending()
        assert dispatched(recorder) == [("Genuine", False)]
        event = stored()
        assert (event.object_id, event.occurred_at) == ("95607", datetime(2026, 5, 2, 10, tzinfo=UTC))
        assert (bytes(event.body), bytes(event.conflicting_body), event.conflicts) == (GENUINE, FORGED, 0)
        assert [state.object_id for state in ObjectState.objects.all()] == ["95607"], (
            "the forged event's object still has a state"
        )
        entry = LogEntry.objects.get()
        assert (entry.object_id, entry.get_change_message()) == (
            str(event.pk),
            "Replaced the body by the conflicting one, and scheduled it to be dispatched.",
        )

    def test_running_the_action_again_does_not_restore_the_first_body(self, admin_client, preposted):
        """Only a further conflicting delivery allows the action again."""
        swap(admin_client, stored())
        dispatch_pending()
        page = swap(admin_client, stored())
        assert "None of the selected events has a conflicting body to dispatch." in texts(page)
        assert (bytes(stored().body), stored().status, LogEntry.objects.count()) == (GENUINE, "dispatched", 1)
        further = GENUINE.replace(b"Genuine", b"Further")
        send(preposted, further)
        swap(admin_client, stored())
        assert (bytes(stored().body), bytes(stored().conflicting_body)) == (further, GENUINE)

    def test_the_first_body_can_be_dispatched_again_as_the_documentation_of_the_admin_says(
        self, admin_client, preposted
    ):
        swap(admin_client, stored())
        ReceivedEvent.objects.filter(pk=stored().pk).update(conflicts=1)
        swap(admin_client, stored())
        assert bytes(stored().body) == FORGED

    def test_each_swap_commits_together_with_its_history_entry(self, admin_client, preposted, notified):
        """If a later swap fails, those before it are complete, and a worker is notified of them."""
        send(preposted, *(body.replace(b'"7"', b'"8"') for body in (FORGED, GENUINE)))
        notified.clear()

        def fails_for_the_second(instance, **arguments):
            if LogEntry.objects.count() == 2:
                raise RuntimeError("killed")

        post_save.connect(fails_for_the_second, sender=LogEntry)
        try:
            with pytest.raises(RuntimeError, match="killed"):
                swap(admin_client, *ReceivedEvent.objects.all())
        finally:
            post_save.disconnect(fails_for_the_second, sender=LogEntry)
        first, second = ReceivedEvent.objects.order_by("pk")
        assert (bytes(first.body), bytes(second.body)) == (GENUINE, FORGED.replace(b'"7"', b'"8"'))
        assert [entry.object_id for entry in LogEntry.objects.all()] == [str(first.pk)]
        assert notified

    def test_a_body_that_cannot_be_parsed_is_skipped(self, admin_client, preposted):
        send(preposted, *(body.replace(b'"7"', b'"8"') for body in (FORGED, GENUINE)))
        first, second = ReceivedEvent.objects.order_by("pk")
        too_deep = b'{"a":' * 5000 + b"1" + b"}" * 5000
        ReceivedEvent.objects.filter(pk=first.pk).update(conflicting_body=too_deep)
        page = texts(swap(admin_client, first, second))
        assert "The other body of 1 event will be dispatched." in page
        assert "1 event was skipped because its conflicting body cannot be parsed." in page
        first, second = ReceivedEvent.objects.order_by("pk")
        assert (bytes(first.body), first.conflicts, first.status) == (FORGED, 1, "dispatched")
        assert b"Genuine" in bytes(second.body)

    def test_a_forged_deletion_is_undone_by_the_genuine_update(self, admin_client):
        to = big_interview()
        send(to, interview_event("7", "interview.deleted"))
        dispatch_pending()
        send(to, GENUINE)
        recorder = Recorder()
        with subscribed(interview_updated, recorder):
            swap(admin_client, stored())
            dispatch_pending()
        assert dispatched(recorder) == [("Genuine", False)]
        state = ObjectState.objects.get()
        assert (state.is_deleted, state.data["title"]) == (False, "Genuine")

    def test_a_worker_loses_its_claim_of_an_event_whose_body_is_swapped(self, admin_client):
        to = big_interview()
        send(to, FORGED, GENUINE)
        events = claim()
        swap(admin_client, stored())
        recorder = Recorder()
        with subscribed(interview_updated, recorder):
            dispatch(*events)
            assert stored().status == "pending"
            dispatch_pending()
        assert dispatched(recorder)[-1] == ("Genuine", False)
        assert stored().status == "dispatched"

    def test_the_action_does_not_change_an_event_without_a_conflict(self, admin_client):
        send(big_interview(), GENUINE)
        dispatch_pending()
        assert "None of the selected events has a conflicting body to dispatch." in texts(swap(admin_client, stored()))
        assert stored().status == "dispatched"

    def test_the_action_requires_the_permission_to_retry(self, client, preposted):
        staff = User.objects.create_user("staff", is_staff=True)
        staff.user_permissions.add(Permission.objects.get(codename="view_receivedevent"))
        client.force_login(staff)
        swap(client, stored())
        assert bytes(stored().body) == FORGED

    @pytest.mark.parametrize("title", ["Emoji \N{GRINNING FACE}", "NUL \\u0000", "surrogate \\ud800"])
    def test_a_conflicting_body_with_unusual_characters_can_be_dispatched(self, admin_client, title):
        to = big_interview()
        body = interview_event("7").replace(b"interview.updated", title.encode()).replace(b"abc123", title.encode())
        send(to, FORGED, body)
        swap(admin_client, stored())
        dispatch_pending()
        assert (bytes(stored().body), stored().status) == (body, "dispatched")


class TestTimesFromTheFuture:
    def test_a_time_in_the_future_counts_as_at_most_a_day_after_the_receipt(self):
        to = big_interview()
        send(to, interview_event("1", at="9998-01-01T00:00:00.000Z"))
        dispatch_pending()
        event, state = stored(), ObjectState.objects.get()
        assert event.occurred_at == state.newest_at == event.received_at + timedelta(days=1)
        assert state.data["updated_at"].startswith("9998"), "the data lost the vendor's value"

    def test_an_update_two_days_after_an_event_from_the_future_is_not_stale(self):
        to = big_interview()
        send(to, interview_event("1", at="9998-01-01T00:00:00.000Z"))
        dispatch_pending()
        later = timezone.now() + timedelta(days=2)
        send(to, interview_event("2", at=later.isoformat()))
        dispatch_pending()
        assert not ReceivedEvent.objects.get(vendor_event_id="2").is_stale

    def test_a_time_a_few_hours_in_the_future_is_kept(self):
        """The vendor's clock, or its time zone, may be wrong."""
        moment = timezone.now().replace(microsecond=0) + timedelta(hours=14)
        send(big_interview(), interview_event("1", at=moment.isoformat()))
        assert stored().occurred_at == moment


class TestRebuilding:
    def poison(self, to, *forged):
        """Dispatch a genuine update, then forged events, then genuine updates that are stale because of them."""
        send(to, interview_event("1", at="2026-05-01T10:00:00Z").replace(b"Top 10 Questions", b"First"))
        dispatch_pending()
        send(to, *forged)
        dispatch_pending()
        for number in ("2", "3"):
            send(to, interview_event(number, at=f"2026-05-0{number}T10:00:00Z").replace(b"Top 10", number.encode()))
            dispatch_pending()

    forgeries = pytest.mark.parametrize(
        "forged",
        [interview_event("f", at="9998-01-01T00:00:00Z"), interview_event("f", "interview.deleted")],
        ids=["a time from the future", "a deletion"],
    )

    @forgeries
    def test_rebuilding_repairs_what_a_forged_event_did_to_later_ones(self, forged):
        to = big_interview()
        self.poison(to, forged)
        state = ObjectState.objects.get()
        assert list(ReceivedEvent.objects.order_by("pk").values_list("is_stale", flat=True)) == [False] * 2 + [True] * 2
        ReceivedEvent.objects.filter(vendor_event_id="f").delete()
        recorder = Recorder()
        with subscribed(interview_updated, recorder):
            assert rebuild("--dry-run", "--replay")["changed"] == 1
            assert facts(ObjectState.objects.get()) == (
                state.subject_id,
                state.newest_at,
                None,
                state.data,
                state.is_deleted,
            )
            assert rebuild("--replay") == {
                "objects": 1,
                "changed": 1,
                "removed": 0,
                "no_longer_stale": 2,
                "without_events": 0,
                "replayed": True,
                "dry_run": False,
            }
            dispatch_pending()
        assert dispatched(recorder) == [("2 Questions", False), ("3 Questions", False)]
        state = ObjectState.objects.get()
        assert (state.is_deleted, state.data["title"], state.newest_at) == (
            False,
            "3 Questions",
            datetime(2026, 5, 3, 10, tzinfo=UTC),
        )

    @forgeries
    def test_rebuilding_without_a_replay_only_repairs_the_state(self, forged):
        """The stale events can still be replayed later."""
        to = big_interview()
        self.poison(to, forged)
        ReceivedEvent.objects.filter(vendor_event_id="f").delete()
        assert rebuild()["no_longer_stale"] == 2
        assert ObjectState.objects.get().data["title"] == "3 Questions"
        assert not ReceivedEvent.objects.filter(status="pending").exists()
        assert rebuild("--replay")["no_longer_stale"] == 2, "the stale events cannot be replayed any more"

    @pytest.mark.parametrize("seed", range(5))
    def test_rebuilding_does_not_change_correct_states(self, seed):
        """For random events in a random order, it computes the same states as the workers stored."""
        random, to = Random(seed), big_interview()
        for number in range(30):
            name = random.choice(["created", "updated", "updated", "updated", "deleted"])
            at = random.choice(["", f"2026-05-{random.randint(1, 9):02}T10:00:00Z"])
            send(to, interview_event(str(number), f"interview.{name}", str(random.randint(1, 8)), at))
            if random.random() < 0.5:
                dispatch_pending()
        before = all_facts()
        counts = rebuild()
        assert (counts["changed"], counts["no_longer_stale"]) == (0, 0)
        assert all_facts() == before

    def test_rebuilding_restores_states_that_were_lost(self):
        to = big_interview()
        send(to, *(interview_event(str(number), interview=str(number)) for number in range(120)))
        dispatch_pending()
        before = all_facts()
        ObjectState.objects.filter(object_id__in=[str(number) for number in range(60)]).delete()
        ObjectState.objects.update(data=None, newest_at=None)
        assert rebuild()["objects"] == 120
        assert all_facts() == before

    def test_the_options_limit_rebuilding_to_one_registration_or_one_object(self):
        one, other = big_interview(), big_interview()
        for to in (one, other):
            send(to, interview_event("1"), interview_event("2", interview="2"))
        dispatch_pending()
        ObjectState.objects.update(data=None)
        assert rebuild("--registration", str(one.pk), "--object", "2")["objects"] == 1
        assert rebuild("--registration", str(one.pk))["changed"] == 1
        assert rebuild("--object", "2")["changed"] == 1
        assert ObjectState.objects.get(data__isnull=True).registration == other

    def test_a_state_without_events_stays_unless_it_is_named(self):
        """Old events are deleted after a while, and their objects' states must remain."""
        send(big_interview(), interview_event("1"))
        dispatch_pending()
        ReceivedEvent.objects.all().delete()
        assert (rebuild()["removed"], rebuild()["without_events"]) == (0, 1)
        assert rebuild("--object", "95607")["removed"] == 1
        assert not ObjectState.objects.exists()

    def test_rebuilding_ignores_events_that_were_not_dispatched_yet(self):
        to = big_interview()
        send(to, interview_event("1"))
        assert rebuild()["changed"] == 0
        recorder = Recorder()
        with subscribed(event_received, recorder):
            dispatch_pending()
        assert [call["event"].is_stale for call in recorder.calls] == [False]

    def test_a_worker_loses_its_claim_of_a_stale_event_that_is_replayed(self):
        to = big_interview()
        self.poison(to, interview_event("f", at="9998-01-01T00:00:00Z"))
        ReceivedEvent.objects.filter(vendor_event_id="f").delete()
        ReceivedEvent.objects.filter(vendor_event_id="3").update(status="pending", next_attempt_at=timezone.now())
        events = claim()
        rebuild("--replay")
        dispatch(*events)
        dispatch_pending()
        assert not ReceivedEvent.objects.exclude(status="dispatched").exists()
        assert ObjectState.objects.get().data["title"] == "3 Questions"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--registration", "5e82e7e5-24a7-43e7-8ac5-480cb046c7bc"], "No registration has"),
            (["--object", "1"], "No object has the id '1'"),
        ],
    )
    def test_an_unknown_registration_or_object_is_an_error(self, arguments, message):
        with pytest.raises(CommandError, match=message):
            rebuild(*arguments)

    def test_the_command_reports_what_it_did(self):
        to = big_interview()
        self.poison(to, interview_event("f", "interview.deleted"))
        ReceivedEvent.objects.filter(vendor_event_id="f").delete()
        out = StringIO()
        call_command("bi_rebuild_states", "--dry-run", stdout=out)
        call_command("bi_rebuild_states", "--replay", stdout=out)
        ReceivedEvent.objects.all().delete()
        call_command("bi_rebuild_states", stdout=out)
        assert out.getvalue().splitlines() == [
            "Dry run: 1 objects, 1 changed, 0 removed; 2 events are no longer stale."
            " Run it with --replay to dispatch them again.",
            "1 objects, 1 changed, 0 removed; 2 events are no longer stale, and will be dispatched again.",
            "0 objects, 0 changed, 0 removed; 0 events are no longer stale.",
            "1 states have no event left and stay unchanged.",
        ]


def runbook():
    """Return all code of the section about a leaked key in the documentation."""
    page = (Path(__file__).parent.parent.parent / "docs/security.md").read_text()
    (section,) = re.findall(r"^## When a key has leaked\n(.*?)^## ", page, re.DOTALL | re.MULTILINE)
    return "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))


def interview(number, title, at):
    """Return an interview as the Partner API lists it."""
    return {"id": number, "title": title, "created_at": at, "updated_at": at}


@time_machine.travel("2026-05-03T12:00:00Z", tick=True)
def test_the_documented_steps_after_a_leak_remove_forged_events_and_repair_the_states(settings):
    """Run the documentation's code after every kind of forgery."""
    to = big_interview()
    to.name = "Career centre"
    to.save()
    send(
        to,
        interview_event("1", interview="1", at="2026-04-30T10:00:00Z"),
        # Forged: with the id of the next event, with a time in the future, a deletion, and for an unknown interview.
        interview_event("2", interview="2", at="2026-05-01T10:00:00Z").replace(b"Top 10 Questions", b"Forged"),
        interview_event("f1", interview="1", at="9998-01-01T00:00:00Z"),
        interview_event("f2", "interview.deleted", interview="3"),
        interview_event("f3", interview="666"),
    )
    # Genuine, with types and values that cannot be compared with the Partner API's list.
    incomparable = {
        "n1": interview_event("n1", "interview.archived", interview="5"),
        "n2": interview_event("n2", interview="6").replace(b"abc123", b""),
        "n3": interview_event("n3", interview="1", at="").replace(b"2015-05-18T16:37:13.000Z", b""),
        "n4": interview_event("n4", interview="7", at="2026-05-02T10:00:00Z"),
    }
    send(to, *incomparable.values())
    # Forged with the id of an event that came before.
    send(to, incomparable["n4"].replace(b"Top 10 Questions", b"Forged"))
    dispatch_pending()
    genuine = {
        "2": interview_event("2", "interview.created", interview="4", at="2026-05-02T10:00:00Z"),
        "3": interview_event("3", interview="1", at="2026-05-02T11:00:00Z"),
        "4": interview_event("4", interview="3", at="2026-05-02T12:00:00Z"),
    }
    send(to, *genuine.values())
    dispatch_pending()
    listed = [interview(1, "x", "2026-05-02T11:00:00Z"), interview(3, "x", "2026-05-02T12:00:00Z")]
    listed += [interview(4, "x", "2026-05-02T10:00:00Z"), interview(7, "x", "")]
    recorder = Recorder()
    with partner_api(answer(200, {"interviews": listed})) as api, subscribed(event_received, recorder):
        settings.BI_INTEGRATION = {"BASE_URL": api.url}
        account = BigInterviewAccount(subdomain="xyz")
        account.set_api_key(API_KEY)
        account.save()
        names = {"new_key": "0" * 32}
        exec(compile(runbook(), "docs/security.md", "exec"), names)
        dispatch_pending()
    assert deliver(to).status_code == 401
    assert {event.vendor_event_id: bytes(event.body) for event in ReceivedEvent.objects.all()} == {
        "1": interview_event("1", interview="1", at="2026-04-30T10:00:00Z"),
        **genuine,
        **incomparable,
    }
    assert sorted((call["event"].vendor_event_id, call["event"].is_stale) for call in recorder.calls) == [
        ("2", False),
        ("3", False),
        ("4", False),
    ]
    states = ObjectState.objects.order_by("object_id").values_list("object_id", "newest_event__vendor_event_id")
    assert list(states) == [("1", "3"), ("3", "4"), ("4", "2"), ("6", "n2"), ("7", "n4")]
    assert not ObjectState.objects.filter(is_deleted=True).exists()
    assert not ReceivedEvent.objects.conflicting().exists()


class TestWhileWorkersRun:
    @pytest.mark.parametrize("name", ["interview.updated", "interview.archived"], ids=["an object", "no object"])
    def test_the_action_skips_an_event_that_a_worker_is_processing(self, admin_client, preposted, name):
        """It does not wait for the worker, which may hang, swaps the other events, and can be used again later."""
        if connection.vendor == "sqlite":
            pytest.skip("SQLite has one writer at a time anyway")
        # About another object, because a worker locks the state of an object for all of its events.
        held = interview_event("8", name, interview="8")
        other = held.replace(b"Top 10 Questions", b"Other")
        send(preposted, held, other)
        is_at_it, go_on = threading.Event(), threading.Event()

        def receiver(**arguments):
            is_at_it.set()
            assert go_on.wait(60)

        with subscribed(event_received, receiver):
            worker = in_thread(dispatch_pending)
            assert is_at_it.wait(60)
            page = texts(swap(admin_client, *ReceivedEvent.objects.all()))
            assert worker.is_alive()
            go_on.set()
            worker.join(60)
        assert "The other body of 1 event will be dispatched." in page
        assert "1 event was skipped because a worker is processing it. Try again in a minute." in page
        assert bytes(ReceivedEvent.objects.get(vendor_event_id="8").body) == held
        swap(admin_client, *ReceivedEvent.objects.all())
        assert bytes(ReceivedEvent.objects.get(vendor_event_id="8").body) == other

    def test_rebuilding_waits_for_an_object_that_a_worker_is_processing_and_does_it_last(self):
        """The other objects are rebuilt meanwhile, and the event that the worker dispatches counts."""
        if connection.vendor == "sqlite":
            pytest.skip("SQLite has one writer at a time anyway")
        to = big_interview()
        send(to, *(interview_event(str(number), interview=str(number)) for number in range(5)))
        dispatch_pending()
        ObjectState.objects.update(data=None)
        send(to, interview_event("new", interview="3", at="2026-05-01T10:00:00Z").replace(b"Top 10 Questions", b"New"))
        is_at_it, go_on = threading.Event(), threading.Event()

        def receiver(**arguments):
            is_at_it.set()
            assert go_on.wait(60)

        counts = {}
        with subscribed(event_received, receiver):
            worker = in_thread(dispatch_pending)
            assert is_at_it.wait(60)
            rebuilding = in_thread(lambda: counts.update(rebuild()))
            wait_until(lambda: ObjectState.objects.filter(data__isnull=False).count() == 4)
            assert rebuilding.is_alive()
            go_on.set()
            worker.join(60)
            rebuilding.join(60)
        assert counts["objects"] == 5
        assert ObjectState.objects.get(object_id="3").data["title"] == "New"

    def test_rebuilding_continuously_does_not_affect_dispatch(self):
        """The receiver runs once for each event, and the states are the same as without rebuilding."""
        to = big_interview()
        calls = []

        def receiver(event, **arguments):
            calls.append(event.vendor_event_id)

        is_over = threading.Event()

        def keep_rebuilding():
            while not is_over.is_set():
                rebuild("--replay")

        with subscribed(event_received, receiver):
            rebuilding = in_thread(keep_rebuilding)
            for number in range(60):
                send(to, interview_event(str(number), interview=str(number % 4), at=f"2026-05-01T10:{number:02}:00Z"))
                if number % 10 == 9:
                    dispatch_pending()
            wait_until(lambda: dispatch_pending() is not None and not ReceivedEvent.objects.filter(status="pending"))
            is_over.set()
            rebuilding.join(60)
        assert sorted(map(int, set(calls))) == list(range(60))
        assert len(calls) == 60
        assert sorted(state.newest_at.minute for state in ObjectState.objects.all()) == [56, 57, 58, 59]


def in_thread(call):
    """Run the call in a thread, and return the thread."""

    def run():
        try:
            call()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread
