"""The example project's own settings, with URLs that also dispatch within the web process."""

from example_project.settings import *  # noqa: F403

ROOT_URLCONF = "tests.helpers.web_server_urls"
