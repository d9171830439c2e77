"""Conditions at the doors of data: columns and labels, put last, coded, and found in new rows."""

import json

import jax
import numpy as np
import pytest

from aiwae_jax import data
from aiwae_jax.cli import likelihood as cli
from aiwae_jax.data import DataError, conditions


def table(tmp_path, text, name="people.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def people(num=40):
    lines = [f"{20.5 + i},{('red', 'blue')[i % 2]},{1.5 * i},{3 + 2 * (i % 3)}" for i in range(num)]
    return "\n".join(["age,colour,income,grade", *lines])


def test_columns_of_a_table_stand_last_and_are_told_apart(tmp_path):
    dataset = data.from_file(table(tmp_path, people()), condition=("colour", "grade", "age"))
    assert dataset.columns == ("income", "colour", "grade", "age")
    assert dataset.condition == ("colour", "grade", "age")
    assert dataset.categories == {"colour": ("blue", "red"), "grade": ("3", "5", "7")}
    assert (dataset.num_given, dataset.num_modelled, dataset.kind) == (3, 1, "real")
    row, first = dataset.train[0], dataset.train_index[0]
    np.testing.assert_allclose(row, [1.5 * first, (first + 1) % 2, first % 3, 20.5 + first])
    *_, age = data.condition_of(dataset)
    standardized = age.inputs(dataset.train[:, 3])
    assert np.mean(standardized) == pytest.approx(0.0, abs=1e-5)
    assert np.std(standardized) == pytest.approx(1.0, abs=1e-5)
    assert conditions.shares(dataset, "colour").sum() == 1.0
    again = data.reload(dataset.describe())
    assert again.differences(dataset.describe()) == []
    assert dataset.describe()["condition"] == ["colour", "grade", "age"]
    assert dataset.modelled.columns == ("income",)
    with pytest.raises(DataError, match="has a condition already, colour, grade, age"):
        data.condition_on(dataset, "income")
    weighted = dataset._replace(train_weights=1.0 + 3.0 * dataset.train[:, 1])
    share = conditions.shares(dataset, "colour")[1]
    assert conditions.shares(weighted, "colour")[1] == 4 * share / (1 + 3 * share)


def test_another_condition_of_the_same_numbers_is_other_data():
    dataset = data.from_arrays(*np.arange(24.0).reshape(2, 4, 3), columns=["a", "b", "c"])
    one = data.from_arrays(dataset.train, dataset.test)._replace(condition=("c",))
    words = {"c": ("low", "high")}
    (found,) = one.differences(dataset._replace(columns=None).describe())
    assert found == "data: condition none there, c here"
    (found,) = dataset.differences(one.describe())
    assert found == "data: condition c there, none here"
    described = one._replace(categories=words).describe()
    there = json.loads(json.dumps(described))
    assert one._replace(categories=words).differences(there) == []
    (found,) = one._replace(categories={"c": ("high", "low")}).differences(there)
    assert found == "data: classes of 'c' low, high there, high, low here"
    (found,) = one.differences(there)
    assert found == "data: classes of 'c' low, high there, none here"


def test_labels_are_a_condition_of_images_and_only_pixels_become_bits():
    dataset = data.load("digits", condition="label")
    assert dataset.train.shape == (1438, 65)
    assert dataset.train.dtype == np.uint8
    np.testing.assert_array_equal(dataset.train[:, -1], dataset.train_labels)
    seen = np.asarray(dataset.batch_fn(jax.random.key(0), dataset.train[:50]))
    assert set(np.unique(seen[:, :-1])) == {0.0, 1.0}
    np.testing.assert_array_equal(seen[:, -1], dataset.train_labels[:50])
    mean = dataset.mean_image()
    assert mean[:-1].max() <= 1.0 < mean[-1]
    plain = data.load("digits")
    bits = plain.batch_fn(jax.random.key(0), plain.train[:50])
    np.testing.assert_array_equal(seen[:, :-1], bits)  # the same as without
    assert data.reload(dataset.describe()).differences(dataset.describe()) == []


def test_a_label_of_many_values_is_a_number():
    dataset = data.load("diabetes", condition="label")
    assert dataset.categories is None
    np.testing.assert_array_equal(dataset.train[:, -1], dataset.train_labels)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("size", "'size' must be a column, or 'label' of data with labels"),
        ("label", "and no labels"),
        ("colour,colour", "names a column twice"),
        ("age,colour,income,grade", "leaves no column to be modelled"),
    ],
)
def test_what_is_no_condition_is_refused(tmp_path, condition, words):
    with pytest.raises(DataError, match=words):
        data.from_file(table(tmp_path, people()), condition=condition)


def test_a_condition_is_never_missing_nor_new_nor_always_the_same():
    rows = np.random.default_rng(0).normal(size=(12, 3))
    rows[:, 2] = np.arange(12) % 2
    options = {"columns": ["a", "b", "c"], "condition": "c"}
    gaps = rows.copy()
    gaps[3, 2] = np.nan
    with pytest.raises(DataError, match="`train`, row 3: the condition 'c' is missing"):
        data.from_arrays(gaps[:8], rows[8:], missing="at_random", **options)
    other = rows.copy()
    other[9, 2] = 2
    with pytest.raises(DataError, match="`test`, row 1: the condition 'c' is '2'"):
        data.from_arrays(rows[:8], other[8:], **options)
    same = rows.copy()
    same[:, 2] = 1
    with pytest.raises(DataError, match="the same in every training row"):
        data.from_arrays(same[:8], same[8:], **options)
    gaps = rows.copy()
    gaps[3, 1] = np.nan
    found = data.from_arrays(gaps[:8], rows[8:], missing="at_random", **options)
    assert np.isnan(found.train[3, 1])
    with pytest.raises(DataError, match="`columns` must end with the `condition`"):
        data.check(found._replace(columns=("c", "b", "a")))
    with pytest.raises(DataError, match="codes below 2 of the classes"):
        data.check(found._replace(train=found.train + 1))


def test_new_rows_carry_their_condition_in_the_codes_of_the_run(tmp_path):
    dataset = data.from_file(table(tmp_path, people()), condition="colour,grade")
    options = {
        "columns": dataset.columns,
        "categories": dataset.categories,
        "condition": dataset.condition,
    }

    def read(text):
        return data.read_rows(table(tmp_path, text, "new.csv"), **options).rows.tolist()

    rows = read("grade,colour,age,income\n7,red,30,2.5\n3,blue,31,0\n")
    assert rows == [[30.0, 2.5, 1.0, 2.0], [31.0, 0.0, 0.0, 0.0]]
    with pytest.raises(DataError, match="no column 'grade'"):
        read("colour,age,income\nred,30,2.5\n")
    with pytest.raises(DataError, match="'green', which is none of the categories"):
        read("grade,colour,age,income\n7,green,30,2.5\n")
    with pytest.raises(DataError, match="'grade' is '4', which is none of the classes '3', '5'"):
        read("grade,colour,age,income\n4,red,30,2.5\n")
    options["missing"] = "at_random"
    with pytest.raises(DataError, match="line 3: the condition 'colour' is missing"):
        read("grade,colour,age,income\n7,red,30,2.5\n3,,31,0\n")


def test_labels_of_new_rows_become_their_condition(tmp_path):
    rows = np.random.default_rng(0).integers(0, 2, (30, 6)).astype(np.uint8)
    np.savez(tmp_path / "old.npz", rows=rows, labels=3 + np.arange(30) % 2)
    dataset = data.from_file(tmp_path / "old.npz", condition="label")
    assert dataset.categories == {"label": ("3", "4")}
    assert dataset.kind == "bits"
    np.savez(tmp_path / "new.npz", rows=rows[:2], labels=np.array([4, 3]))
    options = {"categories": dataset.categories, "condition": dataset.condition}
    found = data.read_rows(tmp_path / "new.npz", **options)
    np.testing.assert_array_equal(found.rows[:, -1], [1, 0])
    np.testing.assert_array_equal(found.rows[:, :-1], rows[:2])
    np.savez(tmp_path / "odd.npz", rows=rows[:2], labels=np.array([4, 5]))
    with pytest.raises(DataError, match="row 1: the condition 'label' is '5'"):
        data.read_rows(tmp_path / "odd.npz", **options)


def test_a_total_of_counts_stands_before_the_condition():
    counts = np.random.default_rng(0).poisson(4.0, (20, 3)) + 1
    rows = np.column_stack([counts, np.arange(20) % 2])
    names = ["x", "y", "z", "batch"]
    dataset = data.from_arrays(rows[:15], rows[15:], columns=names, condition="batch")
    found = cli.with_library(dataset)
    assert found.columns == ("x", "y", "z", "library", "batch")
    np.testing.assert_array_equal(found.train[:, 3], counts[:15].sum(axis=1))
    np.testing.assert_array_equal(found.train[:, 4], rows[:15, 3])
