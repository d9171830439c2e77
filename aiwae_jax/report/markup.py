"""Pieces of a page: words, tables, figures and links as HTML."""

import base64
import html
import pathlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_WIDE = 1400  # pixels from which on a picture takes the whole width of the page


def words(value: Any) -> str:
    """Escaped."""
    return html.escape(str(value))


def sentence(text: str) -> str:
    """With a capital letter and a full stop, unescaped."""
    return f"{text[0].upper()}{text[1:].rstrip('.')}."


def notes(lines: Iterable[str]) -> str:
    """Paragraphs beside the numbers."""
    return "".join(f'<p class="note">{words(line)}</p>' for line in lines)


def section(name: str, heading: str, *parts: str) -> str:
    """A part of the page under a heading; nothing of nothing."""
    content = "\n".join(part for part in parts if part)
    if not content:
        return ""
    return f'<section id="{name}"><h2>{words(heading)}</h2>\n{content}\n</section>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of escaped cells, whose first column names the rows; wide ones can be scrolled."""
    return grouped(head, {"": rows})


def grouped(head: Sequence[str], groups: Mapping[str, Iterable[Sequence[str]]]) -> str:
    """A table of rows in groups, each under its own heading where it has one."""
    heads = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    bodies = []
    for heading, rows in groups.items():
        wide = f'<th class="group" colspan="{len(head)}" scope="rowgroup">{words(heading)}</th>'
        body = [f"<tr>{wide}</tr>"] if heading else []
        for first, *rest in rows:
            cells = "".join(f"<td>{cell}</td>" for cell in rest)
            body.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
        bodies.append(f"<tbody>{''.join(body)}</tbody>")
    return (
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>{"".join(bodies)}</table></div>'
    )


def figure(path: pathlib.Path, *, heading: str, alt: str, caption: str) -> str:
    """A picture in the page itself."""
    content = path.read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    kind = ' class="wide"' if width >= _WIDE else ""
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return (
        f"<figure{kind}><h3>{words(heading)}</h3>"
        f'<div class="scroll"><img alt="{words(alt)}" width="{width}" height="{height}" '
        f'src="{source}"></div>'
        f"<figcaption>{words(caption)}</figcaption></figure>"
    )


def figures(found: Sequence[str]) -> str:
    """Pictures, two abreast where there is room."""
    return f'<div class="figures">{"".join(found)}</div>' if found else ""


def download(name: str, text: str) -> str:
    """A link that saves text as a file, without any network."""
    content = base64.b64encode(text.encode()).decode()
    return (
        f'<a class="button" download="{words(name)}" href="data:text/csv;base64,{content}">'
        f"{words(name)}</a>"
    )


def definitions(items: Mapping[str, Any]) -> str:
    """Names and values; what is None is left out."""
    rows = "".join(
        f"<dt>{words(name)}</dt><dd>{words(value)}</dd>"
        for name, value in items.items()
        if value is not None
    )
    return f"<dl>{rows}</dl>"


def folded(heading: str, content: str) -> str:
    """What few will read, behind its heading."""
    return f"<details><summary>{words(heading)}</summary>{content}</details>"
