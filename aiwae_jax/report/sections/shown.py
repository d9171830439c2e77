"""Pictures, under the headings of what they are of."""

from aiwae_jax.report import markup
from aiwae_jax.report.pictures import PICTURES
from aiwae_jax.report.sections.of_page import Page


def of(page: Page, section: str) -> str:
    """The pictures of a section that this report has."""
    noun = page.description.data
    there = set(page.report["pictures"])
    found = [
        markup.figure(
            page.folder / name,
            heading=picture.heading.format(noun=noun),
            alt=picture.alt.format(noun=noun),
            caption=page.captions[name],
        )
        for name, picture in PICTURES.items()
        if name in there and picture.section == section
    ]
    return markup.figures(found)


def of_model(page: Page) -> str:
    """What the model makes."""
    return markup.section("model", "What the model makes", of(page, "model"))


def of_latents(page: Page) -> str:
    """What its latents are."""
    return markup.section("latents", "Latents", of(page, "latents"))


def of_training(page: Page) -> str:
    """How it was trained."""
    return markup.section("training", "Training", of(page, "training"))


def of_chains(page: Page) -> str:
    """How it was measured."""
    return markup.section("chains", "Chains", of(page, "chains"))
