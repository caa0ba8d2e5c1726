"""How Sphinx makes the site: `make docs`. Pages stay where they are: links hold here and in the repository."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent

project = "CDMO"
author = "the CDMO authors"
extensions = ["myst_parser"]

# The source folder is the repository: pages link to pages outside of docs/.
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "charts/*/README.md", "examples/*/README.md", "benchmarks/README.md"]
exclude_patterns = ["AGENTS.md", "build", ".venv", ".git", "tests", "src", "sim", "harness"]

# `> [!WARNING]` as in the repository's own view; anchors as there too.
myst_enable_extensions = ["alert", "colon_fence"]
myst_heading_anchors = 4
# A trace in a page is CSV, for which Pygments has no colours; YAML of a chart's template is no YAML yet.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_title = "CDMO"
html_static_path = ["site"]
html_css_files = ["site.css"]
html_extra_path = ["site/index.html"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
