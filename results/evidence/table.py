"""The page of `evidence.json`."""

import numpy as np

_METHODS = ("ours", "BlackJAX", "TFP", "more chains", "by hand")
_BEFORE = """# Evidences, beside two other libraries

Log evidences in nats of targets whose evidence is known, from their priors:
`evaluate.log_likelihood` at its defaults with 32 chains, BlackJAX's `adaptive_tempered_smc` and
TFP's `sample_annealed_importance_chain` (`tfp-nightly`), at equal numbers of gradient evaluations,
pilots included, in float32. ± is what each states: ours and TFP's a jackknife over chains,
BlackJAX's one over four populations, the reference's the difference of two grids or a standard
error. The first and the last table are of one run each; the second has the root mean square of the
errors of five runs, and of what they stated. `PYTHONPATH=. python results/evidence/measure.py`
makes this page anew, and with `--without_rivals` only ours.
"""
_AFTER = """
What it says: our stated errors are of the size of the errors, within a factor of 1.8 in every row;
BlackJAX's are up to 6 times too small where the posterior is sharp. Where the path is easy,
BlackJAX has the smaller errors: a single datum's pilots take a large part of our gradients, where
it has hundreds of particles. "more chains" are of ours, as many as five times the gradients by hand
are enough for, within a hundredth: there the aim for the sharp rows, an error of at most 0.1 nats,
is reached, as a root mean square of five runs.

What each had to be given, the same for all rows:

- ours: nothing but the number of chains. Starts without a `transport` are annealed in latent space.
- BlackJAX: HMC of 3 leapfrog steps, 5 moves at each temperature, effective sample size 0.5; the
  mass matrix from the weighted particles, the step size by `update_scale_from_acceptance_rate` to
  0.8; a pilot of 32 particles counts the temperatures, and so how many particles may be had, which
  is right within a tenth of the gradients.
- TFP: HMC of 3 leapfrog steps, evenly spaced temperatures, which are all it offers, a step size
  from seven by pilots. Its moves begin with the density and the gradient that the last temperature
  left behind.
- by hand: `ais.step` in float64 with temperatures in a geometric row and the known scale of each
  coordinate at each of them.

References: {references}.
"""


def _number(value: float) -> str:
    """With three decimals, or as a power of ten where nobody asks for them."""
    return f"{value:.3f}" if abs(value) < 1e5 else f"{value:.1e}"


def _cell(found: dict | None) -> str:
    """Estimate ± stated error, nats."""
    return f"{_number(found['value'])} ± {_number(found['error'])}" if found else ""


def _errors(found: dict | None) -> str:
    """Root mean square of the errors, and of the stated ones in brackets."""
    if not (found and "errors" in found):
        return ""
    actual, stated = (np.sqrt(np.mean(np.square(found[name]))) for name in ("errors", "stated"))
    return f"{_number(actual)} ({_number(stated)})"


def _rows(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def line(row: dict) -> str:
    """One row for the screen."""
    cells = [f"{name} {_cell(row[name])}" for name in ("reference", *_METHODS) if name in row]
    return f"{row['name']}: " + ", ".join(cells) + f" ({row['ours']['note']})"


def page(rows: list[dict]) -> str:
    """The whole page, Markdown.

    Args:
      rows: as `measure.measure` makes them.
    """
    estimates = [
        [
            *(row["name"], _cell(row["reference"]), _cell(row["ours"]), row["ours"]["note"]),
            *(_cell(row.get(name)) for name in _METHODS[1:]),
        ]
        for row in rows
    ]
    costs = []
    for row in rows:
        found = [row.get(name) for name in _METHODS]
        cells = [f"{f['num_gradients']:,}; {f['seconds']:.0f} s" if f else "" for f in found]
        costs.append([row["name"], *cells, *(f.get("note", "") if f else "" for f in found[1:3])])
    head = ["", "reference", "ours", "verdict", *_METHODS[1:]]
    cost_head = ["gradients; seconds", *_METHODS, "BlackJAX had", "TFP had"]
    errors = [[row["name"], *(_errors(row.get(name)) for name in _METHODS)] for row in rows]
    error_head = ["error, nats (stated)", *_METHODS]
    by = "; ".join(f"{row['name']}: {row['reference']['how']}" for row in rows)
    parts = [
        _BEFORE,
        _rows(head, estimates),
        _rows(error_head, errors),
        _rows(cost_head, costs) + _AFTER.format(references=by),
    ]
    return "\n".join(parts)
