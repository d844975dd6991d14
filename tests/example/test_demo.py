"""The demo, started from the command line and used in a browser."""

import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from tests.helpers.servers import free_port
from tests.helpers.stack import ROOT, Program, answers_http
from tests.helpers.waiting import wait_until

ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "DATABASE_", "CELERY_"))
}


def demo(*arguments, **variables):
    """Run the demo to its end with these environment variables, and return the completed process."""
    command = [sys.executable, "manage.py", "demo", *arguments]
    environment = ENVIRONMENT | variables
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def test_demo_once_plays_the_story_and_reports_success():
    result = demo("--once")
    assert result.returncode == 0, result.stderr
    assert "Every event reached its receivers exactly once." in result.stdout
    rows = dict(re.findall(r"^  (\S.*?)  +(\d+ +\d+)$", result.stdout, re.MULTILINE))
    assert {name: row.split() for name, row in rows.items()} == {
        "deliveries sent": ["10", "10"],
        "deliveries accepted": ["10", "10"],
        "deliveries counted": ["10", "10"],
        "strangers rejected": ["2", "2"],
        "students there and back": ["1", "1"],
        "events sent": ["9", "9"],
        "events stored": ["9", "9"],
        "events dispatched": ["9", "9"],
        "audit, once each": ["9", "9"],
        "course_was_completed, once each": ["1", "1"],
        "interview_was_created, once each": ["3", "3"],
        "interview_was_deleted, once each": ["1", "1"],
        "interview_was_updated, once each": ["4", "4"],
    }


def test_a_port_in_use_is_reported_with_a_remedy(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = demo("--port", str(port), DEMO_DATA=str(tmp_path))
    assert result.returncode == 1
    assert result.stderr.strip() == f"CommandError: Port {port} is in use. Choose another: make demo PORT={port + 10}"


@pytest.mark.parametrize("arguments", [["--port", "70000"], ["--port", "x"], ["--pause", "nan"], ["--pause", "-1"]])
def test_a_wrong_argument_is_reported_without_a_traceback(arguments):
    result = demo(*arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert repr(arguments[1]) in result.stderr


def test_a_deployment_is_rejected_with_the_published_secret_key():
    result = demo("--once", DJANGO_ALLOWED_HOSTS="careers.example.edu")
    assert result.returncode == 1
    assert "Set DJANGO_SECRET_KEY" in result.stderr


def test_the_demo_is_rejected_with_a_database_or_broker_from_the_environment():
    result = demo("--once", CELERY_BROKER_URL="redis://localhost/0")
    assert result.returncode == 1
    assert "Unset DATABASE_URL and CELERY_BROKER_URL" in result.stderr


@pytest.fixture
def running_demo(tmp_path):
    """Run the demo on a free port with a separate data folder, and yield its URL and program."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = ENVIRONMENT | {"DEMO_DATA": str(tmp_path / "data")}
    command = [sys.executable, "-u", "manage.py", "demo", "--port", str(port), "--pause", "0.2"]
    program = Program("demo", command, environment, tmp_path / "log", lambda _: answers_http(url))
    program.start()
    yield url, program
    program.stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_the_demo_cleanly(running_demo, number):
    _, program = running_demo
    program.process.send_signal(number)
    assert program.process.wait(60) == 0
    assert "Traceback" not in program.output()
    assert "What was received is kept." in program.output()


def test_a_second_start_reports_that_it_kept_the_data(running_demo):
    _, program = running_demo
    wait_until(lambda: "-> dispatched" in program.output())
    assert re.search(r"Data +new", program.output())
    program.stop()
    program.start()
    wait_until(lambda: "kept from an earlier run" in program.output())


def test_a_second_demo_cannot_use_the_data_of_the_first(running_demo):
    _, program = running_demo
    folder = program.environment["DEMO_DATA"]
    result = demo("--port", "0", "--reset", DEMO_DATA=folder)
    assert result.returncode == 1
    assert result.stderr.strip() == (
        f"CommandError: Another demo is using {folder}. Stop it first, or run one beside it with make demo ONCE=1"
    )


def test_a_person_watches_the_story_in_the_browser(running_demo, page):
    """The page shows each event without a reload, and the button plays the story again."""
    url, _ = running_demo
    problems = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(url)
    page.evaluate("window.loadedOnce = true")
    page.get_by_text("finished the course").first.wait_for(timeout=30_000)
    assert page.evaluate("window.loadedOnce") is True
    page.get_by_text("came late").first.wait_for()
    page.get_by_role("button", name="Play the story again").click()
    page.get_by_role("listitem").filter(has_text="finished the course").nth(1).wait_for(timeout=30_000)
    assert problems == []


def test_a_student_practises_at_big_interview_and_comes_back(running_demo, page):
    """The whole visit in a real browser. It starts with a double click, which causes only one launch."""
    url, _ = running_demo
    problems = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    launches = []
    page.on("request", lambda request: "/sso/login/" in request.url and launches.append(request.url))
    page.goto(url)
    page.get_by_role("link", name="Juniper Halloway").first.click()
    page.get_by_role("button", name="Sign in as Juniper Halloway").click()
    page.get_by_text("No interviews yet").wait_for()
    page.get_by_role("link", name="Practise an interview").dblclick()
    page.get_by_role("heading", name="Welcome, Juniper").wait_for()
    page.get_by_text("You were sent to: /members/dashboard").wait_for()
    assert len(launches) == 1
    page.get_by_role("button", name="Start practice interview").click()
    page.get_by_role("button", name="Finish").click()
    page.get_by_role("link", name="Log out").click()
    page.wait_for_url(f"{url}/students/*/")
    # The page shows it in the feed and in the list as soon as the receivers have run.
    feed = page.get_by_role("region", name="What happened")
    feed.get_by_text("completed “Top 10 Questions”").wait_for()
    page.get_by_role("link", name="Review").wait_for()
    assert page.get_by_text("Top 10 Questions: 1").count() == 0
    page.goto(f"{url}/bi/sso/login/?return_url=https://evil.example/")
    page.get_by_text("This link does not lead into Big Interview.").wait_for()
    page.get_by_role("link", name="Back to the portal").click()
    assert page.url == f"{url}/"
    assert [problem for problem in problems if "400" not in problem] == []


def test_the_printed_user_can_log_in_to_the_admin(running_demo, page):
    url, program = running_demo
    user, password = wait_until(lambda: re.search(r"log in as (\w+) with password (\w+)", program.output())).groups()
    page.goto(f"{url}/admin/")
    page.fill("#id_username", user)
    page.fill("#id_password", password)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("link", name="Received events").first.click()
    wait_until(lambda: page.reload() and page.get_by_text("courseComplete").count())
    page.locator("th.field-received_at a").first.click()
    page.get_by_text("example_project.portal.receivers.audit").wait_for()
