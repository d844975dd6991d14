"""Projects whose user model differs from Django's: `check` warns, and the documented remedy works."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "single-sign-on.md").read_text()

SETTINGS = """
SECRET_KEY = "tests"
USE_TZ = True
ROOT_URLCONF = "django_bi_integration.urls"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django_bi_integration", "portal"]
AUTH_USER_MODEL = "portal.User"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SILENCED_SYSTEM_CHECKS = ["django_bi_integration.W001"]
"""
IMPORTS = """
import uuid

from django.contrib.auth.models import AbstractBaseUser, AbstractUser
from django.db import models


class Person(models.Model):
    email = models.EmailField(primary_key=True)


"""
WITH_NAMES = """    first_name = models.CharField(max_length=50)
    last_name = models.CharField(max_length=50)
    USERNAME_FIELD = "email"
"""
MODELS = {
    # Popular project templates contain this one.
    "one name": """class User(AbstractUser):
    first_name = last_name = None
    name = models.CharField(max_length=255)
""",
    "no names": """class User(AbstractBaseUser):
    email = models.EmailField(unique=True)
    USERNAME_FIELD = "email"
""",
    "no e-mail": f"""class User(AbstractBaseUser):
    login = models.CharField(max_length=50, unique=True)
{WITH_NAMES.replace('"email"', '"login"')}""",
    "e-mail as the key": f"""class User(AbstractBaseUser):
    email = models.EmailField(primary_key=True)
    big_interview_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
{WITH_NAMES}""",
    "text as the key": f"""class User(AbstractBaseUser):
    login = models.CharField(max_length=50, primary_key=True)
    email = models.EmailField(unique=True)
{WITH_NAMES}""",
    "e-mail as an inherited key": """class User(Person, AbstractBaseUser):
    login = models.CharField(max_length=50, unique=True)
    first_name = last_name = "x"
    USERNAME_FIELD = "login"
""",
    "a UUID as the key": f"""class User(AbstractBaseUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    email = models.EmailField(unique=True)
{WITH_NAMES}""",
    "a slug as the key": f"""class User(AbstractBaseUser):
    login = models.SlugField(primary_key=True)
    email = models.EmailField(unique=True)
{WITH_NAMES}""",
    "properties for names": """class User(AbstractBaseUser):
    mail = models.EmailField(unique=True)
    first_name = last_name = property(lambda self: "x")
    USERNAME_FIELD = EMAIL_FIELD = "mail"
""",
}


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a command in a project with the given user model and portal/people.py."""

    def run(model, *command, bi_integration=None, people=""):
        (tmp_path / "portal").mkdir()
        files = {"__init__": "", "models": IMPORTS + MODELS[model], "people": people}
        for name, text in files.items():
            (tmp_path / "portal" / f"{name}.py").write_text(text)
        (tmp_path / "project.py").write_text(f"{SETTINGS}BI_INTEGRATION = {bi_integration or {}!r}\n")
        path = os.pathsep.join([str(tmp_path), str(ROOT)])
        environment = {**os.environ, "PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "project"}
        return subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )

    return run


def checked(result):
    """Return the ids of the warnings, and the whole output."""
    printed = result.stdout + result.stderr
    assert result.returncode == 0, printed
    return re.findall(r"django_bi_integration\.([EW]\d+)\)", printed), printed


@pytest.mark.parametrize(
    ("model", "setting", "problem"),
    [
        ("one name", "USER_DETAILS", "portal.User has no first_name, last_name,"),
        ("no names", "USER_DETAILS", "portal.User has no first_name, last_name,"),
        ("no e-mail", "USER_DETAILS", "portal.User has no email,"),
        ("e-mail as the key", "PARTNER_ID", "an e-mail address, so every launch of single sign-on fails"),
        ("e-mail as an inherited key", "PARTNER_ID", "an e-mail address, so every launch of single sign-on fails"),
        ("text as the key", "PARTNER_ID", "text, so launches of single sign-on fail for some users"),
    ],
)
def test_the_check_names_the_setting_that_the_user_model_needs(run, model, setting, problem):
    ids, printed = checked(run(model, "-m", "django", "check"))
    assert ids == ["W011"]
    assert problem in printed
    assert f"['{setting}']" in printed


@pytest.mark.parametrize("model", ["a UUID as the key", "a slug as the key", "properties for names"])
def test_the_check_reports_nothing_if_the_defaults_fit(run, model):
    assert checked(run(model, "-m", "django", "check"))[0] == []


def test_setting_partner_id_to_the_default_declares_that_text_keys_are_valid(run):
    """The check then reports nothing."""
    default = {"PARTNER_ID": "django_bi_integration.users.primary_key"}
    assert checked(run("text as the key", "-m", "django", "check", bi_integration=default))[0] == []


LAUNCH = """
import io, json, sys

import django
import requests
from requests.adapters import BaseAdapter

django.setup()
from django.contrib.auth import get_user_model
from django.core.management import call_command

from django_bi_integration import sso
from django_bi_integration.exceptions import BIIntegrationError
from django_bi_integration.models import BigInterviewAccount, ReceivedEvent, WebhookRegistration


class Fake(BaseAdapter):
    def send(self, request, **options):
        print(request.body.decode())
        self.partner_id = request.path_url.rpartition("/")[2]
        response = requests.Response()
        response.status_code, response.request = 200, request
        user = {"partner_id": self.partner_id, "token": {"token": "t"}}
        response.raw = io.BytesIO(json.dumps({"user": user}).encode())
        return response

    def close(self):
        pass


call_command("migrate", run_syncdb=True, verbosity=0)
account = BigInterviewAccount(subdomain="xyz")
account.set_api_key("0" * 32)
account.save()
names = {"first_name": "Bob", "last_name": "Johnson", "name": "Bob Johnson"}
fields = {field.name for field in get_user_model()._meta.fields}
user = get_user_model()(email="learner@example.edu", **{name: text for name, text in names.items() if name in fields})
user.save()
fake = Fake()
try:
    sso.start(user, transport=fake)
except BIIntegrationError as error:
    sys.exit(f"{type(error).__name__}: {error}")
from django_bi_integration.users import user_of

assert user_of(fake.partner_id) == user
assert user_of("nobody") is None
"""


def example(heading):
    """Return the functions and the settings that the page shows under a heading, as a reader would copy them."""
    section = PAGE.partition(f"\n### {heading}\n")[2].partition("\n##")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    shown = {}
    exec(next(block for block in blocks if block.startswith("BI_INTEGRATION")), shown)
    return {"people": next(block for block in blocks if "def " in block), "bi_integration": shown["BI_INTEGRATION"]}


REMEDIES = {"one name": "Names and e-mail address", "e-mail as the key": "An e-mail address as the primary key"}


@pytest.mark.parametrize("model", REMEDIES)
def test_the_documented_example_silences_the_check(run, model):
    assert checked(run(model, "-m", "django", "check", **example(REMEDIES[model])))[0] == []


@pytest.mark.parametrize("model", REMEDIES)
def test_a_launch_succeeds_with_the_documented_example(run, model):
    result = run(model, "-c", LAUNCH, **example(REMEDIES[model]))
    assert result.returncode == 0, result.stderr
    assert result.stdout == '{"first_name": "Bob", "last_name": "Johnson", "email": "learner@example.edu"}\n'


@pytest.mark.parametrize(
    ("model", "error", "setting"),
    [("one name", "MissingDetails", "USER_DETAILS"), ("e-mail as the key", "NoPartnerID", "PARTNER_ID")],
)
def test_without_the_example_a_launch_fails_and_its_error_names_the_setting(run, model, error, setting):
    result = run(model, "-c", LAUNCH)
    assert result.returncode == 1
    assert f"\n{error}: " in result.stderr
    assert f"BI_INTEGRATION['{setting}']" in result.stderr
