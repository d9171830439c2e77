"""What was measured as Markdown and CSV, all of it from the content of `peers.json`."""

import csv
import io
from typing import Any

_COLUMNS = (
    *("side", "kind", "budget", "unit", "moves", "seconds", "repeats"),
    *("compile_seconds", "nats", "standard_error"),
)
_KINDS = {
    "gap": "gap: upper minus lower bound",
    "shortfall": "shortfall: reference minus estimate",
}
_BEGIN = "<!-- peers: what follows is written by that command -->\n"
_END = "<!-- peers: end -->\n"
_PICTURE = (
    "![Gap between the bounds, and distance of estimates from the reference, against seconds]"
    "(../results/benchmark/peers.png)"
)
_BUSY = 0.5  # of its cores, in the last minute


def as_csv(content: dict[str, Any]) -> str:
    """The rows."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(content["rows"])
    return stream.getvalue()


def markdown(content: dict[str, Any]) -> str:
    """Tables, with what they were made by and on."""
    known, environment = content["reference"], content["environment"]
    parts = [
        f"`{content['command']}`, {content['date']}: {environment['device']}, "
        f"{environment['machine']}, {content['processor']}; {_versions(content)}. "
        f"The decoder: {content['words']}. {content['num_data']} images simulated from it, "
        f"{content['num_chains']} chains each, fp32.",
    ]
    if content["load"] > _BUSY * content["num_cores"]:
        parts.append(
            f"**The machine was busy (load {content['load']:.1f} on {content['num_cores']} cores): "
            "times are of no use.**"
        )
    parts.append(
        f"Reference: the middle of our bounds at T={known['num_temperatures']}, known to "
        f"{known['half_gap']:.3f} ± {known['half_gap_se']:.3f} nats ({known['seconds']:.0f} s)."
    )
    for kind, words in _KINDS.items():
        rows = [row for row in content["rows"] if row["kind"] == kind]
        head = (words + ", nats", "budget", "moves", "seconds", "compilation")
        lines = [
            (
                f"{row['side']}: {row['nats']:.3g} ± {row['standard_error']:.2g}",
                f"{row['budget']} {row['unit']}",
                row["moves"],
                f"{row['seconds']:.3g}",
                f"{row['compile_seconds']:.2g} s",
            )
            for row in rows
        ]
        parts.append(_table(head, lines))
    if steps := content["training_step"]:
        head = (f"training step, {steps['cell']}, batch {steps['batch_size']}", "ms", "times ours")
        own = steps["milliseconds"]["aiwae_jax"]
        lines = [
            (name, f"{value:.3g}", f"{value / own:.2f}")
            for name, value in steps["milliseconds"].items()
        ]
        parts.append(_table(head, lines))
    if training := content["training"]:
        head = ("training", "seconds", "ms a step", "epochs", "NLL, nats")
        lines = [
            (
                f"{name}: {each['words']}",
                f"{each['seconds']:.0f}",
                f"{each['milliseconds_a_step']:.3g}",
                f"{each['epochs']:.2f}",
                f"{each['nll']:.2f} ± {each['nll_standard_error']:.2f}",
            )
            for name, each in training.items()
        ]
        parts.append(_table(head, lines))
    parts += [f"{name} was left out: {reason}." for name, reason in content["missing"].items()]
    return "\n\n".join(parts) + "\n"


def in_page(page: str, content: dict[str, Any] | None) -> str:
    """A page of the documents with picture and tables at their place; without them for None."""
    before, found, rest = page.partition(_BEGIN)
    _, ends, after = rest.partition(_END)
    if not (found and ends):
        raise ValueError(f"`page` must hold the lines {_BEGIN!r} and {_END!r}.")
    block = "" if content is None else f"\n{_PICTURE}\n\n{markdown(content)}\n"
    return before + _BEGIN + block + _END + after


def _versions(content: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in content["versions"].items())


def _table(head: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    rows = [head, ("---",) * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
