"""Log evidences by this library and others: `PYTHONPATH=. python results/evidence/measure.py`.

`--without_rivals` runs ours alone, beside the rivals' numbers that `evidence.json` holds;
`--only=schools` the rows whose names hold that word. Rivals need `blackjax` and `tfp-nightly`, and
have as many gradient evaluations as ours took. Seconds are of the processor, compilations included.
Each method runs with five keys: the page shows the first run, and the errors of all.
"""

import argparse
import json
import pathlib
from collections.abc import Callable

import chex
import jax
import ours
import references
import rivals
import table
import targets
from rivals import Estimate

from aiwae_jax.runs import files

_FOLDER = pathlib.Path(__file__).parent
_FOUND = _FOLDER / "evidence.json"
_SEEDS = range(5)


def of_all_seeds(method: Callable[[chex.PRNGKey], Estimate], reference: float) -> dict:
    """The first run of a method, with the errors of all of them and what each stated, nats."""
    found = [method(jax.random.key(seed)) for seed in _SEEDS]
    errors = {
        "errors": [each.value - reference for each in found],
        "stated": [each.error for each in found],
    }
    return found[0]._asdict() | errors


def measure(problem: targets.Problem, row: dict, *, with_rivals: bool) -> dict:
    """The row of one target, in which what is not measured again stays as it was."""
    row = {"name": problem.name, "reference": row.get("reference"), **row}
    if row["reference"] is None:
        row["reference"] = references.reference(problem.name)._asdict()
    exact = row["reference"]["value"]
    row["ours"] = of_all_seeds(lambda key: ours.by_default(key, problem), exact)
    if problem.scales is not None:
        row["more chains"] = of_all_seeds(lambda key: ours.with_more_chains(key, problem), exact)
        row["by hand"] = of_all_seeds(lambda key: ours.by_hand(key, problem), exact)
    for rival in rivals.RIVALS if with_rivals else ():
        run = rival(problem.target, problem.x, row["ours"]["num_gradients"])
        row[rival.name] = of_all_seeds(run, exact)
    return row


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a part of the names of rows")
    parser.add_argument("--without_rivals", action="store_true")
    arguments = parser.parse_args()
    rows = {row["name"]: row for row in json.loads(_FOUND.read_text())} if _FOUND.exists() else {}
    problems = targets.problems()
    for problem in problems:
        if arguments.only not in problem.name:
            continue
        row = measure(problem, rows.get(problem.name, {}), with_rivals=not arguments.without_rivals)
        print(table.line(row), flush=True)
        rows[problem.name] = row
        ordered = [rows[each.name] for each in problems if each.name in rows]
        files.write_text(_FOUND, json.dumps(ordered, indent=1))
        files.write_text(_FOLDER / "README.md", table.page(ordered))


if __name__ == "__main__":
    main()
