"""System checks by their ids. Every setting has a default, a check, documentation and a test."""

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from celery import Celery
from django.contrib.auth.models import User
from django.core.checks import Tags, run_checks

from django_bi_integration.conf import Settings
from django_bi_integration.conf import settings as bi_settings
from django_bi_integration.dispatch.notify import TASK, notifier
from django_bi_integration.schedule import beat_schedule
from django_bi_integration.signals import course_completed
from tests.helpers.deliveries import registration, subscribed

ROOT = Path(__file__).parent.parent.parent


def ids(*, on_deployment=False):
    """Return the short ids of the findings, and check that each has a hint."""
    found = run_checks(tags=["django_bi_integration"], include_deployment_checks=on_deployment)
    assert all(message.hint for message in found)
    return [message.id.removeprefix("django_bi_integration.") for message in found]


def ids_on_deployment():
    """Return the short ids of the findings of ``check --deploy``."""
    return ids(on_deployment=True)


def messages():
    """Return the message and hint of each finding as one text."""
    return [f"{message.msg} {message.hint or ''}".strip() for message in run_checks(tags=["django_bi_integration"])]


def test_the_default_settings_have_no_findings():
    assert ids_on_deployment() == []


def test_without_the_setting_every_default_applies(settings):
    del settings.BI_INTEGRATION
    assert ids() == []
    assert bi_settings.MAX_BODY_BYTES == 262_144


def test_the_setting_must_be_a_dict(settings):
    settings.BI_INTEGRATION = ["TRUSTED_PROXIES"]
    assert ids() == ["E001"]


def test_an_unknown_key_is_an_error_that_names_the_right_one(settings):
    settings.BI_INTEGRATION = {"TRUSTED_PROXYS": []}
    assert ids() == ["E002"]
    assert messages() == ["BI_INTEGRATION has an unknown key: 'TRUSTED_PROXYS'. Did you mean 'TRUSTED_PROXIES'?"]


def test_an_unknown_key_without_a_similar_one_gets_the_list_of_keys(settings):
    settings.BI_INTEGRATION = {"zzz": 1}
    assert "TRUSTED_PROXIES" in messages()[0]


WRONG = {
    "TRUSTED_PROXIES": "10.0.0.5",
    "CELERY_APP": 1,
    "SKIP_STALE": 1,
    "TRACK_RETURNS": 1,
    "ENCRYPTION_KEYS": "x" * 40,
}
RIGHT = {
    "TRUSTED_PROXIES": ["10.0.0.5"],
    "SKIP_STALE": True,
    "TRACK_RETURNS": False,
    "BASE_URL": "https://careers.example.edu",
    "ENCRYPTION_KEYS": ["x" * 40],
    "API_ENCODING": "form",
    "CELERY_APP": "example_project.celery.app",
    "PARTNER_ID": "tests.operations.test_checks.ids",
    "PARTNER_USER": "tests.operations.test_checks.ids",
    "USER_DETAILS": "tests.operations.test_checks.ids",
    "RETURN_URL_ORIGINS": ["https://app.example.edu"],
    "RETURN_PAGE": "/home/",
}


@pytest.mark.parametrize("name", Settings.__annotations__)
def test_every_setting_is_checked_and_read_live(settings, name):
    settings.BI_INTEGRATION = {name: WRONG.get(name, 0)}
    assert ids() == ["E003"]
    assert messages()[0].startswith(f"BI_INTEGRATION['{name}'] must be ")
    settings.BI_INTEGRATION = {name: RIGHT.get(name, 7)}
    assert ids() == (["W003"] if name == "PARTNER_ID" else [])
    assert getattr(bi_settings, name) == RIGHT.get(name, 7)


@pytest.mark.parametrize("name", Settings.__annotations__)
def test_every_setting_is_documented_with_its_default_and_tested(name):
    page = (ROOT / "docs" / "settings.md").read_text()
    section = re.search(rf"^##+ `?{name}`?$(.*?)(^##|\Z)", page, re.MULTILINE | re.DOTALL)
    assert section, f"docs/settings.md has no heading {name}"
    default = getattr(Settings(), name)
    written = {f"{default:,}", f"{default:_}", str(default)} if isinstance(default, int) else {str(default), "[]"}
    assert any(form in section.group(1) for form in written), f"docs/settings.md: {name} lacks the default {default}"
    tests = "".join(
        path.read_text() for path in (ROOT / "tests").rglob("test_*.py") if path.name != Path(__file__).name
    )
    assert f'"{name}"' in tests, f"no test sets {name}"


def test_every_check_is_documented():
    modules = (ROOT / "django_bi_integration" / "operations" / "checks").glob("*.py")
    source = "".join(path.read_text() for path in modules)
    page = (ROOT / "docs" / "checks.md").read_text()
    found = set(re.findall(r"\{PREFIX\}\.([EW]\d{3})", source))
    assert len(found) > 20
    for check_id in found:
        assert f"django_bi_integration.{check_id}" in page


@pytest.mark.parametrize("proxy", ["proxy.example.edu", "10.0.0.5/24", "", "fe80::1%eth0", "unix:/run/web.sock"])
def test_a_trusted_proxy_that_is_not_a_network_is_an_error(settings, proxy):
    for entry in (proxy, ["10.0.0.7", proxy]):
        settings.BI_INTEGRATION = {"TRUSTED_PROXIES": [entry]}
        assert ids() == ["E004"]


def test_a_hop_without_an_address_is_an_error(settings):
    settings.BI_INTEGRATION = {"TRUSTED_PROXIES": ["10.0.0.5", []]}
    assert ids() == ["E004"]


@pytest.mark.parametrize("proxies", [5, {"10.0.0.5"}, [5], [["10.0.0.5", 5]], [[["10.0.0.5"]]], [None]])
def test_trusted_proxies_are_text_and_lists_of_text(settings, proxies):
    settings.BI_INTEGRATION = {"TRUSTED_PROXIES": proxies}
    assert ids() == ["E003"]
    assert "must be a list of text or of lists of text" in messages()[0]


#: Networks of a CDN: its entries are one hop.
CDN = ["173.245.48.0/20", "103.21.244.0/22", "2400:cb00::/32"]


@pytest.mark.parametrize(
    ("proxies", "named"),
    [
        (["127.0.0.1", "::1"], ("127.0.0.1", "::1")),
        (["192.0.2.10", "::1", "127.0.0.1"], ("192.0.2.10", "::1")),
        (["198.51.100.7", "10.0.1.0/24", "10.0.2.0/24"], ("10.0.1.0/24", "10.0.2.0/24")),
        (["172.31.0.0/20", "172.31.16.0/20"], ("172.31.0.0/20", "172.31.16.0/20")),
        (["10.0.0.4", "10.0.0.5"], ("10.0.0.4", "10.0.0.5")),
        (["10.0.0.0/16", "10.0.0.5"], ("10.0.0.0/16", "10.0.0.5")),
        (["2001:db8:0:1::/64", "2001:db8:0:2::/64"], ("2001:db8:0:1::/64", "2001:db8:0:2::/64")),
        (["173.245.48.0/20", "103.21.244.0/22", "141.101.64.0/18"], ("173.245.48.0/20", "103.21.244.0/22")),
        ([*CDN, "127.0.0.1"], tuple(CDN[:2])),
        (["10.0.0.5", *CDN[:2], "141.101.64.0/18"], tuple(CDN[:2])),
        ([["10.0.0.5"], "127.0.0.1", "::1"], ("127.0.0.1", "::1")),
    ],
)
def test_entries_that_look_like_one_hop_are_a_warning(settings, proxies, named):
    settings.BI_INTEGRATION = {"TRUSTED_PROXIES": proxies}
    assert ids() == ["W008"]
    assert f"{named[0]!r} and {named[1]!r} look like addresses of one hop" in messages()[0]
    assert f"[{named[0]!r}, {named[1]!r}, …]" in messages()[0]


@pytest.mark.parametrize(
    "proxies",
    [
        ["10.0.0.5"],
        ["192.0.2.10", "10.0.0.5"],
        ["192.0.2.10", "127.0.0.1"],
        ["unix:", "127.0.0.1"],
        ["127.0.0.1", "127.0.0.1"],
        ["10.0.0.0/16", "10.0.0.0/16"],
        ["173.245.48.0/20", "10.0.0.0/16"],
        ["192.0.2.0/24", "10.0.1.0/24"],
        [["127.0.0.1", "::1"]],
        [CDN, "127.0.0.1"],
        [CDN, ["10.0.1.0/24", "10.0.2.0/24"]],
        [["127.0.0.1"], ["::1"]],
        [["10.0.1.0/24"], "10.0.2.0/24"],
    ],
)
def test_different_hops_and_hops_in_lists_are_no_warning(settings, proxies):
    """A list as an entry defines which addresses belong to its hop."""
    settings.BI_INTEGRATION = {"TRUSTED_PROXIES": proxies}
    assert ids() == []


def test_a_unix_socket_may_be_trusted(settings):
    settings.BI_INTEGRATION = {"TRUSTED_PROXIES": ["192.0.2.1", "unix:"]}
    assert ids() == []


@pytest.mark.parametrize("proxy", ["0.0.0.0/0", "::/0", "54.0.0.0/7", "::ffff:0.0.0.0/96"])
def test_a_trusted_network_as_wide_as_the_internet_is_an_error(settings, proxy):
    for entry in (proxy, ["10.0.0.7", proxy]):
        settings.BI_INTEGRATION = {"TRUSTED_PROXIES": [entry]}
        assert ids() == ["E005"]


class Elsewhere:
    """A database router that puts this app into another database."""

    def db_for_write(self, model, **hints):
        return "other" if model._meta.app_label == "django_bi_integration" else None


def test_tables_in_another_database_are_an_error(settings):
    settings.DATABASE_ROUTERS = ["tests.operations.test_checks.Elsewhere"]
    assert ids() == ["E006"]


def test_times_without_a_time_zone_are_an_error(settings):
    settings.USE_TZ = False
    assert ids() == ["E007"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "{org}.biginterview.com",
        "http://{org}.biginterview.com",
        "ftp://{org}.biginterview.com",
        "https://",
        "https://{org}.biginterview.com?x",
        "https://user@{org}.biginterview.com",
        "https://{subdomain}.biginterview.com",
    ],
)
def test_an_invalid_or_unencrypted_base_url_is_an_error(settings, url):
    settings.BI_INTEGRATION = {"BASE_URL": url}
    assert ids() == ["E008"]


@pytest.mark.parametrize(
    "url",
    [
        "https://{org}.biginterviewmedical.com/",
        "http://localhost:8001",
        "http://127.0.0.1:1/{org}",
        "https://proxy.example.edu/{org}",
    ],
)
def test_base_urls_of_other_brands_and_of_this_machine_are_allowed(settings, url):
    settings.BI_INTEGRATION = {"BASE_URL": url}
    assert ids() == []


@pytest.mark.parametrize(
    "origin",
    ["app.example.edu", "https://app.example.edu/", "https://*.example.edu", "https://App.example.edu", "https://a@b"],
)
def test_an_invalid_origin_is_an_error(settings, origin):
    settings.BI_INTEGRATION = {"RETURN_URL_ORIGINS": [origin]}
    assert ids() == ["E009"]


@pytest.mark.parametrize(
    "path", ["x", "tests.nowhere.f", "tests.operations.test_checks.nothing", "tests.operations.test_checks.ROOT"]
)
def test_a_dotted_path_to_something_other_than_a_function_is_an_error(settings, path):
    settings.BI_INTEGRATION = {"USER_DETAILS": path}
    assert ids() == ["E010"]


def test_a_function_may_be_given_instead_of_its_dotted_path(settings, monkeypatch):
    settings.BI_INTEGRATION = {"PARTNER_ID": ids, "PARTNER_USER": ids, "USER_DETAILS": ids}
    assert ids() == []
    monkeypatch.setattr(User, "EMAIL_FIELD", "mail")  # W011, without USER_DETAILS
    assert ids() == []
    settings.BI_INTEGRATION = {}
    assert ids() == ["W011"]


def test_a_value_that_is_neither_a_function_nor_a_dotted_path_is_an_error(settings):
    settings.BI_INTEGRATION = {"PARTNER_ID": ["portal.people.partner_id"]}
    assert ids() == ["E003"]
    assert messages()[0].startswith("BI_INTEGRATION['PARTNER_ID'] must be a function or its dotted path, not [")


def test_an_unknown_encoding_is_an_error(settings):
    settings.BI_INTEGRATION = {"API_ENCODING": "xml"}
    assert ids() == ["E011"]


@pytest.mark.parametrize("page", ["/bi/sso/login/", "https://app.example.edu/bi/sso/login?to=dashboard"])
def test_a_return_page_that_starts_a_launch_is_an_error(settings, page):
    settings.BI_INTEGRATION = {"RETURN_PAGE": page}
    assert ids() == ["E017"]


@pytest.mark.parametrize("page", ["/portal/", "https://app.example.edu/", "https://[", "", "/saml/sso/login/"])
def test_any_other_return_page_is_fine(settings, page):
    settings.BI_INTEGRATION = {"RETURN_PAGE": page}
    assert ids() == []


def test_a_partner_id_function_without_its_inverse_is_a_warning(settings):
    settings.BI_INTEGRATION = {"PARTNER_ID": "tests.operations.test_checks.ids"}
    assert ids() == ["W003"]
    settings.BI_INTEGRATION = {
        "PARTNER_ID": "tests.operations.test_checks.ids",
        "PARTNER_USER": "tests.operations.test_checks.ids",
    }
    assert ids() == []


def test_a_short_encryption_key_is_a_warning(settings):
    settings.BI_INTEGRATION = {"ENCRYPTION_KEYS": ["x" * 40, "secret"]}
    assert ids() == ["W004"]


def test_a_check_shows_no_encryption_key(settings):
    """Invariant 9, for a key that was set as text instead of a list."""
    settings.BI_INTEGRATION = {"ENCRYPTION_KEYS": "hunter2" * 7}
    assert messages() == [
        "BI_INTEGRATION['ENCRYPTION_KEYS'] must be a list of text, not a str. Leave it out for the default, ()."
    ]


def database_findings():
    """Return the findings of ``check --database default``."""
    return run_checks(tags=[Tags.database], databases=["default"])


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("allowed", "proxy"),
    [
        ("54.243.7.71", "54.243.7.71"),
        ("54.243.7.71", "54.243.7.0/24"),
        ("54.243.7.0/24", "54.243.7.71"),
        ("54.243.7.71", "::ffff:54.243.7.71"),
        ("2001:db8::/48", "2001:db8::1"),
    ],
)
def test_a_trusted_proxy_on_an_allowlist_is_an_error(settings, allowed, proxy):
    registration(networks=("192.0.2.7", allowed))
    settings.BI_INTEGRATION = {"TRUSTED_PROXIES": ["10.0.0.5", "unix:", proxy]}
    (message,) = database_findings()
    settings.BI_INTEGRATION = {"TRUSTED_PROXIES": ["10.0.0.5", ["unix:", proxy]]}
    assert database_findings() == [message]
    assert message.id == "django_bi_integration.E014"
    assert "'Test'" in message.msg
    assert f"“{allowed}” overlaps the trusted proxy “{proxy}”" in message.msg
    assert "TRUSTED_PROXIES" in message.hint


@pytest.mark.django_db
@pytest.mark.parametrize("allowed", ["0.0.0.0/0", "::/0", "54.0.0.0/7", "vendor.example", 921896775])
def test_an_allowlist_that_is_too_wide_or_invalid_is_an_error(allowed):
    """Such a row can only be stored without the form's validation."""
    registration(networks=(allowed,))
    assert [message.id for message in database_findings()] == ["django_bi_integration.E015"]


@pytest.mark.django_db
@pytest.mark.parametrize("proxies", [[], ["10.0.0.5"], ["proxy.example.edu"]])
def test_a_valid_allowlist_has_no_findings(settings, proxies):
    registration(networks=("54.243.7.71", "54.0.0.0/8", "2001:db8::/32"))
    settings.BI_INTEGRATION = {"TRUSTED_PROXIES": proxies}
    assert database_findings() == []


@pytest.mark.django_db
def test_allowlists_are_checked_only_if_a_command_names_their_database(settings):
    registration(networks=("0.0.0.0/0",))
    assert [message for message in run_checks() if message.id.startswith("django_bi_integration.")] == []
    settings.DATABASE_ROUTERS = ["tests.operations.test_checks.Elsewhere"]
    assert database_findings() == []


def test_a_new_database_has_no_allowlists_to_check(tmp_path):
    """`migrate` runs the checks before it creates the tables."""
    environment = {
        **os.environ,
        "DATABASE_URL": f"sqlite:///{tmp_path / 'new'}",
        "DJANGO_SECRET_KEY": "checks",
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
    }
    command = [sys.executable, "manage.py", "check", "--database", "default"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, "no issues" in done.stdout + done.stderr) == (0, True), done.stderr


def test_no_celery_app_is_a_warning(monkeypatch):
    monkeypatch.setattr(notifier, "app", Celery("default", set_as_current=False))
    assert ids() == ["W001"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("SECURE_PROXY_SSL_HEADER", ("HTTP_X_FORWARDED_PROTO", "https")), ("USE_X_FORWARDED_HOST", True)],
)
def test_proxy_settings_without_trusted_proxies_are_a_warning(settings, name, value):
    setattr(settings, name, value)
    assert ids() == ["W002"]
    settings.BI_INTEGRATION = {"TRUSTED_PROXIES": ["10.0.0.5"]}
    assert ids() == []


def use_celery_app(monkeypatch, **settings):
    """Let the package use a new Celery app with these settings."""
    app = Celery("university", set_as_current=False)
    app.conf.update(settings)
    monkeypatch.setattr(notifier, "app", app)


def test_eager_tasks_are_a_warning_on_deployment(monkeypatch):
    use_celery_app(monkeypatch, task_always_eager=True, beat_schedule=beat_schedule())
    assert ids_on_deployment() == ["W005"]
    assert ids() == []  # tests and development may want it


def test_a_beat_schedule_without_the_sweep_is_a_warning(monkeypatch):
    use_celery_app(monkeypatch, beat_schedule={"other": {"task": "university.tasks.other", "schedule": 10}})
    assert ids_on_deployment() == ["W006"]
    use_celery_app(monkeypatch, beat_schedule={"mine": {"task": TASK, "schedule": 60}})
    assert ids_on_deployment() == []


def test_a_receiver_that_cannot_be_called_is_an_error():
    def misses_an_argument(sender, event):
        pass

    with subscribed(course_completed, misses_an_argument):
        assert ids() == ["E016"]
        assert "misses_an_argument does not accept the arguments signal, sender, event, data" in messages()[0]
    assert ids() == []


@pytest.mark.parametrize("pool", ["gevent", "celery.concurrency.eventlet:TaskPool"])
def test_a_pool_that_cannot_run_the_async_receivers_is_a_warning(pool, monkeypatch):
    async def receiver(**arguments):
        pass

    def plain(**arguments):
        pass

    use_celery_app(monkeypatch, worker_pool=pool, beat_schedule=beat_schedule())
    with subscribed(course_completed, plain):
        assert ids_on_deployment() == []
    with subscribed(course_completed, receiver):
        assert ids_on_deployment() == ["W007"]
        use_celery_app(monkeypatch, worker_pool="threads", beat_schedule=beat_schedule())
        assert ids_on_deployment() == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[(value, ["W009"]) for value in ("*", "10.0.0.5, *", "0.0.0.0/0", "::/0")],
        *[(value, []) for value in ("", "127.0.0.1,::1", "10.0.0.0/24", "unix:", "proxy")],
    ],
)
def test_an_environment_that_makes_uvicorn_trust_every_client_is_a_warning(monkeypatch, tmp_path, value, expected):
    (tmp_path / "uvicorn.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", value)
    assert ids_on_deployment() == expected


@pytest.mark.parametrize("variables", [{}, {"DJANGO_HSTS_DOMAIN": "1", "DJANGO_HSTS_SECONDS": "31536000"}])
def test_the_example_project_is_ready_for_deployment(tmp_path, variables):
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "TEST_"))},
        "BI_TRUSTED_PROXIES": "127.0.0.1",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}",
        "DJANGO_ALLOWED_HOSTS": "careers.example.edu",
        "DJANGO_HTTPS": "1",
        "DJANGO_SECRET_KEY": secrets.token_urlsafe(50),
        **variables,
    }
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level=WARNING"]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "no issues" in result.stdout
    assert result.stderr == ""
