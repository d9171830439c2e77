"""`aiwae evaluate RUN`: the NLL of a run's test data, or of a file's rows, and nothing else."""

import dataclasses
import pathlib
from collections.abc import Sequence

from absl import flags as absl_flags

from aiwae_jax import data, evaluate, train
from aiwae_jax.cli import command, flags, likelihood, sources, using
from aiwae_jax.evaluate.target import STARTS
from aiwae_jax.options import check, option
from aiwae_jax.report import images, nll, text
from aiwae_jax.report.evaluation import Evaluation
from aiwae_jax.runs import files

_NAME = "evaluation.json"


@dataclasses.dataclass(frozen=True)
class Evaluating:
    """Which rows, and where the numbers go."""

    rows: str | None = option(
        None,
        help="File of new rows, all of which are measured in the place of the test data, as "
        "`aiwae score` reads it.",
    )
    label: str | None = option(None, help="Of --rows: the column that holds labels.")
    layer: str | None = option(None, help="Of --rows: of an .h5ad file one of its layers.")
    data: str | None = option(
        None, help="Where the run's own data are now, if not where it was trained from."
    )
    num_examples: int = option(
        0,
        flag="examples",
        help="Of the test data so many, those of `aiwae report` with the same number and seed. "
        "Default 0: all.",
        at_least=0,
    )
    out: str | None = option(
        None, help=f"File of the numbers, .json; by default {_NAME} in the run's folder."
    )
    start: str | None = option(
        None,
        choices=STARTS,
        help="What chains start from: q(z|x), the default where it is trained, or the prior.",
    )
    seed: int = option(
        0, at_least=0, below=2**32, help="Seed that chooses and binarizes rows, and tunes chains."
    )

    def __post_init__(self):
        check(self)


_OWN = flags.names_of(Evaluating)
_FLAGS = {
    **flags.names_of(evaluate.Settings, prefix="eval_"),
    **_OWN,
    **{"x": "rows", "where": "data", "dataset": "data"},
}


@command.exit_codes(names=_FLAGS)
def main(argv: Sequence[str]) -> None:
    """Entry point."""
    fv = absl_flags.FlagValues()
    flags.define_options(fv, Evaluating)
    flags.define_options(fv, evaluate.Settings, prefix="eval_")
    flags.define(fv)
    (folder,) = flags.parse(
        fv, argv, "NLL of test data, or of a file's rows: aiwae evaluate RUN", arguments=("RUN",)
    )
    asked = flags.make(fv, Evaluating)
    given = flags.given(fv, evaluate.Settings, prefix="eval_")
    run = train.load(folder)
    path = run.folder / _NAME if asked.out is None else pathlib.Path(asked.out).expanduser()
    flags.require(path.suffix == ".json", f"--out must end in .json, got {str(path)!r}.")
    files.prepare(path.absolute(), "--out")
    with flags.refusals(_FLAGS):
        settings = dataclasses.replace(run.settings, **given)
    more = {"num_examples": asked.num_examples, "num_simulated": 0, "seed": asked.seed}
    keys = images.keys_of(Evaluation.of(settings, **more))
    if asked.rows is None:
        dataset = _own_data(run, asked, fv.data_dir)
        share = run.config["training"].get("validation_share", 0.0)
        chosen = images.choose_images(dataset, Evaluation.of(settings, **more), share)
        rows, index = chosen.all_test, chosen.all_index
        if asked.num_examples:
            rows, index = chosen.test, chosen.test_index
        weights = None if dataset.test_weights is None else dataset.test_weights[index]
        what = f"{dataset.title}, test data"
    else:
        for_others = [name for name in ("data", "num_examples") if getattr(asked, name)]
        flags.require(
            not for_others,
            f"--{_OWN[(for_others or ['data'])[0]]} is of the run's own data, and --rows are "
            "others; leave one of them out.",
        )
        read = using.Rows(data=asked.rows, label=asked.label, layer=asked.layer).read(run)
        rows, what, weights = run.rows(read.rows, keys.test_pixels), str(asked.rows), None
        if run.config["data"].get("weights"):
            print(f"{what} is read without weights: means are plain, of rows that count alike")
    content = nll.write(
        *(path.absolute(), run, rows, settings),
        key=keys.tuning,
        weights=weights,
        start=asked.start,
        facts={"data": what},
    )
    print(f"{what}\n{nll.sentences(content, text.noun(run.config['data']))}\nnumbers: {path}")


def _own_data(run: train.Run, asked: Evaluating, data_dir: str | None) -> data.Dataset:
    """The data that the run was trained on, as its model sees them."""
    facts = run.config["data"]
    sources.say_reading(asked.data or (facts.get("origin") or {}).get("file"))
    dataset = data.reload(facts, where=asked.data, data_dir=data_dir)
    dataset = likelihood.as_trained(dataset, run.config)
    if differences := dataset.differences(facts):
        raise data.DataError(
            f"The data are not those that the run in {run.folder} was trained on "
            f"({'; '.join(differences)}); measure others by --rows=FILE."
        )
    return dataset
