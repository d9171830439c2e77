"""Log evidences by this library and others: `PYTHONPATH=. python results/evidence/measure.py`.

`--without_rivals` runs ours alone, beside the rivals' numbers that `evidence.json` holds;
`--only=schools` the rows whose names hold that word. Rivals need `blackjax` and `tfp-nightly`, and
have as many gradient evaluations as ours took. Seconds are of the processor, compilations included.
"""

import argparse
import json
import pathlib

import jax
import ours
import references
import rivals
import table
import targets

from aiwae_jax.runs import files

_FOLDER = pathlib.Path(__file__).parent
_FOUND = _FOLDER / "evidence.json"
_SEED = 0


def measure(problem: targets.Problem, row: dict, *, with_rivals: bool) -> dict:
    """The row of one target, in which what is not measured again stays as it was."""
    key = jax.random.key(_SEED)
    row = {"name": problem.name, "reference": row.get("reference"), **row}
    if row["reference"] is None:
        row["reference"] = references.reference(problem.name)._asdict()
    row["ours"] = ours.by_default(key, problem)._asdict()
    if problem.scales is not None:
        row["by hand"] = ours.by_hand(key, problem)._asdict()
    for rival in rivals.RIVALS if with_rivals else ():
        found = rival(problem.target, problem.x, row["ours"]["num_gradients"])(key)
        row[rival.name] = found._asdict()
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
