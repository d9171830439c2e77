"""What differs from the paper's setting, where its numbers stand beside."""

from aiwae_jax.report import markup
from aiwae_jax.report.sections.of_page import Page


def render(page: Page) -> str:
    """A list."""
    lines = page.report.get("differs") or []
    items = "".join(f"<li>{markup.words(line)}</li>" for line in lines)
    content = markup.folded(f"{len(lines)} differences", f"<ul>{items}</ul>") if lines else ""
    return markup.section("paper", "What differs from the paper's setting", content)
