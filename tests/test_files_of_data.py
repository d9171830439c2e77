"""Files of every kind become data sets; what cannot is one line that names file, row and column."""

import contextlib
import gzip
import io
import json

import h5py
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aiwae_jax import data
from aiwae_jax.data import files
from aiwae_jax.data.readers import idx

CHANCE = np.random.default_rng(0)
REAL = CHANCE.normal(size=(20, 3)).astype(np.float32)
TABLE = "age,income,colour,ok\n" + "".join(
    f"{20 + i},{1.5 * i},{('red', 'blue')[i % 2]},{i % 3 == 0}\n" for i in range(20)
)


def put(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def whole(dataset, rows):
    """Whether both parts together are the rows, each once."""
    found = np.empty_like(rows)
    found[dataset.train_index], found[dataset.test_index] = dataset.train, dataset.test
    return np.array_equal(found, rows)


# ------------------------------------------------------------------------------------------- splits


def test_the_split_is_the_same_for_ever():
    train, test = data.split_rows(10, 0.3)
    np.testing.assert_array_equal(test, [2, 4, 8])  # recorded: runs of earlier versions need it
    np.testing.assert_array_equal(train, [0, 1, 3, 5, 6, 7, 9])


@pytest.mark.parametrize(
    ("num", "share", "num_test"), [(2, 0.01, 1), (2, 0.99, 1), (100, 0.25, 25)]
)
def test_each_part_has_a_row_at_least(num, share, num_test):
    train, test = data.split_rows(num, share)
    assert (len(train), len(test)) == (num - num_test, num_test)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(num))


def test_rows_that_are_drawn_for_testing_are_no_stretch_of_the_file():
    _, test = data.split_rows(10_000, 0.2)
    assert abs(test.mean() - 4999.5) < 4 * 10_000 / (12 * len(test)) ** 0.5
    assert abs(np.mean(np.diff(test) == 1) - 0.2) < 4 * (0.2 * 0.8 / len(test)) ** 0.5


@pytest.mark.parametrize("share", [0.0, 1.0, -1, float("nan"), 7])
def test_a_share_that_cannot_be_is_refused_before_the_file_is_read(share, tmp_path):
    with pytest.raises(ValueError, match="`test_share` must be above 0 and below 1, got"):
        data.from_file(put(tmp_path / "a.csv", "not looked at"), test_share=share)


# ------------------------------------------------------------------------------------------- arrays


def test_npy_and_npz_of_one_array_are_split(tmp_path):
    np.save(tmp_path / "a.npy", REAL)
    np.savez(tmp_path / "a.npz", x=REAL, labels=np.arange(20), columns=["a", "b", "c"])
    found = data.from_file(tmp_path / "a.npy", test_share=0.25)
    assert whole(found, REAL)
    assert len(found.test) == 5
    named = data.from_file(tmp_path / "a.npz", test_share=0.25)
    np.testing.assert_array_equal(named.test, found.test)
    np.testing.assert_array_equal(named.test_labels, named.test_index)
    assert named.columns == ("a", "b", "c")


def test_npz_that_is_split_stays_so(tmp_path):
    np.savez(tmp_path / "a.npz", train=REAL[:15], test=REAL[15:], test_labels=np.arange(5))
    found = data.from_file(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.test, REAL[15:])
    assert found.train_labels is None
    assert found.test_labels.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(data.DataError, match="has test data of its own; leave `test_share` out"):
        data.from_file(tmp_path / "a.npz", test_share=0.1)


def test_images_have_their_shape_and_levels_their_byte(tmp_path):
    for axes in ((4, 5), (4, 5, 3), (4, 5, 1)):
        levels = CHANCE.integers(0, 256, (20, *axes))
        np.save(tmp_path / "a.npy", levels)
        found = data.from_file(tmp_path / "a.npy")
        assert found.image_shape == (axes if axes[-1] == 3 else (4, 5))
        assert (found.train.dtype, found.kind) == (np.uint8, "grey")
        assert whole(found, levels.reshape(20, -1))


# ------------------------------------------------------------------------------------------- tables


def test_a_table_has_names_numbers_categories_and_bits(tmp_path):
    found = data.from_file(put(tmp_path / "people.csv", TABLE))
    assert found.name == "people"
    assert found.columns == ("age", "income", "colour", "ok")
    assert found.kinds_of_columns == ("counts", "real", "categories", "bits")
    assert found.categories == {"colour": ("blue", "red")}
    i = np.arange(20)
    assert whole(found, np.stack([20 + i, 1.5 * i, 1 - i % 2, i % 3 == 0], 1).astype(np.float32))
    labelled = data.from_file(tmp_path / "people.csv", label="colour")
    np.testing.assert_array_equal(labelled.train_labels, 1 - labelled.train_index % 2)
    assert labelled.columns == ("age", "income", "ok")
    assert "labels 0 blue, 1 red" in labelled.source


@pytest.mark.parametrize(
    ("text", "columns", "rows"),
    [
        ("1,2\n3,4.5\n", None, [[1, 2], [3, 4.5]]),
        ("a;b\r\n1;2\r\n3;4.5\r\n", ("a", "b"), [[1, 2], [3, 4.5]]),
        ("a\tb\n1\t2\n\n3\t4.5\n", ("a", "b"), [[1, 2], [3, 4.5]]),
        ("\ufeffa|b\n1|2\n3|4.5", ("a", "b"), [[1, 2], [3, 4.5]]),
        ('"a, b","c"\n"1","2"\n"3","4.5"\n', ("a, b", "c"), [[1, 2], [3, 4.5]]),
        ("1 2\n3  4.5\n", None, [[1, 2], [3, 4.5]]),
        (",a,b\n0,1,2\n1,3,4.5\n", ("a", "b"), [[1, 2], [3, 4.5]]),  # of pandas
        (",0,1,2\n0,1,2,9\n1,3,4.5,8\n", ("0", "1", "2"), [[1, 2, 9], [3, 4.5, 8]]),
        ("0,1,2\n1,2,9\n3,4.5,8\n", ("0", "1", "2"), [[1, 2, 9], [3, 4.5, 8]]),
        (",a,b\n0,1,u\n1,3,u\n", ("a", "b"), [[1, 0], [3, 0]]),
        ("a\n1\n3.5\n", ("a",), [[1], [3.5]]),
        ("1\n3.5\n", None, [[1], [3.5]]),
        ("a,b\n1e-3,-2\n+3,4.5\n", ("a", "b"), [[1e-3, -2], [3, 4.5]]),
        ("u,1.5\nv,2\nu,2\n", ("0", "1"), [[0, 1.5], [1, 2], [0, 2]]),
    ],
)
@pytest.mark.parametrize("is_packed", [False, True])
def test_text_of_many_hands_is_read(text, columns, rows, is_packed, tmp_path):
    content = gzip.compress(text.encode()) if is_packed else text.encode()
    path = put(tmp_path / ("a.csv.gz" if is_packed else "a.csv"), content)
    found = files.read(path)["all"]
    assert found.columns == columns
    np.testing.assert_array_equal(found.rows, rows)


def test_parquet_is_read_by_its_types(tmp_path):
    path = tmp_path / "a.parquet"
    columns = {
        "count": pa.array(range(20), pa.int16()),
        "share": pa.array(REAL[:, 0], pa.float32()),
        "ok": [i % 2 == 0 for i in range(20)],
        "colour": pa.array(["red", "blue"] * 10).dictionary_encode(),
        "size": ["s", "m"] * 10,
        "price": pa.array([i / 4 for i in range(20)], pa.float64()).cast(pa.decimal128(6, 2)),
    }
    pq.write_table(pa.table(columns), path)
    found = data.from_file(path)
    assert found.columns == tuple(columns)
    assert found.categories == {"colour": ("blue", "red"), "size": ("m", "s")}
    i = np.arange(20)
    expected = [i, REAL[:, 0], i % 2 == 0, 1 - i % 2, 1 - i % 2, i / 4]
    assert whole(found, np.stack(expected, 1).astype(np.float32))
    assert data.from_file(path, label="count").train_labels.dtype == np.int64


def anndata(path, *, encoding="csr_matrix"):
    """A file in the layout that anndata 0.7 and later write; its counts."""
    counts = CHANCE.poisson(0.7, (20, 6))
    parts = counts.T if encoding == "csc_matrix" else counts
    text = h5py.string_dtype()
    with h5py.File(path, "w") as file:
        matrix = file.create_group("layers/counts")
        matrix.attrs["encoding-type"], matrix.attrs["shape"] = encoding, counts.shape
        matrix["indptr"] = np.concatenate([[0], np.cumsum((parts > 0).sum(axis=1))])
        matrix["indices"] = np.nonzero(parts)[1].astype(np.int32)
        matrix["data"] = parts[parts > 0].astype(np.float32)
        file["X"] = np.log1p(counts).astype(np.float32)
        for frame, num, of in (("var", 6, "gene"), ("obs", 20, "cell"), ("raw/var", 6, "gene")):
            group = file.create_group(frame)
            group.attrs["_index"] = "_index"
            group["_index"] = np.array([f"{of}{i}" for i in range(num)], dtype=text)
        file["raw/X"] = 2 * counts
        file["obs/batch"] = np.arange(20) % 3
        file["obs/type/codes"] = (np.arange(20) % 2).astype(np.int8)
        file["obs/type/categories"] = np.array(["B", "T"], dtype=text)
    return counts


@pytest.mark.parametrize("encoding", ["csr_matrix", "csc_matrix"])
def test_h5ad_is_read_dense_and_sparse(encoding, tmp_path):
    counts = anndata(tmp_path / "cells.h5ad", encoding=encoding)
    found = data.from_file(tmp_path / "cells.h5ad", layer="counts", label="type")
    assert whole(found, counts)
    assert found.kind == "counts"
    assert found.columns == tuple(f"gene{i}" for i in range(6))
    np.testing.assert_array_equal(found.train_labels, found.train_index % 2)
    assert "labels 0 B, 1 T" in found.source
    dense = data.from_file(tmp_path / "cells.h5ad", label="batch")
    assert whole(dense, np.log1p(counts).astype(np.float32))
    np.testing.assert_array_equal(dense.test_labels, dense.test_index % 3)
    assert whole(data.from_file(tmp_path / "cells.h5ad", layer="raw"), 2 * counts)
    with pytest.raises(
        data.DataError, match=r"`layer`='spliced' must be one of .*; it has 'counts', 'raw'"
    ):
        data.from_file(tmp_path / "cells.h5ad", layer="spliced")
    with pytest.raises(
        data.DataError, match=r"`label`='age' must be a column of `obs` in .*; it has batch, type"
    ):
        data.from_file(tmp_path / "cells.h5ad", label="age")


def old_anndata(path, *, form):
    """A file in the layout that anndata wrote before 0.7; its counts."""
    counts = CHANCE.poisson(0.7, (20, 6))
    parts = counts.T if form == "csc" else counts
    with h5py.File(path, "w") as file:
        matrix = file.create_group("raw.X")
        matrix.attrs["h5sparse_format"], matrix.attrs["h5sparse_shape"] = form, counts.shape
        matrix["indptr"] = np.concatenate([[0], np.cumsum((parts > 0).sum(axis=1))])
        matrix["indices"] = np.nonzero(parts)[1].astype(np.int32)
        matrix["data"] = parts[parts > 0].astype(np.float32)
        file["X"] = np.log1p(counts).astype(np.float32)
        genes = [(f"gene{i}".encode(), i) for i in range(6)]
        file["var"] = file["raw.var"] = np.array(genes, [("index", "S9"), ("n", "i8")])
        cells = [(f"cell{i}".encode(), i % 3, i % 2) for i in range(20)]
        file["obs"] = np.array(cells, [("index", "S9"), ("batch", "i8"), ("type", "i1")])
        file["uns/type_categories"] = np.array([b"B", b"T"])
    return counts


@pytest.mark.parametrize("form", ["csr", "csc"])
def test_h5ad_of_old_is_read_too(form, tmp_path):
    counts = old_anndata(tmp_path / "cells.h5ad", form=form)
    found = data.from_file(tmp_path / "cells.h5ad", layer="raw", label="type")
    assert whole(found, counts)
    assert found.columns == tuple(f"gene{i}" for i in range(6))
    np.testing.assert_array_equal(found.train_labels, found.train_index % 2)
    assert "labels 0 B, 1 T" in found.source
    shown = data.from_file(tmp_path / "cells.h5ad", label="batch")
    assert whole(shown, np.log1p(counts).astype(np.float32))
    np.testing.assert_array_equal(shown.test_labels, shown.test_index % 3)
    with pytest.raises(data.DataError, match=r"`label`='age' must .*; it has batch, type\."):
        data.from_file(tmp_path / "cells.h5ad", label="age")


# ------------------------------------------------------------------------------------------- images


def draw(path, levels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.asarray(levels)).convert(mode).save(path)


def test_a_folder_of_images_is_read_in_the_order_of_names(tmp_path):
    levels = CHANCE.integers(0, 256, (20, 4, 5), dtype=np.uint8)
    for i, image in enumerate(levels):
        draw(tmp_path / ("cat", "dog")[i // 10] / f"{i:02}.png", image)
    (tmp_path / "notes.txt").write_text("no image")
    found = data.from_file(tmp_path)
    assert whole(found, levels.reshape(20, 20))
    assert found.image_shape == (4, 5)
    np.testing.assert_array_equal(found.test_labels, found.test_index // 10)
    assert "labels 0 cat, 1 dog" in found.source
    draw(tmp_path / "dog" / "99.png", levels[0].T)
    with pytest.raises(data.DataError, match=r"99.png is 5x4 of mode L, and .*00.png is 4x5 of mo"):
        data.from_file(tmp_path)
    (tmp_path / "dog" / "99.png").write_bytes((tmp_path / "cat" / "00.png").read_bytes()[:40])
    with pytest.raises(data.DataError, match=r"99.png cannot be read; it may be truncated"):
        data.from_file(tmp_path)


def test_colours_and_folders_that_are_split(tmp_path):
    levels = CHANCE.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
    for i, image in enumerate(levels):
        draw(tmp_path / ("train" if i < 4 else "test") / f"{i}.png", image)
    found = data.from_file(tmp_path)
    np.testing.assert_array_equal(found.train, levels[:4].reshape(4, -1))
    np.testing.assert_array_equal(found.test, levels[4:].reshape(2, -1))
    assert found.image_shape == (4, 5, 3)
    assert found.train_labels is None


def test_black_and_white_images_are_bits_and_transparent_ones_refused(tmp_path):
    for i in range(4):
        draw(tmp_path / f"{i}.png", CHANCE.integers(0, 2, (4, 5)).astype(bool))
    assert data.from_file(tmp_path).kind == "bits"
    draw(tmp_path / "5.png", np.zeros((4, 5, 4), np.uint8))
    with pytest.raises(
        data.DataError, match=r"5.png is of mode RGBA, and must be grey or of three"
    ):
        data.from_file(tmp_path)


# ---------------------------------------------------------------------------------------------- IDX


def idx_bytes(array, code=8):
    array = np.asarray(array)
    shape = np.array(array.shape, ">i4").tobytes()
    return bytes([0, 0, code, array.ndim]) + shape + array.astype(idx._DTYPES[code]).tobytes()


@pytest.mark.parametrize(("code", "dtype"), [(8, "u1"), (9, "i1"), (11, "i2"), (12, "i4")])
def test_idx_files_of_whole_numbers(code, dtype, tmp_path):
    info = np.iinfo(dtype)
    rows = CHANCE.integers(info.min, info.max, (20, 3, 4), dtype=dtype, endpoint=True)
    rows[0, 0, :2] = info.min, info.max
    path = put(tmp_path / "mine-images-idx3-ubyte.gz", gzip.compress(idx_bytes(rows, code)))
    is_rounded = dtype == "i4"
    with pytest.warns(match="in float32") if is_rounded else contextlib.nullcontext():
        found = data.from_file(path)
    assert whole(found, rows.reshape(20, -1).astype(np.float32))
    assert found.image_shape == (3, 4)


@pytest.mark.parametrize("code", [13, 14])
def test_idx_files_of_fractions(code, tmp_path):
    path = put(tmp_path / "mine-idx2-ubyte", idx_bytes(REAL, code))
    assert whole(data.from_file(path), REAL)


def test_a_folder_of_idx_files_has_its_own_split_and_labels(tmp_path):
    images, labels = CHANCE.integers(0, 256, (9, 3, 4)), np.arange(9)
    for part, of in (("train", slice(6)), ("t10k", slice(6, 9))):
        put(tmp_path / f"{part}-images-idx3-ubyte", idx_bytes(images[of]))
        put(tmp_path / f"{part}-labels-idx1-ubyte.gz", gzip.compress(idx_bytes(labels[of])))
    found = data.from_file(tmp_path)
    np.testing.assert_array_equal(found.test, images[6:].reshape(3, -1))
    np.testing.assert_array_equal(found.test_labels, [6, 7, 8])
    put(tmp_path / "emnist-train-images-idx3-ubyte", idx_bytes(images))
    with pytest.raises(data.DataError, match="has several IDX files of train-images"):
        data.from_file(tmp_path)


# ------------------------------------------------------------------------------------ what is wrong


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


BROKEN = {
    "empty": ("a.csv", "", "a.csv is empty"),
    "nothing but a line's end": ("a.csv", "\n\n", "a.csv is empty: it must hold rows"),
    "names alone": ("a.csv", "a,b\n", "has a line of names and no rows"),
    "a row": ("a.csv", "a,b\n1,2\n", "has one row; training and testing need one each"),
    "a word": (
        "a.csv",
        "a,b\n1,2\n3,x\n4,5\n",
        "a.csv, line 3, column 'b': 'x' is no number, as 1 of the 3 cells",
    ),
    "a missing number": (
        "a.csv",
        "a,b\n1,2\n3,\n4,NA\n",
        "a.csv, line 3, column 'b': the value is missing, and missing or infinite are 2 of 6; "
        "`missing`='at_random' .aiwae fit --missing=at_random. leaves such values out",
    ),
    "a missing word": ("a.csv", "a,b\nu,2\n,3\nv,4\nu,1", "line 3, column 'a': the value is missi"),
    "infinity": ("a.csv", "1,2\ninf,3\n", "a.csv, line 2, column 0: the value is infinite"),
    "nan in an array": ("a.npy", npy(REAL * [[1, np.nan, 1]]), "a.npy, row 0, column 1: the value"),
    "a short line": ("a.csv", "a,b\n1,2\n3\n", "line 3: it has 1 of the 2 cells"),
    "a long line": ("a.csv", "a,b\n1,2\n3,4,5\n", "line 3: it has 3 of the 2 cells"),
    "names of rows": ("a.csv", "id,b\nx,2\ny,3\nz,4\n", "column 'id' holds text, 3 different ones"),
    "decimal commas": (
        "a.csv",
        "a;b\n1,5;2\n2,5;3\n",
        "column 'a' holds numbers with a decimal co",
    ),
    "a name twice": ("a.csv", "a,a\n1,2\n3,4\n", "must differ from each other, got 'a' twice"),
    "another encoding": ("a.csv", b"\xff\xfea\x00", "a.csv is no text in UTF-8"),
    "a cut archive": ("a.csv.gz", gzip.compress(TABLE.encode())[:60], "truncated or corrupt"),
    "a cut npz": ("a.npz", npz(x=REAL)[:200], "a.npz cannot be read; it may be truncated"),
    "no npz": ("a.npz", b"hello", "a.npz cannot be read"),
    "objects": ("a.npy", npy(np.array([{}, 1], object)), "it holds Python objects"),
    "words": ("a.npy", npy(np.array([["a"], ["b"]])), "a.npy must hold numbers, got <U1"),
    "a vector": ("a.npy", npy(np.arange(5)), "must hold rows of at least one number"),
    "no rows": ("a.npy", npy(np.zeros((0, 3))), r"got shape \[0, 3\]"),
    "two arrays": ("a.npz", npz(x=REAL, y=REAL), "must hold `train` and `test` .* holds 'x', 'y'"),
    "a test alone": ("a.npz", npz(test=REAL), "must hold `train` and `test`"),
    "another width": (
        "a.npz",
        npz(train=REAL, test=REAL[:, :2]),
        "as many columns as `train`, got 2",
    ),
    "blank": ("a.npy", npy(np.ones((9, 3))), "`train` must not be blank"),
    "labels": ("a.npz", npz(x=REAL, labels=np.arange(4)), "labels must be 20 numbers"),
    "no parquet": ("a.parquet", b"hello there", "a.parquet cannot be read"),
    "no h5ad": ("a.h5ad", b"hello there", "a.h5ad cannot be read"),
    "no idx": ("a-idx3-ubyte", b"\x00\x01\x08\x03", "is no IDX file: .* begins with 0, 1, 8, 3"),
    "a cut idx": ("a-idx2-ubyte", idx_bytes(REAL)[:-1], "must be 72 bytes long .* and is 71"),
    "a packed cut idx": ("a-idx2-ubyte.gz", gzip.compress(idx_bytes(REAL))[:30], "truncated"),
    "another kind": ("a.docx", b"hello", "is of no kind that can be read; those are .npz, .npy"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_trained_on_is_one_line_that_names_the_file(case, tmp_path):
    name, content, message = BROKEN[case]
    with pytest.raises(data.DataError, match=message) as error:
        data.from_file(put(tmp_path / name, content))
    assert "\n" not in str(error.value)
    assert str(tmp_path / name) in str(error.value)


def test_what_is_not_there_or_not_of_that_kind_is_said(tmp_path):
    with pytest.raises(data.DataError, match="There is no file"):
        data.from_file(tmp_path / "a.csv")
    with pytest.raises(data.DataError, match=r"holds neither images nor IDX or \.npy files"):
        data.from_file(tmp_path)
    np.save(tmp_path / "a.npy", REAL)
    with pytest.raises(data.DataError, match=r"`label`='b': .* is of a kind without labels"):
        data.from_file(tmp_path / "a.npy", label="b")
    path = put(tmp_path / "a.csv", "1,2\n3,4\n")
    with pytest.raises(
        data.DataError, match=r"`label`='b' must be a column of .*; they have no names"
    ):
        data.from_file(path, label="b")


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    path = put(tmp_path / "a.parquet", b"hello")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(data.DataError, match=r"pip install 'aiwae_jax\[tables\]'"):
        data.from_file(path)


# --------------------------------------------------------------------------------- new rows, again


def test_new_rows_come_in_the_columns_and_codes_of_the_run(tmp_path):
    found = data.from_file(put(tmp_path / "a.csv", TABLE))
    put(tmp_path / "new.csv", "ok,colour,extra,age,income\ntrue,red,9,30,2\nfalse,red,9,31,2.5\n")
    options = {"columns": found.columns, "categories": found.categories}
    new = data.read_rows(tmp_path / "new.csv", **options)
    np.testing.assert_array_equal(new.rows, [[30, 2, 1, 1], [31, 2.5, 1, 0]])
    put(
        tmp_path / "one.csv",
        "name,note,age,income,colour,ok\nme,3,30,2,red,true\nyou,x,3,2,blue,true",
    )
    assert data.read_rows(tmp_path / "one.csv", **options).rows[:, 2].tolist() == [1, 0]
    table = pa.table({"name": ["me"], "ok": [True], "colour": ["red"], "income": [2], "age": [30]})
    pq.write_table(table, tmp_path / "one.parquet")
    new = data.read_rows(tmp_path / "one.parquet", **options, label="name")
    assert new.rows.tolist() == [[30, 2, 1, 1]]
    assert new.labels.tolist() == [0]
    put(
        tmp_path / "green.csv",
        "age,income,colour,ok\n1,2,green,true\n1,2,green,false\n3,4,red,true",
    )
    with pytest.raises(data.DataError, match="column 'colour' holds 'green', which is none of the"):
        data.read_rows(tmp_path / "green.csv", **options)
    put(tmp_path / "less.csv", "age,colour,ok\n1,red,true\n2,red,false\n")
    with pytest.raises(data.DataError, match="has no column 'income', one of the 4"):
        data.read_rows(tmp_path / "less.csv", **options)
    put(tmp_path / "narrow.csv", "1,2\n3,4\n")
    with pytest.raises(data.DataError, match="has 2 columns, and 4 are needed"):
        data.read_rows(tmp_path / "narrow.csv", **options)


def test_the_data_of_a_run_are_found_again_by_what_its_folder_says(tmp_path):
    path = put(tmp_path / "a.csv", TABLE)
    dataset = data.from_file(path, test_share=0.3, label="colour")
    described = json.loads(json.dumps(dataset.describe()))
    again = data.reload(described)
    assert again.differences(described) == []
    np.testing.assert_array_equal(again.test, dataset.test)
    path.rename(tmp_path / "b.csv")
    with pytest.raises(data.DataError, match=r"`where` must say where the data of the run, a, are"):
        data.reload(described)
    moved = data.reload(described, where=tmp_path / "b.csv")
    assert (moved.differences(described), moved.name) == ([], "a")
    put(tmp_path / "b.csv", TABLE.replace("20,", "99,"))
    assert data.reload(described, where=tmp_path / "b.csv").differences(described) != []
    digits = data.load("digits")
    assert data.reload(digits.describe()).differences(digits.describe()) == []


def test_the_data_of_earlier_versions_are_found_too(tmp_path):
    np.savez(tmp_path / "a.npz", train=REAL[:15], test=REAL[15:])
    described = data.from_file(tmp_path / "a.npz").describe()
    del described["origin"], described["kind"]
    described["source"] = str(tmp_path / "a.npz")
    assert data.reload(described).differences(described) == []
    old = {"name": "digits", "title": "digits", "sha256": data.load("digits").describe()["sha256"]}
    assert data.reload(old).differences(old) == []
