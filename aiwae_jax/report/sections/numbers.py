"""All numbers with their errors, the paper's and the baselines' beside, and what they mean."""

from typing import Any

from aiwae_jax.report import markup, text
from aiwae_jax.report.markup import words
from aiwae_jax.report.sections.of_page import Page
from aiwae_jax.report.text import METRICS, Description, format_mean


def render(page: Page) -> str:
    """Tables and notes."""
    tables = metrics(page.report), baselines(page.report)
    beside = f'<div class="beside">{"".join(tables)}</div>'
    return markup.section(
        "numbers", "Numbers", beside, markup.notes(notes(page.report, page.description))
    )


def metrics(report: dict[str, Any]) -> str:
    """The table of metrics, with the paper's numbers where there are some."""
    cell = report.get("paper")
    rows = []
    for key, (name, with_error) in METRICS.items():
        ours = text.number(report[key], report[key + "_se"]) if with_error else report[key]
        row = [name, words(ours)]
        if cell:
            mean, std = cell[key]["mean"], cell[key]["std"]
            row += [format_mean(f"{mean:g}", std), f"{report[key] - mean:+.2f}"]
        rows.append(row)
    if "bits_per_dim" in report:
        ours = text.number(report["bits_per_dim"], report["bits_per_dim_se"], digits=3)
        rows.append([f"{text.BITS} (test)", ours, *[""] * (2 if cell else 0)])
    return markup.table(["", "this run", *(["paper", "difference"] if cell else [])], rows)


def baselines(report: dict[str, Any]) -> str:
    """The table of densities without latents."""
    if not report.get("baselines"):
        return ""
    rows = [
        [
            words(each["name"]),
            text.number(each["nll_test"], each["nll_test_se"]),
            text.number(each["difference"], each["difference_se"]),
        ]
        for each in report["baselines"]
    ]
    return markup.table(["without latents", "NLL (test)", "above this model"], rows)


def notes(report: dict[str, Any], description: Description) -> list[str]:
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
        lines.append(markup.sentence(weighted))
    if bound := text.bound_sentence(report, data):
        lines.append(markup.sentence(bound))
    lines += [markup.sentence(note) for note in description.notes]
    if "bidirectional_gap" in report:
        lines.append(
            "Bidirectional gap "
            f"{text.number(report['bidirectional_gap'], report['bidirectional_gap_se'], digits=3)} "
            "nats on "
            f"{report['bidirectional']['num_simulated']} {data} simulated from the model: what the "
            f"NLL may be too high by. Exact for simulated {data} only."
        )
    if report.get("baselines"):
        lines.append(
            f"Densities without latents were fitted to the training {data}; how far they lie above "
            f"this model is a mean over the same test {data}, and the best of them is chosen on "
            "these."
        )
    counts = {
        "moves rejected for a non-finite energy": facts["num_nonfinite_energies"],
        "chains of weight zero": facts["num_zero_weight_chains"],
    }
    lines += [f"{count} {name}." for name, count in counts.items() if count]
    return lines
