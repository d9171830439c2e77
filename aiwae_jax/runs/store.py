"""Finished pieces of a long evaluation, as files: a kill costs the piece in hand, no more."""

import io
import pathlib
import shutil
from collections.abc import Iterator, MutableMapping

import numpy as np

from aiwae_jax import fingerprint
from aiwae_jax.parallel import processes
from aiwae_jax.runs import files

_DIGEST = "digest"  # of all other arrays of a piece


class FolderStore(MutableMapping):
    """Dicts of arrays by name, each an .npz file in `folder`, written whole or not at all.

    The folder is made, but not the run's own that it is in.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder

    def _path(self, name: str) -> pathlib.Path:
        return self._folder / f"{name}.npz"

    def _check_parent(self) -> None:
        if not self._folder.parent.is_dir():
            raise files.WorkdirError(
                f"{self._folder.parent} is gone: it was deleted or moved during the evaluation. "
                "Nothing more is written there."
            )

    def __getitem__(self, name: str) -> dict[str, np.ndarray]:
        files.check_file(self._path(name))
        try:
            content = self._path(name).read_bytes()
        except FileNotFoundError:
            self._check_parent()
            raise KeyError(name) from None
        try:
            arrays = files.load_arrays(content)
            if str(arrays.pop(_DIGEST)) == fingerprint.digest(arrays):
                return arrays
        except (OSError, *files.DAMAGED_ARRAYS):
            pass  # in memory there is no disk to fail
        self._path(name).unlink()  # damaged: it is made again
        raise KeyError(name)

    def __setitem__(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        self._check_parent()
        self._folder.mkdir(exist_ok=True)
        stored = {**arrays, _DIGEST: np.asarray(fingerprint.digest(dict(arrays)))}
        files.write_whole(self._path(name), lambda file: np.savez(file, **stored))

    def __delitem__(self, name: str) -> None:
        self._path(name).unlink()

    def __iter__(self) -> Iterator[str]:
        return (path.stem for path in sorted(self._folder.glob("*.npz")))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def clear(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)


class SharedStore(MutableMapping):
    """A store that process 0 keeps for all; what it has, the others get from it."""

    def __init__(self, store: FolderStore):
        self._store = store

    def __getitem__(self, name: str) -> dict[str, np.ndarray]:
        def read() -> bytes:
            file = io.BytesIO()
            try:
                np.savez(file, **self._store[name])
            except KeyError:
                return b""
            return file.getvalue()

        content = processes.bytes_of_primary(read)
        if not content:
            raise KeyError(name)
        return files.load_arrays(content)

    def __setitem__(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        processes.on_primary(lambda: self._store.__setitem__(name, arrays))

    def __delitem__(self, name: str) -> None:
        processes.on_primary(lambda: self._store.__delitem__(name))

    def __iter__(self) -> Iterator[str]:
        names = processes.bytes_of_primary(lambda: "\n".join(self._store).encode())
        return iter(names.decode().split())

    def __len__(self) -> int:
        return sum(1 for _ in self)
