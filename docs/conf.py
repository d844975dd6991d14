"""Sphinx's settings."""

import sys
from pathlib import Path

import django
from django.conf import settings
from docutils import nodes
from sphinx.util import logging

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_bi_integration"], USE_TZ=True
)
django.setup()

from django_bi_integration import __version__  # noqa: E402

logger = logging.getLogger(__name__)

#: Where README.md, which a package index shows too, has the pages of this documentation.
PAGES = "https://github.com/django-bi-integration/django-bi-integration/blob/main/docs/"

project = "django-bi-integration"
author = "django_bi_integration contributors"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
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


def lead_to_pages(app, doctree, docname):
    """Let a link of an included README lead to the page of this documentation instead of the repository."""
    for node in doctree.findall(nodes.reference):
        path, _, anchor = node.get("refuri", "").partition("#")
        if path.startswith(PAGES):
            page = path.removeprefix(PAGES).removesuffix(".md")
            if page not in app.env.found_docs:
                logger.warning("README.md links to %s, which does not exist", path, location=docname)
            node["refuri"] = app.builder.get_relative_uri(docname, page) + (f"#{anchor}" if anchor else "")
            node["internal"] = True


def show_tree_as_drawn(app, what, name, thing, options, lines):
    """A tree in a module's docstring is no list that Sphinx should make out."""
    if what == "module" and any("├" in line for line in lines):
        tree = lines.index("") + 1
        lines[tree:] = ["::", "", *(f"   {line}" for line in lines[tree:])]


def setup(app):
    app.connect("doctree-resolved", lead_to_pages)
    app.connect("autodoc-process-docstring", show_tree_as_drawn)
