"""The example project's settings, with a URL that dispatches within the web process."""

from example_project.settings import *  # noqa: F403

ROOT_URLCONF = "tests.helpers.web_server_urls"
