"""The command that does the same again; the page's script puts a button beside it."""

from aiwae_jax.report import markup
from aiwae_jax.report.sections.of_page import Page


def render(page: Page) -> str:
    """Nothing where there is none."""
    command = page.description.command
    content = f"<pre>{markup.words(command)}</pre>" if command else ""
    return markup.section("command", "How to reproduce", content)
