"""A report as text: its numbers, beside others where there are some to compare with."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiwae_jax.likelihoods import BUILDERS, REAL, is_given_library
from aiwae_jax.report import conditions

NO_NOUN = "data"  # of reports of earlier versions, which do not say what they are of
# key in report.json -> (name in the paper, whether it has a standard error)
METRICS = {
    "nll_test": ("NLL (test)", True),
    "nll_train": ("NLL (train)", True),
    "nvlb_test": ("NVLB (test)", True),
    "nvlb_train": ("NVLB (train)", True),
    "variational_gap": ("variational gap", True),
    "generalization_gap": ("generalization gap", True),
    "active_units": ("active units", False),
}
BITS = "bits per dimension"


class Description(NamedTuple):
    """Words of a report for its run, beside what was measured.

    Attributes:
      title: of the page.
      summary: what heads the table: data, method, and what matters of their settings.
      notes: what a reader of the numbers must know, a sentence each.
      command: that does the same again; empty where there is none.
      data: what the data are called, of which there are several.
      parts: what the methods of a curriculum are called, in their order.
    """

    title: str
    summary: str
    notes: list[str]
    command: str = ""
    data: str = "data"
    parts: tuple[str, ...] = ()


def describe(report: Mapping[str, Any]) -> Description:
    """Says what a run of the library's own was, from how its method and model were built."""
    config, title = report["config"], report["data"]["title"]
    method = _words(config.get("method"), "a method of your own")
    legs = config.get("legs") or []
    parts = tuple(_words(leg["method"], "phases of your own") for leg in legs)
    if legs:
        shares = [f"{leg['share']:.0%}" for leg in legs]
        own = [f"{part} ({share})" for part, share in zip(parts, shares, strict=True)]
        method = " then ".join(own)
    model = _words(config.get("model"), "a model of your own")
    notes = weight_notes(report) + likelihood_notes(config.get("model")) + conditions.notes(report)
    heads = f"{title}: {method}", f"{title}, {method}, {model}"
    command = report.get("command", "")
    return Description(*heads, notes, command, data=noun(report["data"]), parts=parts)


def noun(described: Mapping[str, Any], otherwise: str = NO_NOUN) -> str:
    """What several data of a data set are called, by its `describe`."""
    if described.get("columns") is not None:
        return "rows"
    if "image_shape" not in described:
        return otherwise
    return "rows" if described["image_shape"] is None else "images"


def weight_notes(report: Mapping[str, Any]) -> list[str]:
    """Says of which weights the numbers are, where they are not simply the newest ones."""
    training, notes = report["config"]["training"], []
    if training.get("ema"):
        notes.append(f"the weights are their exponential average (decay {training['ema']:g})")
    if stopping := report.get("stopping"):
        by = f"bound L_{training['validation_particles']}"
        if training["patience_by"] == "nll":
            by = "annealed NLL"
        notes.append(f"the weights are those of epoch {stopping['epoch']:g}, the best by {by} of ")
        notes[-1] += f"the {training['validation_share']:.0%} of the training data held out"
        if stopping["stopped_at"] is not None:
            notes[-1] += f"; training stopped early, at epoch {stopping['stopped_at']:g}"
    return notes


def likelihood_notes(model: Mapping[str, Any] | None) -> list[str]:
    """Says what p(x|z) is and what its nats are of, where it is not the paper's."""
    likelihood = (model or {}).get("arguments", {}).get("likelihood")
    if not likelihood:
        return []
    words = likelihood_words(likelihood)
    given = " given its library size, its last column" if is_given_library(likelihood) else ""
    return [f"the likelihood p(x|z) is {words}{given}{units_words(words)}"]


def units_words(words: str) -> str:
    """Says that nats depend on the data's units, unless every part has probabilities alone."""
    names = [re.match(r"\w*", part.strip())[0] for part in words.split(";")]
    has_units = not set(names) <= BUILDERS.keys() - set(REAL)
    return "; nats are in the data's own units" if has_units else ""


def likelihood_words(recipe: Mapping[str, Any]) -> str:
    """A likelihood in a few words, from how it was built."""
    name, arguments = recipe["builder"].rpartition(".")[2], recipe["arguments"]
    if name == "standardized":
        return f"{likelihood_words(arguments['base'])}, standardized"
    if name == "columns":
        parts = arguments["parts"]["entries"].items()
        return "; ".join(f"{likelihood_words(part)} of {columns}" for columns, part in parts)
    scale = arguments.get("scale")
    return f"{name} (scale {scale})" if scale is not None else name


# Arguments of builders as people write them; what else begins with num_ or latent_ by its name.
_LETTERS = {
    "num_particles": "K={}",
    "num_temperatures": "T={}",
    "num_leapfrog_steps": "L={}",
    "latent_size": "{} latents",
    "num_layers": "{} layers",
    "num_moves": "{} moves",
}


def _words(recipe: Mapping[str, Any] | None, otherwise: str) -> str:
    """A method or a model in a few words: how its builder is called, and its sizes."""
    if not recipe:
        return otherwise
    said = [
        _LETTERS.get(name, f"{name.removeprefix('num_').replace('_', ' ')}={{}}").format(value)
        for name, value in recipe["arguments"].items()
        if name.startswith(("num_", "latent_")) and value is not None
    ]
    return " ".join([recipe["builder"].rpartition(".")[2].replace("_", " "), *said])


def table(report: dict[str, Any], description: Description) -> str:
    """The result row as people read it, with the paper's number beside where there is one."""
    evaluation = report["config"]["evaluation"]
    num_temperatures = report["evaluation"]["num_temperatures"]
    lines = [
        f"{description.summary}, {report['epochs']:g} epochs; "
        f"{report['num_examples']} {description.data}, {evaluation['num_chains']} chains x "
        f"{num_temperatures} temperatures; "
        f"NVLB = -L_{evaluation['num_bound_samples']}; nats"
    ]
    cell = report.get("paper")
    lines.append(f"{'':20}{'this run':>20}" + (f"{'paper':>18}" if cell else ""))
    for key, (name, with_error) in METRICS.items():
        value = report[key]
        ours = number(value, report[key + "_se"]) if with_error else f"{value}"
        lines.append(f"{name:20}{ours:>20}" + _paper_column(cell, key))
    if "bits_per_dim" in report:
        ours = number(report["bits_per_dim"], report["bits_per_dim_se"], digits=3)
        lines.append(f"{BITS:20}{ours:>20}  {bits_words(report)}")
    lines += filter(None, [weighted_sentence(report, description.data)])
    lines += filter(None, [bound_sentence(report, description.data)])
    lines += description.notes
    lines += _gap_lines(report, description.data)
    sentences = check_sentence(report), start_sentence(report), unreliable_sentence(report)
    lines += filter(None, sentences)
    return "\n".join(lines)


def number(value: float, error: float, *, digits: int = 2) -> str:
    """A number with its standard error; what rounds to zero has no sign."""
    return f"{value:z.{digits}f} ± {error:.{digits}f}"


def bits_words(report: Mapping[str, Any]) -> str:
    """Says what the bits per dimension are."""
    return f"NLL (test) / ({report['num_dims']} ln 2), of {report['num_levels']} levels"


def summary_table(summary: dict[str, Any], example: dict[str, Any]) -> str:
    """Mean (standard deviation over repeats) of each metric; `example` is a repeat's report."""
    cell = example.get("paper")
    title = f"mean (std over {summary['num_repeats']} seeds)"
    lines = ["", f"{'':20}{title:>26}" + (f"{'paper':>18}" if cell else "")]
    for key, (name, _) in METRICS.items():
        ours = format_mean(f"{summary[key]['mean']:.2f}", summary[key]["std"])
        lines.append(f"{name:20}{ours:>26}" + _paper_column(cell, key))
    return "\n".join(lines)


def _paper_column(cell: dict[str, dict[str, float | None]] | None, key: str) -> str:
    if not cell:
        return ""
    return format_mean(f"{cell[key]['mean']:>11g}", cell[key]["std"])


def format_mean(mean: str, std: float | None) -> str:
    """84.55 (0.07), as the paper writes a mean and the standard deviation over repeats."""
    return mean + (f" ({std:.2f})" if std is not None else "")


def check_sentence(report: dict[str, Any]) -> str | None:
    """Says that the model's densities and draws are at fault, where the check has found so."""
    faults = report.get("check", {}).get("faults")
    return f"the check of the target FAILED: {' '.join(faults).rstrip('.')}" if faults else None


def start_sentence(report: dict[str, Any]) -> str | None:
    """Says that chains should start from something else, where a trial has found so."""
    tried = report.get("bidirectional", {}).get("other_start")
    if not tried or not tried["is_tighter"]:
        return None
    return (
        f"chains from the {tried['start']} are tighter: on {tried['num_simulated']} simulated "
        f"data, at {tried['num_temperatures']} temperatures, their bound of log p(x) is higher by "
        f"{tried['difference']:.2f} ± {tried['difference_se']:.2f}; measure again with "
        f"start={tried['start']}"
    )


def up(bound: float) -> str:
    """A bound from above with three decimals, rounded up."""
    return f"{math.ceil(bound * 1000) / 1000:.3f}"


def bound_sentence(report: dict[str, Any], data: str) -> str | None:
    """Says what the NLL is at most, or why that cannot be said; None of earlier versions."""
    if "nll_at_most" not in report:
        return None
    if report["nll_at_most"] is None:
        return f"no bound of the NLL: {report['nll_at_most_reason']}"
    weighted = ", weighted" if "test" in report.get("effective_rows", {}) else ""
    return (
        f"NLL at most {up(report['nll_at_most'])} with probability "
        f"{100 * (1 - report['nll_at_most_delta']):g}% (over the sampler's randomness; of these "
        f"{report['num_examples']} {data}{weighted})"
    )


def weighted_sentence(report: dict[str, Any], data: str) -> str | None:
    """Says of which rows the means are weighted, and how many they are worth; None of no rows."""
    if "effective_rows" not in report:
        return None
    parts = [f"{number:.1f} ({part})" for part, number in report["effective_rows"].items()]
    return (
        f"means are weighted: the {report['num_examples']} {data} count as {' and '.join(parts)} "
        "of one weight"
    )


def unreliable_sentence(report: dict[str, Any]) -> str | None:
    """Says of how many data the estimate cannot be relied on."""
    num = report["evaluation"].get("num_unreliable")
    if not num:
        return None
    return (
        f"{num} of the {2 * report['num_examples']} estimates cannot be relied on, by their "
        "standard errors in per_datum.csv"
    )


def _gap_lines(report: dict[str, Any], data: str) -> list[str]:
    """Says what the bidirectional bounds mean for the NLL."""
    if not report["evaluation"]["is_unbiased"]:
        return ["the NLL's step sizes were adapted on the reported chains: it is biased"]
    if "bidirectional_gap" not in report:
        return []
    facts = report["bidirectional"]
    value = number(report["bidirectional_gap"], report["bidirectional_gap_se"])
    lines = [
        f"{'bidirectional gap':20}{value:>20}  on {facts['num_simulated']} {data} simulated from "
        "the model; exact for these only"
    ]
    if not facts.get("is_possible", True):
        lines.append(
            f"{'':20}{'':20}  IMPOSSIBLE for exact draws: the model's samples and its log p(x, z) "
            "disagree, and neither bound holds"
        )
    if "target_gap" in facts:
        reached = "reached" if facts.get("is_reached") else "MISSED"
        lines.append(
            f"{'':20}{'':20}  target {facts['target_gap']:g} {reached}: upper end of the 95% "
            f"interval {report['bidirectional_gap_upper_end']:.3f}"
        )
    return lines
