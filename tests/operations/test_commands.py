"""Management commands: their output, exit codes and error messages."""

import io
import json
from dataclasses import replace

import pytest
from django.core.management import CommandError, call_command, get_commands

from django_bi_integration.exceptions import GiveUp
from django_bi_integration.models import ReceivedEvent, WebhookRegistration
from django_bi_integration.signals import event_received
from django_bi_integration.vendors import VENDORS
from tests.helpers.deliveries import KEY, big_interview, deliver, innovative_educators, stored, subscribed

pytestmark = pytest.mark.django_db


def run(*arguments, **options):
    """Run a command, and return what it printed to stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    call_command(*arguments, stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def test_bi_register_prints_the_id_and_the_path_as_json():
    out, err = run("bi_register", "--vendor", "big_interview", "--name", "Career centre", "--key", KEY)
    made = WebhookRegistration.objects.get()
    assert json.loads(out) == {"id": str(made.pk), "path": f"/bi/webhooks/{made.pk}/"}
    assert err == ""
    assert deliver(made).status_code == 200


def test_bi_register_reads_the_key_from_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{KEY}\n"))
    run("bi_register", "--vendor", "big_interview", "--name", "x", "--key", "-")
    assert WebhookRegistration.objects.get().check_key(KEY)


def test_bi_register_allows_the_published_addresses_by_default():
    run("bi_register", "--vendor", "innovative_educators", "--name", "x")
    assert WebhookRegistration.objects.get().allowed_networks == ["54.243.7.71", "3.83.213.76"]


def test_bi_register_accepts_several_addresses_for_each_allow_option():
    arguments = ["--allow", "192.0.2.1", "198.51.100.0/24", "--allow", "2001:db8::/32"]
    run("bi_register", "--vendor", "innovative_educators", "--name", "x", *arguments)
    assert WebhookRegistration.objects.get().allowed_networks == ["192.0.2.1", "198.51.100.0/24", "2001:db8::/32"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--allow", "300.1.1.1"], "neither an IP address nor a CIDR network"),
        (["--allow", "10.0.0.1/8"], "has host bits set"),
        (["--allow", "0.0.0.0/0"], "a large part of the internet"),
        (["--allow", "10.0.0.0/24"], "overlaps the trusted proxy “10.0.0.5”"),
        (["--key", " "], "The key is blank. Copy it from Big Interview's API Settings."),
        (["--key", f"Bearer {KEY}"], "“Bearer” is not part of it"),
        (["--key", "short"], "fewer than 16 characters"),
        (["--name", ""], "This field cannot be blank."),
        (["--vendor", "nobody"], "invalid choice"),
    ],
)
def test_bi_register_reports_an_error_and_stores_nothing(settings, arguments, message):
    settings.BI_INTEGRATION = {"TRUSTED_PROXIES": ["10.0.0.5"]}
    with pytest.raises(CommandError, match=message):
        run("bi_register", "--vendor", "big_interview", "--name", "x", *arguments)
    assert not WebhookRegistration.objects.exists()


def test_bi_register_warns_of_a_registration_that_rejects_everything():
    """The registration has to come first, because Big Interview shows its key only after it has the URL."""
    _, err = run("bi_register", "--vendor", "big_interview", "--name", "x")
    assert "rejects everything until it has a key" in err
    assert deliver(WebhookRegistration.objects.get()).status_code == 403


def test_bi_register_rejects_a_key_for_a_vendor_that_sends_none():
    with pytest.raises(CommandError, match="Innovative Educators sends no key: leave --key out"):
        run("bi_register", "--vendor", "innovative_educators", "--name", "x", "--key", KEY)
    assert not WebhookRegistration.objects.exists()


def test_bi_register_asks_only_for_an_allowlist_if_the_vendor_sends_no_key(monkeypatch):
    monkeypatch.setitem(VENDORS, "innovative_educators", replace(VENDORS["innovative_educators"], default_networks=()))
    _, err = run("bi_register", "--vendor", "innovative_educators", "--name", "x")
    assert "rejects everything until it has an allowlist" in err


def test_bi_register_warns_of_a_key_that_looks_incomplete():
    _, err = run("bi_register", "--vendor", "big_interview", "--name", "x", "--key", KEY[:-1])
    assert "32 characters" in err
    assert KEY[:-1] not in err


def test_bi_dispatch_dispatches_pending_events():
    deliver(big_interview())
    assert run("bi_dispatch")[0] == "1 dispatched, 0 to be tried again, 0 failed; 0 waiting.\n"
    assert stored().status == "dispatched"


def test_bi_dispatch_prints_the_same_numbers_as_json():
    deliver(big_interview())
    assert json.loads(run("bi_dispatch", "--json")[0]) == {"dispatched": 1, "to_retry": 0, "failed": 0, "waiting": 0}


@pytest.mark.parametrize("seconds", ["nan", "-1", "soon"])
def test_bi_dispatch_rejects_an_invalid_number_of_seconds(seconds):
    deliver(big_interview())
    with pytest.raises(CommandError, match=f"'{seconds}' is not a number of seconds. Give 0 or more"):
        run("bi_dispatch", f"--seconds={seconds}")


def test_bi_dispatch_exits_with_1_if_an_event_failed():
    def hopeless(**arguments):
        raise GiveUp

    deliver(big_interview())
    with subscribed(event_received, hopeless), pytest.raises(CommandError, match="An event failed") as error:
        run("bi_dispatch")
    assert error.value.returncode == 1


@pytest.mark.django_db(transaction=True)
def test_bi_send_event_delivers_the_sample_as_often_as_asked(live_server):
    url = live_server.url + big_interview().get_absolute_url()
    out, _ = run("bi_send_event", url, "--event", "interview.updated", "--key", KEY, "--id", "7", "--times", "2")
    assert [line.split()[0] for line in out.splitlines()] == ["200", "200"]
    event = ReceivedEvent.objects.get()
    assert (event.vendor_event_id, event.event_type, event.deliveries) == ("7", "interview.updated", 2)


@pytest.mark.django_db(transaction=True)
def test_bi_send_event_uses_a_new_id_each_time(live_server):
    to = innovative_educators()
    to.allowed_networks = ["127.0.0.1", "::1"]
    to.save()
    for _ in range(2):
        run("bi_send_event", live_server.url + to.get_absolute_url(), "--event", "courseComplete", "--subject", "0042")
    assert list(ReceivedEvent.objects.values_list("subject_id", flat=True)) == ["0042", "0042"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("path", "key", "answer"),
    [
        (None, "wrong", "401"),
        (None, None, "401"),
        ("/bi/webhooks/00000000-0000-4000-8000-000000000000/", KEY, "404"),
        ("/admin", KEY, "301"),
    ],
)
def test_bi_send_event_explains_a_rejection(live_server, path, key, answer):
    url = live_server.url + (path or big_interview().get_absolute_url())
    out = io.StringIO()
    with pytest.raises(CommandError, match="1 of 1 deliveries were not stored"):
        call_command("bi_send_event", url, "--event", "interview.created", *(["--key", key] if key else []), stdout=out)
    assert out.getvalue().startswith(answer)
    assert len(out.getvalue()) > len(answer) + 20


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nowhere", "not a complete URL"),
        *((url, "No response from") for url in ["http://127.0.0.1:9/", "http://[::1", "http://h:port/", "http://a b/"]),
        ("http://127.0.0.1:9/ü", "No response from"),
    ],
)
def test_bi_send_event_reports_a_wrong_url_and_a_missing_response(url, message):
    with pytest.raises(CommandError, match=message):
        run("bi_send_event", url, "--event", "interview.created")


@pytest.mark.parametrize("command", [name for name, app in get_commands().items() if app == "django_bi_integration"])
def test_every_command_shows_examples(command, capsys):
    with pytest.raises(SystemExit):
        call_command(command, "--help")
    assert f"examples:\n  {command} " in capsys.readouterr().out
