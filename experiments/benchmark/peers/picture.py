"""Gap against seconds: `peers.png` from the content of `peers.json`."""

import pathlib
from typing import Any

from matplotlib import ticker

from aiwae_jax.report import style

_LOOKS = {
    "aiwae_jax": ("#b5179e", "o"),
    "BDMC script": ("#e07a1f", "^"),
    "TFP": ("#4361ee", "s"),
    "BlackJAX SMC": ("#2a9d8f", "D"),
}
_PANELS = {
    "gap": ("Bounds from both sides", "upper minus lower bound, nats"),
    "shortfall": ("From below only", "reference minus estimate, nats"),
}


@style.styled
def draw(content: dict[str, Any], path: pathlib.Path) -> None:
    """Draws the two panels, with the error of each mean over the images."""
    figure = style.figure(10.5, 4.6)
    axes = figure.subplots(1, 2, sharey=True)
    handles = {}
    values = [row["nats"] for row in content["rows"] if row["nats"] > 0]
    least = 0.5 * min(values, default=0.1)
    for axis, (kind, (title, label)) in zip(axes, _PANELS.items(), strict=True):
        rows = [row for row in content["rows"] if row["kind"] == kind]
        for name in dict.fromkeys(row["side"] for row in rows):
            _draw_side(axis, [row for row in rows if row["side"] == name], least, handles)
        axis.set(title=title, ylabel=label, xlabel="seconds, compilation not counted")
        axis.set(xscale="log", yscale="log")
        axis.grid(which="both", alpha=0.25)
        for of_axis in (axis.xaxis, axis.yaxis):
            of_axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
            of_axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            of_axis.set_minor_formatter(ticker.NullFormatter())
        axis.tick_params(labelleft=True)
    known = content["reference"]
    axes[1].axhspan(
        *(1e-9, max(known["half_gap"] + 2 * known["half_gap_se"], least)),
        color="#6c757d",
        alpha=0.15,
        lw=0,
    )
    handles["not resolved by the reference"] = axes[1].patches[-1]
    top = max((row["nats"] + row["standard_error"] for row in content["rows"]), default=1.0)
    axes[0].set_ylim(least * 0.8, 1.6 * max(top, least))
    figure.legend(
        handles.values(), handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9
    )
    figure.suptitle(
        f"One decoder, {content['num_data']} simulated images x {content['num_chains']} chains; "
        "below and left is better",
        fontsize=11,
    )
    figure.savefig(path, dpi=130)


def _draw_side(axis, rows: list[dict[str, Any]], least: float, handles: dict[str, Any]) -> None:
    """A line through the budgets of a side; what is not positive stands at the lower edge."""
    colour, marker = _LOOKS[rows[0]["program"]]
    is_from_prior = rows[0]["side"].endswith("prior")
    seconds = [row["seconds"] for row in rows]
    nats = [max(row["nats"], least) for row in rows]
    below = [min(row["standard_error"], 0.9 * y) for row, y in zip(rows, nats, strict=True)]
    handle = axis.errorbar(
        seconds,
        nats,
        yerr=[below, [row["standard_error"] for row in rows]],
        color=colour,
        marker=marker,
        ms=6,
        lw=2 if rows[0]["program"] == "aiwae_jax" else 1.5,
        ls="--" if is_from_prior else "-",
        mfc="white" if is_from_prior else colour,
        capsize=2,
    )
    handles.setdefault(rows[0]["side"], handle)
