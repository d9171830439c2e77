"""Checkpoints of any pytree of arrays, through Orbax: written whole or not at all."""

import contextlib
import hashlib
import json
import logging
import os
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from aiwae_jax.parallel import processes
from aiwae_jax.runs import manifest
from aiwae_jax.types import PyTree

NUM_KEPT = 2
NARRATORS = ("absl", "asyncio")  # loggers of Orbax's threads, and of what they left undone


def _digests(flat: dict[str, Any], facts: dict[str, Any]) -> dict[str, str]:
    """SHA-256 of each array's content, and of the facts: a flipped bit is no valid checkpoint."""
    found = {}
    for name, leaf in flat.items():
        array = np.ascontiguousarray(processes.fetch(leaf))
        head = f"{array.dtype}{array.shape}".encode()
        found[name] = hashlib.sha256(head + array.tobytes()).hexdigest()
    found["facts"] = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return found


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written, read, or used for this run."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Orbax narrates every file, and each of its own threads' errors, which we raise."""
    loggers = [logging.getLogger(name) for name in NARRATORS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _flatten(tree: PyTree) -> dict[str, Any]:
    """Leaves by their path, so that a checkpoint does not depend on container classes."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


class _DamagedError(ValueError):
    """A checkpoint that can be read, but not to what was written."""


# What `jax_enable_x64` makes of a dtype in its other position.
_OF_OTHER_WIDTH = {
    **{f"{kind}32": np.dtype(f"{kind}64") for kind in ("float", "int", "uint")},
    **{f"{kind}64": np.dtype(f"{kind}32") for kind in ("float", "int", "uint")},
}


# What became of a checkpoint on the process that fared worst with it.
_READ, _DAMAGED, _UNREADABLE = range(3)
_NOT_THERE = (FileNotFoundError, NotADirectoryError)  # damage, where other `OSError`s may pass


def _outcome(error: Exception) -> int:
    """Whether a checkpoint is damaged, or cannot be read as things are: memory, devices, disk."""
    passing = (MemoryError, OSError, jax.errors.JaxRuntimeError)
    is_passing = isinstance(error, passing) and not isinstance(error, _NOT_THERE)
    return _UNREADABLE if is_passing else _DAMAGED


class Checkpoints:
    """The checkpoints of one run: the newest `NUM_KEPT`, each with a small dict of facts."""

    def __init__(self, folder: str | os.PathLike, *, is_owner: bool = False):
        """Opens the folder.

        Args:
          folder: of the checkpoints, which may not be there yet.
          is_owner: whether nobody else writes here, so that what a kill left half written may be
            removed, and damaged checkpoints moved aside (to `<step>.damaged`) and their steps saved
            again.
        """
        import orbax.checkpoint as ocp  # here, because the library itself does not need it

        self._ocp = ocp
        self._folder = pathlib.Path(folder).absolute()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=NUM_KEPT,
            enable_async_checkpointing=False,
            create=True,
            cleanup_tmp_directories=is_owner,
        )
        self._is_owner = is_owner
        with _quiet():
            self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(self, step: int, tree: PyTree, facts: dict[str, Any]) -> None:
        """Writes a checkpoint; earlier ones stay until it is complete.

        Raises:
          CheckpointError: if it could not be written; the earlier checkpoints are intact.
        """
        if step in self._manager.all_steps():
            return
        flat = _flatten(tree)
        content = {
            "names": sorted(flat),
            "arrays": {name: [str(leaf.dtype), list(leaf.shape)] for name, leaf in flat.items()},
            "facts": facts,
            "sha256": _digests(flat, facts),
        }
        try:
            with _quiet():
                is_saved = self._manager.save(
                    step,
                    args=self._ocp.args.Composite(
                        tree=self._ocp.args.StandardSave(flat),
                        content=self._ocp.args.JsonSave(content),
                    ),
                    force=True,
                )
                self._manager.wait_until_finished()
            if not is_saved:
                raise OSError("Orbax declined")
            if processes.is_primary():
                manifest.write(self._folder / str(step))
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"The checkpoint of step {step} could not be written below {self._folder} "
                f"({error}); earlier ones are intact."
            ) from error

    def latest_step(self) -> int | None:
        """The newest checkpoint's step, or None."""
        return self._manager.latest_step()

    def restore(
        self, template: PyTree, *, is_exact: bool = False
    ) -> tuple[PyTree, dict[str, Any]] | None:
        """Reads the newest checkpoint that is whole.

        Args:
          template: a tree of JAX arrays, whose structure, shapes, dtypes and devices are wanted.
          is_exact: whether arrays that were saved in other dtypes (with `jax_enable_x64` in the
            other position, say) are refused; by default they are cast, with a warning.

        Returns:
          (tree, facts), or None where there is no checkpoint. A damaged newest one is passed over
          with a warning that names it; it is moved aside once another one has been read.

        Raises:
          CheckpointError: if none of the existing ones can be read, or the newest cannot be for a
            reason that may pass, or holds other arrays than `template`; nothing has been moved
            then.
        """
        with _quiet():
            steps, damaged = self._steps(), []
            for step in steps:
                restored = self._try_step(step, template)
                if restored is not None:
                    tree = self._cast(step, restored[0], template, is_exact)
                    if self._is_owner and damaged:
                        self._move_aside(damaged)
                    return tree, restored[1]
                damaged.append(step)
        if steps:
            raise CheckpointError(
                f"None of the checkpoints below {self._folder} can be read; move that folder away "
                "to start from the beginning."
            )
        return None

    def read(self) -> tuple[int, dict[str, np.ndarray], dict[str, Any]] | None:
        """Reads the newest checkpoint that is whole, whatever is in it.

        Returns:
          (step, arrays by their names in the tree, facts), or None where there is no checkpoint.

        Raises:
          CheckpointError: if none of the existing ones can be read, or they are of a version that
            did not note what is in them.
        """
        with _quiet():
            steps = self._steps()
            for step in steps:
                try:
                    return step, *self._read_all(step)
                except CheckpointError:
                    raise
                except Exception as error:  # as in `_try_step`
                    path, reason = self._folder / str(step), type(error).__name__
                    if _outcome(error) == _UNREADABLE:
                        raise CheckpointError(
                            f"The checkpoint {path} cannot be read now ({error})."
                        ) from error
                    warnings.warn(f"The checkpoint {path} is damaged ({reason}).", stacklevel=3)
        if steps:
            raise CheckpointError(f"None of the checkpoints below {self._folder} can be read.")
        return None

    def _read_all(self, step: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        content, args = self._content(step), self._ocp.args
        if "arrays" not in content:
            raise CheckpointError(
                f"The checkpoint {self._folder / str(step)} does not say what is in it: it is of "
                "an earlier version, and read by the command that wrote it only."
            )
        wanted = {
            name: np.empty(shape, np.dtype(dtype))
            for name, (dtype, shape) in content["arrays"].items()
        }
        tree = self._manager.restore(
            step, args=args.Composite(tree=args.StandardRestore(wanted))
        ).tree
        if broken := self._broken(tree, content):
            raise _DamagedError(f"{', '.join(broken)}: not what was written")
        return {name: np.asarray(array) for name, array in tree.items()}, content["facts"]

    def _steps(self) -> list[int]:
        """Process 0's list, newest first: a shared disk may show another one elsewhere."""

        def read() -> bytes:
            self._manager.reload()
            return json.dumps(sorted(self._manager.all_steps(), reverse=True)).encode()

        return json.loads(processes.bytes_of_primary(read))

    def _try_step(self, step: int, template: PyTree) -> tuple[PyTree, dict[str, Any]] | None:
        """Reads a checkpoint; None, and a warning, where any process finds it damaged."""
        restored, failure = None, None
        try:
            restored = self._restore_step(step, template)
        except CheckpointError:
            raise
        except Exception as error:  # whatever Orbax's storage raises on damaged files
            failure = error
        outcome = processes.largest(_READ if failure is None else _outcome(failure))
        if outcome == _READ:
            return restored
        path = self._folder / str(step)
        reason = "by another process"
        if failure is not None:
            is_told = isinstance(failure, _DamagedError) or outcome == _UNREADABLE
            reason = failure if is_told else type(failure).__name__
        if outcome == _UNREADABLE:
            raise CheckpointError(
                f"The checkpoint {path} cannot be read now ({reason}); nothing has been changed."
            ) from failure
        message = f"The checkpoint {path} is damaged ({reason}); trying the one before it."
        warnings.warn(message, stacklevel=4)
        return None

    def _move_aside(self, steps: list[int]) -> None:
        def rename_all():
            for step in steps:
                number = 0
                while (target := self._folder / f"{step}.damaged{number or ''}").exists():
                    number += 1
                (self._folder / str(step)).rename(target)

        processes.on_primary(rename_all)
        self._manager.reload()

    def _content(self, step: int) -> dict[str, Any]:
        """Reads a checkpoint's facts, if its files are as they were written."""
        # First the files, because Orbax abandons reads at a damaged one, which end noisily.
        if differing := manifest.differing(self._folder / str(step)):
            raise _DamagedError(f"{', '.join(differing)}: not what was written")
        args = self._ocp.args
        content = self._manager.restore(
            step, args=args.Composite(content=args.JsonRestore())
        ).content
        written = content.get("sha256", {})  # checkpoints of earlier versions have none
        if written and {*content["names"], "facts"} != written.keys():
            raise _DamagedError("its list of arrays is not what was written")
        return content

    def _restore_step(self, step: int, template: PyTree) -> tuple[PyTree, dict[str, Any]]:
        """Restores arrays in the dtypes that they were saved in."""
        flat = _flatten(template)
        content = self._content(step)
        path = self._folder / str(step)
        arrays = content.get("arrays", {})  # those of earlier versions have none
        if content["names"] != sorted(flat) or any(
            tuple(shape) != flat[name].shape for name, (_, shape) in arrays.items()
        ):
            raise CheckpointError(
                f"The checkpoint {path} holds other arrays than this run has: "
                "it is of another method, model or version of the program."
            )
        dtypes = {name: np.dtype(dtype) for name, (dtype, _) in arrays.items()}
        tree = self._read(step, flat, dtypes)
        broken = self._broken(tree, content)
        if broken and not dtypes:
            dtypes = {name: _OF_OTHER_WIDTH.get(str(flat[name].dtype)) for name in broken}
            tree = self._read(step, flat, dtypes)
            broken = self._broken(tree, content)
        if broken:
            raise _DamagedError(f"{', '.join(broken)}: not what was written")
        leaves = [tree[name] for name in flat]
        return jax.tree.unflatten(jax.tree.structure(template), leaves), content["facts"]

    def _cast(self, step: int, tree: PyTree, template: PyTree, is_exact: bool) -> PyTree:
        """The arrays in the dtypes that are wanted, where these are others than the saved ones."""
        flat, wanted = _flatten(tree), _flatten(template)
        differing = [name for name in wanted if flat[name].dtype != wanted[name].dtype]
        if not differing:
            return tree
        dtype, here = (each[differing[0]].dtype for each in (flat, wanted))
        reason = (
            f"The checkpoint {self._folder / str(step)} was saved with {differing[0]} in {dtype}, "
            f"which is {here} in this process"
        )
        advice = "use the model in the dtype that it was trained in"
        if _OF_OTHER_WIDTH.get(str(dtype)) == here:
            is_on = bool(jax.config.jax_enable_x64)
            reason += f", because JAX_ENABLE_X64 is {'on' if is_on else 'off'}"
            advice = f"start it with JAX_ENABLE_X64={int(not is_on)}"
        if is_exact:
            raise CheckpointError(
                f"{reason}. Training continues to the very bit, or not at all: {advice}."
            )
        warnings.warn(f"{reason}; {len(differing)} of its arrays are cast.", stacklevel=3)

        def cast(array, leaf):
            if array.dtype == leaf.dtype:
                return array
            host = np.asarray(array).astype(leaf.dtype)
            return jax.make_array_from_callback(host.shape, leaf.sharding, lambda at: host[at])

        return jax.tree.map(cast, tree, template)

    def _read(
        self, step: int, flat: dict[str, jax.Array], dtypes: dict[str, np.dtype | None]
    ) -> dict[str, Any]:
        """The arrays in the `dtypes` that they were saved in, by default those of `flat`."""
        abstract = {}
        for name, leaf in flat.items():
            dtype = dtypes.get(name) or leaf.dtype
            # JAX may be told to know no 64 bits, but NumPy does.
            abstract[name] = (
                jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=leaf.sharding)
                if dtype == leaf.dtype
                else np.empty(leaf.shape, dtype)
            )
        args = self._ocp.args
        return self._manager.restore(
            step, args=args.Composite(tree=args.StandardRestore(abstract))
        ).tree

    @staticmethod
    def _broken(tree: dict[str, Any], content: dict[str, Any]) -> list[str]:
        """Names of what is not what was written, as far as that is known."""
        written = content.get("sha256", {})
        read = _digests(tree, content["facts"]) if written else {}
        return [name for name in read if read[name] != written.get(name)]

    def close(self) -> None:
        """Releases Orbax's threads."""
        with _quiet():
            self._manager.close()
