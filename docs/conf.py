"""Configuration of the documentation: `make docs` builds it strictly into site/, without a network."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts" / "documentation")]

import harness  # noqa: E402

project = "vla-harness"
author = "The vla-harness developers"
release = version = harness.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "extension"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
default_role = "code"  # docstrings write code in single backticks

autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"vla-harness {release}"
html_show_sphinx = False
html_copy_source = False
html_show_copyright = False
copybutton_exclude = ".linenos, .gp, .go"
