"""Sphinx's settings."""

import sys
from pathlib import Path

import django
from django.conf import settings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_bi_integration"], USE_TZ=True
)
django.setup()

from django_bi_integration import __version__  # noqa: E402

project = "django-bi-integration"
author = "The django-bi-integration maintainers"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# A reference that leads nowhere is an error, save those to others' code: the build asks nothing of the network.
nitpicky = True
nitpick_ignore_regex = [("py:class", r"(collections|datetime|ipaddress|django|requests|uuid)\..+")]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"django-bi-integration {version}"
html_static_path = ["_static"]
html_show_copyright = False
autodoc_typehints = "description"
autodoc_member_order = "bysource"


def show_tree_as_drawn(app, what, name, thing, options, lines):
    """A tree in a module's docstring is no list that Sphinx should make out."""
    if what == "module" and any("├" in line for line in lines):
        tree = lines.index("") + 1
        lines[tree:] = ["::", "", *(f"   {line}" for line in lines[tree:])]


def setup(app):
    app.connect("autodoc-process-docstring", show_tree_as_drawn)
