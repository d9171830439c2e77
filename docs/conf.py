"""Sphinx: the guide in Markdown, the reference from docstrings. `make docs`."""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "notebooks"))

project = "aiwae_jax"
author = "the aiwae_jax authors"
copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
extensions += ["pages"]  # docs/notebooks/pages.py: cells of notebooks with their outputs
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
default_role = "code"  # single backticks, as in Markdown
html_theme = "furo"
html_title = "aiwae_jax"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings give shapes, which say more
napoleon_google_docstring = True
napoleon_use_ivar = True
napoleon_attr_annotations = False
napoleon_custom_sections = [("Returns", "params_style")]  # several values, each with its name


def _skip(app, what, name, obj, skip, options):
    """Fields of named tuples are under their class's attributes already."""
    return skip or (getattr(obj, "__doc__", None) or "").startswith("Alias for field number")


def _from_markdown(app, what, name, obj, options, lines):
    """Docstrings are Markdown where that differs: tables, bars, code that a letter follows."""
    found = []
    for line in lines:
        if line.startswith("|"):
            found += [] if found and found[-1].startswith("    |") else ["::", ""]
            found.append(f"    {line}")
        else:
            found.append(re.sub(r"(`[^`]+`)(?=\w)", r"\1\\ ", line.replace("|", r"\|")))
    lines[:] = found


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _from_markdown, priority=900)
    app.connect("autodoc-skip-member", _skip)
