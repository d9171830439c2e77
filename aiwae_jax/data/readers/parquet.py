"""Parquet files: tables whose columns have types."""

import pathlib
from collections.abc import Sequence

from aiwae_jax.data.dataset import DataError
from aiwae_jax.data.readers import labels, needs, tables
from aiwae_jax.data.readers.content import Content


def read(
    path: pathlib.Path, *, label: str | None = None, only: Sequence[str] | None = None
) -> dict[str, Content]:
    """Reads a table, or `only` some of its columns; `label` is the one that holds labels.

    Raises:
      DataError: if it is no such file, or has columns that are neither numbers nor categories.
    """
    pa, compute, parquet = needs.modules(
        ("pyarrow", "pyarrow.compute", "pyarrow.parquet"), path, extra="tables"
    )
    try:
        table = parquet.read_table(path)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path} cannot be read; it may be truncated or corrupt ({reason})."
        ) from None
    if not table.num_rows:
        raise DataError(f"{path} has no rows.")
    names = [name for name in table.column_names if not name.startswith("__index_level_")]
    if only is not None:
        names = [name for name in names if name in only or name == label]
    made = [
        _column(pa, compute, path, name, table.column(name), is_label=name == label)
        for name in names
    ]
    return {"all": tables.content(path, made, label)}


def _column(pa, compute, path: pathlib.Path, name: str, values, *, is_label: bool) -> tables.Column:
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kind = values.type
    is_word = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if not (is_word or is_number or pa.types.is_boolean(kind)):
        raise DataError(
            f"{path}: column {name!r} holds {kind}, which is no number and no category; leave it "
            "out."
        )
    if is_label or is_word:
        coded = compute.dictionary_encode(values.combine_chunks())
        codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        words = coded.dictionary.to_pylist()
        if is_label:
            return tables.Column(name, *labels.coded(codes, words))
        return tables.coded(str(path), name, codes, words)
    is_whole = pa.types.is_integer(kind) and not values.null_count  # exact beyond 2^53, too
    numbers = values if is_whole else values.cast(pa.float64(), safe=False)
    return tables.Column(name, numbers.combine_chunks().to_numpy(zero_copy_only=False))
