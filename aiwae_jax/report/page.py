"""A report as one HTML file that needs nothing else: numbers, pictures, configuration, command."""

import base64
import html
import pathlib
from collections.abc import Mapping
from typing import Any

from aiwae_jax.report import text
from aiwae_jax.report.text import METRICS, Description, format_mean
from aiwae_jax.runs import progress

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; } th, td { padding: .25rem .9rem; text-align: right; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid #888; } tbody tr:nth-child(even) { background: #f4f4f4; }
figure { margin: 1rem 0; } img { max-width: 100%; } figcaption { color: #555; font-size: .9rem; }
pre { background: #f4f4f4; padding: .8rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.note { color: #555; }
.warning { background: #fff3cd; padding: .6rem .9rem; border-left: 4px solid #e0a800; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; }
dt { color: #555; } dd { margin: 0; font-variant-numeric: tabular-nums; }
"""


def _text(value: Any) -> str:
    return html.escape(str(value))


def _results(report: dict[str, Any]) -> str:
    """The table of metrics, with the paper's numbers where there are some."""
    cell = report.get("paper")
    rows = []
    for key, (name, with_error) in METRICS.items():
        ours = text.number(report[key], report[key + "_se"]) if with_error else report[key]
        row = [f"<th>{_text(name)}</th><td>{_text(ours)}</td>"]
        if cell:
            mean, std = cell[key]["mean"], cell[key]["std"]
            row.append(f"<td>{format_mean(f'{mean:g}', std)}</td>")
            row.append(f"<td>{report[key] - mean:+.2f}</td>")
        rows.append(f"<tr>{''.join(row)}</tr>")
    if "bits_per_dim" in report:
        ours = text.number(report["bits_per_dim"], report["bits_per_dim_se"], digits=3)
        rows.append(f"<tr><th>{text.BITS} (test)</th><td>{ours}</td></tr>")
    paper = "<th>paper (std over 5)</th><th>difference</th>" if cell else ""
    return (
        f"<table><thead><tr><th></th><th>this run</th>{paper}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _notes(report: dict[str, Any], description: Description) -> list[str]:
    """Writes what a reader must know beside the numbers."""
    facts, data = report["evaluation"], description.data
    lines = [
        f"Nats per datum, mean ± standard error over {report['num_examples']} {data}; a lower NLL "
        f"is better. NLL: {facts['nll']}. NVLB = -L_"
        f"{report['config']['evaluation']['num_bound_samples']}."
    ]
    if "bits_per_dim" in report:
        lines.append(f"Bits per dimension: {text.bits_words(report)}.")
    if weighted := text.weighted_sentence(report, data):
        lines.append(f"{weighted[0].upper()}{weighted[1:]}.")
    if bound := text.bound_sentence(report, data):
        lines.append(f"{bound[0].upper()}{bound[1:]}.")
    lines += [f"{note[0].upper()}{note[1:]}." for note in description.notes]
    if "bidirectional_gap" in report:
        lines.append(
            "Bidirectional gap "
            f"{text.number(report['bidirectional_gap'], report['bidirectional_gap_se'], digits=3)} "
            "nats on "
            f"{report['bidirectional']['num_simulated']} {data} simulated from the model: what the "
            f"NLL may be too high by. Exact for simulated {data} only."
        )
    counts = {
        "moves rejected for a non-finite energy": facts["num_nonfinite_energies"],
        "chains of weight zero": facts["num_zero_weight_chains"],
    }
    lines += [f"{count} {name}." for name, count in counts.items() if count]
    return lines


def _warnings(report: dict[str, Any]) -> list[str]:
    found = []
    if report["data"].get("is_stand_in"):
        found.append(
            f"{report['data']['title']}: these images are not the papers', and the numbers are not "
            "comparable with theirs."
        )
    if not report["is_finished"]:
        found.append("The run is not finished; this is a checkpoint of it.")
    if not report["evaluation"]["is_unbiased"]:
        found.append("The NLL's step sizes were adapted on the reported chains: it is biased.")
    if not report.get("bidirectional", {}).get("is_reached", True):
        found.append("The target of the bidirectional gap was missed.")
    for sentence in (
        text.check_sentence(report),
        text.start_sentence(report),
        text.unreliable_sentence(report),
    ):
        if sentence is not None:
            found.append(f"{sentence[0].upper()}{sentence[1:]}.")
    return found


def _pictures(folder: pathlib.Path, names: list[str], captions: Mapping[str, str]) -> str:
    figures = []
    for name in sorted(names, key=list(captions).index):
        content = base64.b64encode((folder / name).read_bytes()).decode()
        caption = _text(captions[name])
        figures.append(
            f'<figure><img alt="{caption}" src="data:image/png;base64,{content}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    return "\n".join(figures)


def _definitions(items: dict[str, Any]) -> str:
    rows = "".join(
        f"<dt>{_text(name.replace('_', ' '))}</dt><dd>{_text(value)}</dd>"
        for name, value in items.items()
        if value is not None
    )
    return f"<dl>{rows}</dl>"


def render(
    folder: pathlib.Path,
    report: dict[str, Any],
    description: Description,
    captions: Mapping[str, str],
) -> str:
    """The page of a report.json.

    Args:
      folder: with its pictures.
      report: what it says.
      description: of the run.
      captions: by the names of the pictures, in their order on the page.
    """
    training, environment = report["config"]["training"], report["environment"]
    seconds = {
        name.removesuffix("_seconds"): progress.format_seconds(value)
        for name, value in report["wall_time"].items()
        if name in ("training_seconds", "evaluation_seconds")
    }
    facts = {
        "data": ", ".join(
            [
                *(report["data"][key] for key in ("title", "source") if key in report["data"]),
                f"sha256 {report['data']['sha256'][:16]}",
            ]
        ),
        "device": environment["device"],
        "machine": environment["machine"],
        "versions": ", ".join(f"{k} {v}" for k, v in environment["versions"].items()),
        **{f"time of {name}": value for name, value in seconds.items()},
    }
    parts = [
        f"<h1>{_text(description.title)}</h1>",
        f'<p class="note">{report["epochs"]:g} epochs, seed {training["seed"]}; aiwae_jax</p>',
        *(f'<p class="warning">{_text(line)}</p>' for line in _warnings(report)),
        _results(report),
        *(f'<p class="note">{_text(line)}</p>' for line in _notes(report, description)),
    ]
    if report.get("differs"):
        items = "".join(f"<li>{_text(line)}</li>" for line in report["differs"])
        parts.append(f"<h2>What differs from the paper's setting</h2><ul>{items}</ul>")
    parts += ["<h2>Pictures</h2>", _pictures(folder, report["pictures"], captions)]
    if description.command:
        parts += ["<h2>How to reproduce</h2>", f"<pre>{_text(description.command)}</pre>"]
    parts += [
        "<h2>Training</h2>",
        _definitions(training),
        "<h2>Evaluation</h2>",
        _definitions(report["config"]["evaluation"]),
        "<h2>Where it was made</h2>",
        _definitions(facts),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(description.title)}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )
