"""Settings of training and evaluation, data and machine, for whoever wants to know exactly."""

from collections.abc import Mapping
from typing import Any

from aiwae_jax.report import markup
from aiwae_jax.report.sections.of_page import Page
from aiwae_jax.runs import progress


def render(page: Page) -> str:
    """Folded up."""
    config = page.report["config"]
    return markup.section(
        "settings",
        "Settings",
        markup.folded("Training", markup.definitions(_named(config["training"]))),
        markup.folded("Evaluation", markup.definitions(_named(config["evaluation"]))),
        markup.folded("Data and machine", markup.definitions(facts(page.report))),
    )


def _named(settings: Mapping[str, Any]) -> dict[str, Any]:
    """By names in words: `num_chains` is the number of chains."""
    found = {}
    for name, value in settings.items():
        said = name.replace("_", " ")
        found[f"number of {said[4:]}" if said.startswith("num ") else said] = value
    return found


def facts(report: Mapping[str, Any]) -> dict[str, Any]:
    """Where it was made, of what, and how long it took."""
    environment, data = report["environment"], report["data"]
    seconds = {
        f"time of {name}": progress.format_seconds(report["wall_time"][f"{name}_seconds"])
        for name in ("training", "evaluation")
        if f"{name}_seconds" in report["wall_time"]
    }
    said = [data[key] for key in ("title", "source") if data.get(key)]
    return {
        "data": ", ".join([*said, f"sha256 {data['sha256'][:16]}"]),
        "device": environment["device"],
        "machine": environment["machine"],
        "versions": ", ".join(f"{k} {v}" for k, v in environment["versions"].items()),
        **seconds,
    }
