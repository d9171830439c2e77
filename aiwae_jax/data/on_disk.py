"""Rows that stay in their files, of data larger than memory: read where and when they are needed.

Plain reads and no memory map: they need no address space, a file that was cut short is an error and
no signal, and what has been read is nobody's memory. A row is as its file has it but for its type,
bytes or float32, as it would be in memory; so are the SHA-256 and all that is looked at.
"""

import functools
import itertools
import os
import pathlib
import resource
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from aiwae_jax.data import finite, kinds, rounding
from aiwae_jax.data.errors import DataError

_CHUNK_BYTES = 8e6  # read at once where all rows are looked at
_MOST_SHARE = 0.25  # of the memory; loading holds a file's rows some times over


class _File(NamedTuple):
    """Rows in one file.

    Attributes:
      path: of the file.
      first: number of its first row, among those of all files.
      shape: `[N, ...]`.
      dtype: of its numbers.
      offset: bytes before the first row.
    """

    path: pathlib.Path
    first: int
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int


def _header(path: pathlib.Path, first: int) -> _File:
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            reader = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if reader is None:
                raise ValueError(f"of version {version}")
            shape, is_fortran, dtype = reader(file)
            found = _File(path, first, shape, dtype, file.tell())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read; it may be truncated or corrupt ({error}).") from (
            None
        )
    if dtype.kind not in "biuf" or len(shape) < 2 or 0 in shape:
        raise DataError(
            f"{path} must hold rows of at least one number each; got {dtype} of shape "
            f"{list(shape)}."
        )
    if is_fortran:
        raise DataError(
            f"{path} has its numbers column by column, and rows are read one by one: save it by "
            "numpy.ascontiguousarray, or read it with `in_memory`=True."
        )
    size = found.offset + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if path.stat().st_size != size:
        raise DataError(
            f"{path} must be {size:,} bytes long for its shape {list(shape)}, and is "
            f"{path.stat().st_size:,}: it is truncated or corrupt."
        )
    return found


class Rows:
    """Rows `[N, X]` of .npy files: `rows[3]`, `rows[5:9]` and `rows[[2, 7]]` read these alone.

    Attributes:
      shape: (N, X).
      dtype: bytes or float32.
    """

    ndim = 2

    def __init__(self, files: tuple[_File, ...], dtype: np.dtype, index: np.ndarray | None = None):
        """See `open_rows`."""
        self._files, self.dtype, self._index = files, np.dtype(dtype), index
        num_rows = files[-1].first + files[-1].shape[0] if index is None else len(index)
        self.shape = (num_rows, int(np.prod(files[0].shape[1:], dtype=np.int64)))

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes that they would be in memory."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def __array__(self, *_, **__) -> np.ndarray:
        raise DataError(
            f"All {len(self):,} rows of {self._files[0].path} are wanted at once, "
            f"{self.nbytes / 1e9:.3g} GB, and they were left on disk. Take some of them, "
            "rows[:1000] say, or read the file with `in_memory`=True (--in_memory)."
        )

    def __getitem__(self, which: Any) -> np.ndarray:
        """Reads rows: `[X]` of a number, `[n, X]` of a slice or of `[n]` numbers."""
        if isinstance(which, int | np.integer):
            return self[[which]][0]
        if isinstance(which, slice):
            numbers = np.arange(*which.indices(len(self)))
        else:
            numbers = np.asarray(which)
            if numbers.dtype == bool or numbers.ndim != 1:
                raise TypeError(
                    "Rows on disk are taken by a number, a slice, or a list of numbers."
                )
            numbers = numbers.astype(np.int64)
            numbers = np.where(numbers < 0, numbers + len(self), numbers)
            if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(self):
                raise IndexError(f"Rows must lie in 0 .. {len(self) - 1}.")
        return self._read(numbers if self._index is None else self._index[numbers])

    def take(self, index: np.ndarray) -> "Rows":
        """Those of some numbers, on disk as well."""
        index = np.asarray(index)
        return Rows(self._files, self.dtype, index if self._index is None else self._index[index])

    def chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        """(number of its first row, some rows), through all of them."""
        size = max(int(_CHUNK_BYTES / (self.shape[1] * self._files[0].dtype.itemsize)), 1)
        for first in range(0, len(self), size):
            yield first, self[first : first + size]

    def _read(self, numbers: np.ndarray) -> np.ndarray:
        """Rows by their numbers in the files, neighbours in one read."""
        found = np.empty((len(numbers), self.shape[1]), self._files[0].dtype)
        firsts = np.array([file.first for file in self._files])
        which = np.searchsorted(firsts, numbers, side="right") - 1
        for i in np.unique(which):
            file, mine = self._files[i], np.flatnonzero(which == i)
            mine = mine[np.argsort(numbers[mine], kind="stable")]
            own = numbers[mine] - file.first
            ends = [0, *(np.flatnonzero(np.diff(own) != 1) + 1).tolist(), len(own)]
            raw = np.empty((len(own), self.shape[1]), file.dtype)
            row_size = self.shape[1] * file.dtype.itemsize
            with file.path.open("rb", buffering=0) as opened:
                for start, end in itertools.pairwise(ends):
                    place = file.offset + int(own[start]) * row_size
                    _read_whole(opened, memoryview(raw[start:end]).cast("B"), place)
            found[mine] = raw
        with np.errstate(over="ignore"):  # what is too large is infinite, and refused
            return found.astype(self.dtype, copy=False)

    @functools.cached_property
    def values(self) -> kinds.Values:
        """What their numbers are, column by column."""
        return kinds.look_at(chunk for _, chunk in self.chunks())

    @functools.cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each column, `[X]` float64, of what is not NaN."""
        num, total, square = np.zeros((3, self.shape[1]))
        for _, chunk in self.chunks():
            there = np.count_nonzero(~np.isnan(chunk), axis=0)
            own = np.nansum(chunk, axis=0, dtype=np.float64)
            # Sums of squares around their means are joined as by Chan et al. 1983.
            apart = own / np.maximum(there, 1) - total / np.maximum(num, 1)
            around = chunk - own / np.maximum(there, 1)
            square += np.nansum(np.square(around, dtype=np.float64), axis=0)
            square += apart**2 * num * there / np.maximum(num + there, 1)
            num, total = num + there, total + own
        num = np.maximum(num, 1)
        return total / num, np.sqrt(square / num)

    def min(self) -> float:
        """The least number of all."""
        return float(np.nanmin(self.values.low))

    def max(self) -> float:
        """The largest one."""
        return float(np.nanmax(self.values.high))


def _read_whole(file: Any, into: memoryview, place: int) -> None:
    while into:
        num = os.preadv(file.fileno(), [into], place)
        if not num:
            raise DataError(f"{file.name} has become shorter than it was: it must stay as it is.")
        into, place = into[num:], place + num


def paths_of(path: pathlib.Path) -> list[pathlib.Path]:
    """A .npy file, or those of a folder in the order of their names; none of anything else."""
    if path.is_dir():
        return sorted(each for each in path.glob("*.npy") if not each.name.startswith("."))
    return [path] if path.suffix.lower() == ".npy" and path.is_file() else []


def are_left(path: pathlib.Path, in_memory: bool | None) -> bool:
    """Whether the rows of a file stay on disk: as it is said, or above a share of the memory.

    Raises:
      DataError: where it is asked of a file that is read whole.
    """
    found = paths_of(path)
    if in_memory is False and not found:
        raise DataError(
            f"`in_memory`=False is of .npy files, or a folder of them, whose rows are read one by "
            f"one; {path} is read whole. Save it by numpy.save."
        )
    if in_memory is not None:
        return not in_memory
    return sum(each.stat().st_size for each in found) > _MOST_SHARE * memory()


def memory() -> float:
    """Bytes that this process may have."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return physical if limit == resource.RLIM_INFINITY else min(physical, limit)


def open_rows(path: pathlib.Path, missing: str | None = None) -> tuple[Rows, tuple[int, ...]]:
    """All rows of a file or folder, looked at in one pass; and the shape that they are saved in.

    Args:
      path: a .npy file, or a folder of such.
      missing: as in `finite.check`.

    Raises:
      DataError: for what is no rows of numbers, with the place of the first that is none.
    """
    files: list[_File] = []
    for each in paths_of(path):
        first = files[-1].first + files[-1].shape[0] if files else 0
        files.append(_header(each, first))
        one, other = files[0], files[-1]
        if (one.shape[1:], one.dtype) != (other.shape[1:], other.dtype):
            raise DataError(
                f"{other.path} must hold rows like those of {one.path}, {one.dtype} of shape "
                f"{list(one.shape[1:])}; got {other.dtype} of shape {list(other.shape[1:])}."
            )
    dtype = files[0].dtype
    raw = Rows(tuple(files), dtype)
    rows = raw if dtype == np.uint8 else _looked_at(raw, str(path), missing)
    return rows, (len(rows), *files[0].shape[1:])


def _looked_at(raw: Rows, where: str, missing: str | None) -> Rows:
    """The same in the type that they would have in memory, all of them finite."""

    def through() -> Iterator[np.ndarray]:
        for first, chunk in raw.chunks():
            with np.errstate(over="ignore"):
                narrowed = chunk.astype(np.float32, copy=False)
            finite.check(narrowed, where, missing=missing, place_fn=_place_fn(first))
            yield chunk

    values = kinds.look_at(through())
    if rounding.are_bytes(values):
        rows = Rows(raw._files, np.uint8)
    else:
        size = max(abs(np.nanmin(values.low)), abs(np.nanmax(values.high)))
        if raw.dtype.itemsize > 2 and raw.dtype != np.float32 and size > rounding.EXACT:
            raise DataError(
                f"{where} holds {raw.dtype} up to {size:.6g}, and float32, in which rows are kept, "
                f"is exact up to {rounding.EXACT:,}: save as float32 what you want of them."
            )
        rows = Rows(raw._files, np.float32)
    rows.__dict__["values"] = values  # as `functools.cached_property` keeps it
    return rows


def _place_fn(first: int) -> Callable[[int], str]:
    return lambda row: f"row {first + row}"


def chunks_of(rows: Any) -> Iterator[tuple[int, np.ndarray]]:
    """(number of the first row, rows): all of an array, some at a time of what is on disk."""
    if isinstance(rows, Rows):
        yield from rows.chunks()
    else:
        yield 0, np.asarray(rows)


def some(rows: Any, index: np.ndarray) -> Any:
    """Some rows of an array as an array; of what is on disk they stay there."""
    return rows.take(index) if isinstance(rows, Rows) else np.asarray(rows)[index]
