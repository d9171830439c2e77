"""Held-out likelihoods of cells' counts: `python results/tables/counts.py --file=PATH.h5ad`.

The file is `10x_pbmc68k_reduced.h5ad`, which comes with scanpy: 700 cells, 765 selected genes. It
holds logarithms of shares and no counts; these are recovered from it, and the program ends if any
does not come out whole. VAE, IWAE and AIWAE at equal cost, three seeds, beside one negative
binomial per gene by maximum likelihood on the training cells, each in two variants:

- log p(counts): of the 765 counts of a cell, given nothing;
- log p(counts | library): of the same counts, given the cell's total of these genes, to which means
  are proportional. It is an exposure: a distribution over all counts, those of other totals too.

Rows within a variant are of the same quantity and can be compared; those of the two cannot. A fifth
of the cells is held out for testing, a fifth of the others for validation, which ends each training
early (patience) and chooses the sizes for each method. NLLs in nats per cell, with standard errors
over the test cells; the gap is of data simulated from the model, with libraries of test cells.
"""

import argparse
import dataclasses
import json
import pathlib
from typing import NamedTuple

import h5py
import measure
import numpy as np
import scipy.optimize
import scipy.stats

from aiwae_jax import data, evaluate, likelihoods, models, train, types
from aiwae_jax.runs import files
from aiwae_jax.train import validation

_TOTAL = 1e4  # of all genes of a cell, to which the file's shares were scaled
_HALF_DIGIT = 0.5e-3  # the file's logarithms have three digits after the point
_VARIANTS = {False: "log p(counts)", True: "log p(counts | library)"}
_SIZES = ((2, (64,)), (5, (64,)), (10, (128,)))  # of latents, and of hidden layers
_AIWAE_EPOCHS = 100.0
_SETTINGS = evaluate.Settings(num_temperatures=100, num_chains=8)
_MOST_TEMPERATURES = 800
_TARGET_GAP = 0.1  # nats


class Recovered(NamedTuple):
    """Whole numbers behind the logarithms of a file.

    Attributes:
      counts: `[N, X]`.
      genes: X names.
      deviation: of counts from whole numbers, the largest.
      share: that of a count from its whole number, as a share of it, the largest.
      log_deviation: of the file's logarithms from those of whole numbers, the largest.
    """

    counts: np.ndarray
    genes: list[str]
    deviation: float
    share: float
    log_deviation: float


def recover(path: pathlib.Path) -> Recovered:
    """Recovers counts from log(1 + 10,000·count/total), by the totals of all genes in `obs`.

    The totals are not relied upon: shares over the smallest of their row must say the same.

    Raises:
      DataError: where the file's logarithms are not those of whole numbers, within its digits.
    """
    with h5py.File(path, "r") as file:
        sparse, totals = file["raw.X"], file["obs"]["n_counts"].astype(np.float64)
        shape = sparse.attrs["h5sparse_shape"]
        rows = np.repeat(np.arange(shape[0]), np.diff(sparse["indptr"][()]))
        logs = np.zeros(shape)
        logs[rows, sparse["indices"][()]] = sparse["data"][()]
        genes = [name.decode() for name in file["raw.var"]["index"]]
    units = _TOTAL / totals[:, None]
    found = np.expm1(logs) / units
    counts = np.rint(found)
    log_deviation = np.abs(np.log1p(counts * units) - logs).max()
    if log_deviation > _HALF_DIGIT + np.spacing(np.float32(logs.max())):
        raise data.DataError(f"{path}: its logarithms are {log_deviation:g} off whole counts.")
    smallest = np.where(logs > 0, np.expm1(logs), np.inf).min(1, keepdims=True)
    if not np.array_equal(np.rint(np.expm1(logs) / smallest), counts):
        raise data.DataError(f"{path}: its totals and the smallest shares of rows differ.")
    apart = np.abs(found - counts)
    share = (apart / np.maximum(counts, 1.0)).max()
    return Recovered(counts, genes, float(apart.max()), float(share), float(log_deviation))


def per_gene(rows: np.ndarray, test: np.ndarray, is_given: bool) -> np.ndarray:
    """NLL `[M]` of test cells by one negative binomial per gene, most likely for `rows`.

    Its mean is a number for each gene, or with a library that number times the library; scipy's
    formulas, none of this package.
    """
    libraries, test_libraries = (x.sum(1) if is_given else np.ones(len(x)) for x in (rows, test))
    nll = np.zeros(len(test))
    for column, test_column in zip(rows.T, test.T, strict=True):

        def nlls(logs, counts, exposures):
            log_mean, log_r = logs
            success = 1.0 / (1.0 + exposures * np.exp(log_mean - log_r))
            return -scipy.stats.nbinom.logpmf(counts, np.exp(log_r), success)

        found = scipy.optimize.minimize(
            lambda logs: nlls(logs, column, libraries).sum(),  # noqa: B023
            [np.log(column.sum() / libraries.sum()), 0.0],
            bounds=[(-30.0, 10.0), (-10.0, 12.0)],
            method="L-BFGS-B",
        )
        nll += nlls(found.x, test_column, test_libraries)
    return nll


def trained(
    name: str, model: types.Model, dataset: data.Dataset, seed: int, folder: pathlib.Path
) -> train.Run:
    """One training, with its early stopping."""
    return train.fit(
        measure.METHODS[name](model),
        model,
        dataset,
        folder,
        **{
            "epochs": measure.epochs_at_equal_cost(name, model, _AIWAE_EPOCHS),
            "batch_size": 32,
            "seed": seed,
            "learning_rate": 3e-3,
        },
        **{"lr_schedule": "constant", "ema": 0.99, "patience": 10},
        validation_share=measure.SHARE,
    )


def measured(run: train.Run, rows: np.ndarray, seed: int) -> dict:
    """As `measure.measure`, at twice the temperatures until the gap is small."""
    settings = _SETTINGS
    while True:
        found = measure.measure(run, rows, seed, settings, num_data=50)
        if found["gap"] <= _TARGET_GAP or settings.num_temperatures >= _MOST_TEMPERATURES:
            return found
        print(f"gap {found['gap']:.3f} at {settings.num_temperatures} temperatures", flush=True)
        settings = dataclasses.replace(settings, num_temperatures=2 * settings.num_temperatures)


def variant(
    is_given: bool, recovered: Recovered, folder: pathlib.Path, num_seeds: int
) -> list[dict]:
    """The table of one of the two quantities."""
    counts, names = recovered.counts.astype(np.float32), recovered.genes
    if is_given:
        counts, names = likelihoods.with_library(counts), [*names, "library"]
    of_cells = validation.split(len(counts), measure.SHARE)
    dataset = data.from_arrays(
        counts[of_cells.training],
        counts[of_cells.held_out],
        columns=names,
        name="pbmc",
        title="recovered counts, 765 selected genes",
        source="scanpy's 10x_pbmc68k_reduced.h5ad",
    )
    seen = validation.training_part(dataset, measure.SHARE).train
    built = {  # once, for all that share its compiled programs
        sizes: models.mlp_vae(
            len(names),
            sizes[0],
            likelihood=likelihoods.negative_binomial(library=is_given),
            hidden_sizes=sizes[1],
            mean=seen.mean(0),
        )
        for sizes in _SIZES
    }
    num_genes = len(recovered.genes)
    alone = per_gene(*(np.float64(x[:, :num_genes]) for x in (seen, dataset.test)), is_given)
    print(_VARIANTS[is_given])
    table = [measure.line("a negative binomial per gene", alone)]
    for name in measure.METHODS:

        def train_fn(sizes, seed, name=name):
            where = folder / ("library" if is_given else "counts") / name.replace(", ", "-")
            where = where / f"{sizes[0]}-{sizes[1]}-seed{seed}"
            return trained(name, built[sizes], dataset, seed, where)

        row, nll = measure.compare(
            name, _SIZES, train_fn, lambda run, seed: measured(run, dataset.test, seed), num_seeds
        )
        below, error = evaluate.mean_and_standard_error(alone - nll.mean(0))
        print(f"{'':28} {below:9.3f} ± {error:.3f}  below one per gene, cell by cell", flush=True)
        table.append(row | {"below_per_gene": below, "below_per_gene_se": error})
    return table


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=pathlib.Path, required=True)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("runs/tables"))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    recovered = recover(arguments.file)
    facts = recovered._replace(counts=list(recovered.counts.shape), genes=None)._asdict()
    facts |= {
        "largest": int(recovered.counts.max()),
        "zeros": float((recovered.counts == 0).mean()),
    }
    del facts["genes"]
    print(facts, flush=True)
    tables = {
        words: variant(is_given, recovered, arguments.folder / "pbmc", arguments.seeds)
        for is_given, words in _VARIANTS.items()
    }
    files.write_text(
        pathlib.Path(__file__).with_name("counts.json"),
        json.dumps({"recovered": facts} | tables, indent=1),
    )


if __name__ == "__main__":
    main()
