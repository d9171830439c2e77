"""What values are: told from the numbers, and said where that is a guess."""

import numpy as np
import pytest

from aiwae_jax import data
from aiwae_jax.data import kinds

CHANCE = np.random.default_rng(0)
BITS = CHANCE.integers(0, 2, (30, 4))
SHADES = CHANCE.random((30, 4))
COUNTS = CHANCE.poisson(3.0, (30, 4))
REAL = CHANCE.normal(size=(30, 4))
LEVELS = np.concatenate([[[0, 255, 7, 9]], CHANCE.integers(0, 256, (29, 4))])


def dataset(rows, **options):
    return data.from_arrays(rows[:20], rows[20:], **options)


@pytest.mark.parametrize(
    ("rows", "options", "kind"),
    [
        (BITS, {}, "bits"),
        (BITS > 0, {}, "bits"),
        (BITS, {"columns": "abcd"}, "bits"),
        (BITS * 255, {"max_level": 255}, "grey"),
        (BITS, {"max_level": 1}, "bits"),
        (SHADES, {}, "grey"),
        (SHADES, {"columns": "abcd"}, "real"),
        (SHADES, {"columns": "abcd", "max_level": 1}, "grey"),
        (SHADES, {"image_shape": (2, 2)}, "grey"),
        (COUNTS, {}, "counts"),
        (COUNTS, {"image_shape": (2, 2)}, "grey"),
        (LEVELS, {}, "grey"),
        (LEVELS, {"columns": "abcd"}, "counts"),
        (COUNTS + 0.5, {}, "real"),
        (COUNTS - 9, {}, "real"),
        (REAL, {}, "real"),
        (REAL, {"image_shape": (2, 2)}, "real"),
        (BITS, {"columns": "abcd", "categories": dict.fromkeys("abcd", "xy")}, "categories"),
        (REAL * [0, 1, 1, 1], {"columns": "abcd", "categories": {"a": "xy"}}, "mixed"),
    ],
)
def test_the_kind_is_told_and_said(rows, options, kind):
    found = dataset(np.asarray(rows), **options)
    assert found.kind == kind
    assert found.describe()["kind"] == kind
    assert kinds.FITTING[kind] in found.in_words()


def test_test_rows_are_looked_at_too():
    assert data.from_arrays(BITS, COUNTS).kind == "counts"
    assert data.from_arrays(COUNTS, REAL).kind == "real"


def test_more_rows_than_are_looked_at_together():
    rows = np.zeros((kinds._CHUNK + 1, 2), np.float32)
    rows[0], rows[-1] = 1, (3, 0.5)
    values = kinds.look(rows)
    np.testing.assert_array_equal(values.high, [3, 1])
    np.testing.assert_array_equal(values.low, [0, 0])
    np.testing.assert_array_equal(values.is_whole, [True, False])


def test_missing_values_are_counted_and_say_nothing_else():
    rows = np.array([[0, np.nan], [1, np.nan], [np.nan, 1]])
    values = kinds.look(rows)
    np.testing.assert_array_equal(values.num_missing, [1, 2])
    assert kinds.kind_of(values) == "bits"
    assert "3 of them missing" in kinds.sentence("bits", values)


def test_every_column_of_a_mixed_table_has_a_kind():
    rows = np.stack([BITS[:, 0], COUNTS[:, 0], REAL[:, 0], BITS[:, 1]], axis=1)
    found = dataset(rows, columns=["a", "b", "c", "colour"], categories={"colour": ["red", "blue"]})
    assert found.kind == "mixed"
    assert found.kinds_of_columns == ("bits", "counts", "real", "categories")


def test_grey_levels_are_drawn_as_bits_only_where_that_is_asked():
    assert dataset(SHADES).max_level is None
    assert dataset(SHADES).as_bits().max_level == 1.0
    assert dataset(LEVELS).as_bits().max_level == 255.0
    assert dataset(COUNTS.clip(0, 16), image_shape=(2, 2)).as_bits().max_level == 16.0
    bits = dataset(BITS)
    assert bits.as_bits() is bits
    with pytest.raises(data.DataError, match=r"must hold bits or grey .* data has counts, whole"):
        dataset(COUNTS).as_bits()
