"""The documentation site: `sphinx-build -W docs DIRECTORY`."""

import posixpath
import re
from importlib.metadata import version as version_of

from sphinx.application import Sphinx

project = "pytest-memreq"
author = "The pytest-memreq developers"
release = version = version_of("pytest-memreq")
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
default_role = "code"
html_theme = "furo"
html_title = "pytest-memreq"
html_show_sphinx = False
html_show_copyright = False

REPOSITORY = "https://github.com/pytest-memreq/pytest-memreq/blob/main"
OUTWARD = re.compile(r"\]\((\.\./[^)#]+|[\w-]+\.json)(#[^)]*)?\)")


def lead_outward(_app: Sphinx, _name: str, source: list[str]) -> None:
    """A link to a file of the repository leads there: the site has the pages alone."""

    def outward(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", link[1]))
        return f"]({REPOSITORY}/{path}{link[2] or ''})"

    source[0] = OUTWARD.sub(outward, source[0])


def setup(app: Sphinx) -> None:
    """Before a page is read."""
    app.connect("source-read", lead_outward)
