"""The paper's tables from runs: `python -m experiments.table --workdir=ROOT [--launch ...]`."""

import csv
import io
import pathlib
import sys
from collections.abc import Sequence

if not __package__:  # a script, from whatever folder: `python experiments/table`
    sys.path[0] += "/../.."

from absl import flags as absl_flags

from aiwae_jax import data
from aiwae_jax.cli import command
from aiwae_jax.cli import flags as cli
from aiwae_jax.runs import files
from experiments import flags, launch, pool
from experiments.table import collect, render


def _define(fv: absl_flags.FlagValues) -> None:
    absl_flags.DEFINE_string(
        "workdir", None, "Folder of the runs, at any depth below it.", flag_values=fv
    )
    absl_flags.DEFINE_string(
        "out",
        None,
        "Where the table goes, without suffix: .md, .csv and .tex are written. Default "
        "<workdir>/table.",
        flag_values=fv,
    )
    absl_flags.DEFINE_bool(
        "launch",
        False,
        "First runs the cells that --methods, --K and --T name and that are missing, cheapest "
        "first. Any other flag goes to experiments.run, for all cells alike.",
        flag_values=fv,
    )
    absl_flags.DEFINE_string("dataset", "digits", "Data set of the cells.", flag_values=fv)
    absl_flags.DEFINE_list(
        "methods", ["iwae", "aiwae"], "Methods, separated by commas.", flag_values=fv
    )
    absl_flags.DEFINE_list(
        "K", ["1", "5"], "Numbers of particles, separated by commas.", flag_values=fv
    )
    absl_flags.DEFINE_list(
        "T", ["5", "8", "11"], "Numbers of temperatures, for methods that anneal.", flag_values=fv
    )


def _files(out: pathlib.Path) -> list[pathlib.Path]:
    return [out.with_name(out.name + suffix) for suffix in (".md", ".tex", ".csv")]


def write(out: pathlib.Path, found: Sequence[collect.Table]) -> None:
    """Writes .md, .csv and .tex."""
    markdown, latex, comma_separated = _files(out)
    files.write_text(markdown, render.markdown(found))
    files.write_text(latex, render.latex(found))
    rows = collect.long_rows(found)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(comma_separated, text.getvalue())


@command.exit_codes
def main(argv: Sequence[str]) -> None:
    """Entry point."""
    fv = absl_flags.FlagValues()
    _define(fv)
    launch.define(fv)
    cli.define(fv)
    usage = "Collects reports into the paper's tables: python -m experiments.table --workdir=runs"
    for_runs = cli.parse(fv, argv, usage, known_only=True)
    cli.require(fv.workdir is not None, "--workdir is needed: the folder of the runs.")
    root = pathlib.Path(fv.workdir).expanduser().absolute()
    out = pathlib.Path(fv.out).expanduser() if fv.out else root / "table"
    for path in _files(out):
        files.prepare(path, "--out", is_dry_run=fv.dry_run)
    failed = []
    if fv.launch or fv.dry_run or fv.slurm is not None:
        for name in ("methods", "K", "T"):
            cli.require(bool(fv[name].value), f"--{name} must name at least one.")
        cli.require(
            not any(flag.startswith("--method=") for flag in for_runs),
            "--method: the methods of a table are --methods=iwae,aiwae.",
        )
        cells = launch.cells_of(fv.methods, fv.K, fv.T, launch.shared_flags(fv, for_runs))
        for cell in cells:
            flags.parse_run(["run", *cell])  # complains before anything is loaded
        dataset = data.load(fv.dataset, fv.data_dir)
        planned = launch.prepare(root, dataset, cells)
        failed = pool.carry_out(fv, root, planned, len(dataset.train))
        if failed is None:
            return
        if failed and not any(root.rglob("report.json")):
            raise files.WorkdirError(f"These cells failed: {', '.join(failed)}.")
        if planned[0].config.evaluation is None:
            print("--eval=none: there is nothing to put into a table")
            return
    else:
        cli.require(not for_runs, f"Unknown flag {for_runs and for_runs[0]} (--help lists them)")
        for name in ("dataset", "methods", "K", "T"):
            cli.require(
                not fv[name].present,
                f"--{name} says what to --launch; without it, all reports are shown.",
            )
    found = collect.tables(collect.read_reports(root))
    write(out, found)
    print(render.markdown(found))
    print(f"written: {out}.md, {out}.csv, {out}.tex")
    if failed:
        raise files.WorkdirError(f"These cells failed: {', '.join(failed)}.")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
