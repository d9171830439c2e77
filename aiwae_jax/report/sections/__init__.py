"""The sections of a page, each a small function of a `Page` in a file of its own.

A new one is a function `Page -> str`, empty where it has nothing to say, and its place in `ALL`.
"""

from aiwae_jax.report.sections import (
    command,
    downloads,
    headline,
    numbers,
    of_data,
    paper,
    settings,
    shown,
)
from aiwae_jax.report.sections.of_page import Page as Page

ALL = (
    headline.render,
    numbers.render,
    paper.render,
    shown.of_model,
    of_data.render,
    shown.of_latents,
    shown.of_training,
    shown.of_chains,
    command.render,
    downloads.render,
    settings.render,
)
