"""Sphinx: shows a notebook's cells with the outputs that are kept; nothing is executed."""

import pathlib
from typing import Any, ClassVar

import cells
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

_COUNT = "number_of_code_cells"  # of the page that is being read
_LOG = logging.getLogger(__name__)


class CodeCell(SphinxDirective):
    """A cell's code, and below it what it printed and drew."""

    has_content = True
    optional_arguments = 1
    option_spec: ClassVar = {"alt": directives.unchanged, "tags": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Makes the nodes of one cell."""
        name = pathlib.PurePath(self.env.docname).name
        kept = cells.read_outputs(name)["cells"]
        number = self.env.temp_data.get(_COUNT, 0)
        self.env.temp_data[_COUNT] = number + 1
        self.env.note_dependency(str(cells.OUTPUTS / f"{name}.json"))
        code, language = "\n".join(self.content), "python"
        if code.startswith("%%bash\n"):
            code, language = code.removeprefix("%%bash\n"), "bash"
        found: list[nodes.Node] = [nodes.literal_block(code, code, language=language)]
        if number < len(kept):
            if text := kept[number]["text"]:
                block = nodes.literal_block(text, text, language="text")
                block["classes"].append("cell-output")
                found.append(block)
            for picture in kept[number]["pictures"]:
                image = nodes.image(uri=f"outputs/{picture}", alt=self.options.get("alt", ""))
                image["classes"].append("cell-output")
                found.append(image)
        return found


def _say_how_it_was_made(app: Sphinx, doctree: nodes.document) -> None:
    """Below a notebook's title: what it is, and when and where its outputs came about."""
    docname = pathlib.PurePosixPath(app.env.docname)
    if docname.parent.name != cells.FOLDER.name or docname.name not in cells.names():
        return
    name = docname.name
    if not cells.is_current(name, cells.source(name)):
        _LOG.warning(
            "the code of docs/%s.md is not that of its outputs; run `make notebooks`", docname
        )
    if not (made := cells.read_outputs(name)["made"]):
        return
    seconds = f"in {made['seconds']} s, of which {made['seconds_of_computing']} s of computing"
    if made["is_compiled_before"]:
        seconds += " (of programs that were compiled before)"
    note = nodes.paragraph("", "", classes=["how-it-was-made"])
    note += nodes.Text("A notebook, which Jupyter opens: ")
    note += nodes.literal("", f"docs/{docname}.md")
    note += nodes.Text(". Its outputs were made by ")
    note += nodes.literal("", "make notebooks")
    note += nodes.Text(f" on {made['on']} {seconds}, on {made['machine']}, with JAX {made['jax']}.")
    title = next(iter(doctree.findall(nodes.title)), None)
    if title is not None:
        title.parent.insert(title.parent.index(title) + 1, note)


def _with_styles(app: Sphinx) -> None:
    app.config.html_static_path.append(str(cells.FOLDER / "static"))


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("code-cell", CodeCell)
    app.connect("builder-inited", _with_styles)
    app.connect("doctree-read", _say_how_it_was_made)
    app.add_css_file("notebooks.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
