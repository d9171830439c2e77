"""Labels beside the numbers of a report: words where the file of the data has words."""

import csv

import numpy as np
import pytest
from labelled import table
from test_contents import shown, write_run

from aiwae_jax import data
from aiwae_jax.report import contents, per_datum
from aiwae_jax.report.evaluation import Evaluation
from aiwae_jax.report.images import choose_images
from aiwae_jax.runs import files

WORDS = ["b", "a", "c", "a", "b", "b", "a", "c", "a", "b"]


def written(folder, words):
    """The rows of a per_datum.csv, made of an evaluation.npz as it is written and read again."""
    dataset = data.from_file(table(folder / "mine.csv", words), label="who")
    images = choose_images(dataset, Evaluation(num_examples=2, num_simulated=0))
    arrays = images.identity(dataset)
    arrays |= {f"nll_{part}": np.arange(2.0) for part in ("test", "train")}
    files.write_arrays(folder / "evaluation.npz", arrays)
    read = contents.read_evaluation(folder, shown(num_examples=2), per_datum.NEEDS)
    per_datum.write(folder, per_datum.NAMES[:1], read, dataset)
    with (folder / "per_datum.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "words", [WORDS, ["true", "false"] * 5, [str(2**60 + i) for i in range(10)]]
)
def test_every_datum_has_the_label_of_its_row_of_the_file(tmp_path, words):
    rows = written(tmp_path, words)
    assert [row["label"] for row in rows] == [words[int(row["row"])] for row in rows]
    assert len({row["row"] for row in rows}) == 4


def test_codes_without_names_are_those_of_an_earlier_version():
    arrays = {f"index_{part}": np.arange(2) for part in ("test", "train")}
    arrays |= {"label_test": np.array([1, 0]), "label_train": np.array([0, 0])}
    dataset = data.from_arrays(np.eye(2), np.eye(2), train_labels=[0, 1], label_names=["a", "b"])
    assert per_datum.columns(arrays, dataset)["label"].tolist() == [1, 0, 0, 0]
    arrays["label_names"] = np.array(["a", "b"])
    assert per_datum.columns(arrays, dataset)["label"].tolist() == ["b", "a", "a", "a"]
    del arrays["label_train"]
    assert per_datum.columns(arrays, dataset)["label"].tolist() == ["b", "a", None, None]


def test_labels_that_are_no_codes_of_their_names_are_refused(tmp_path):
    names = np.array(["a", "b"])
    for label, of_names, message in (
        ([0, 2, 1], names, "`label_test` must be codes of the 2 `label_names`"),
        ([0, -1, 1], names, "`label_test` must be codes of the 2 `label_names`"),
        ([0.5, 0, 1], names, "`label_test` must be codes of the 2 `label_names`"),
        ([0, 0, 1], np.arange(2), "`label_names` must be words"),
    ):
        more = {"label_test": np.array(label), "label_names": of_names}
        folder = write_run(tmp_path / "run", **more)
        with pytest.raises(files.WorkdirError, match=message):
            contents.read_evaluation(folder, shown(), ())
    for labels in ([0, 2], [0.0, 1.0]):
        with pytest.raises(data.DataError, match="`train_labels` must be codes 0 to 1 of the 2"):
            data.from_arrays(np.eye(2), np.eye(2), train_labels=labels, label_names=names)
