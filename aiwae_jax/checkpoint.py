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

from aiwae_jax import processes
from aiwae_jax.types import PyTree

NUM_KEPT = 2


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
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _flatten(tree: PyTree) -> dict[str, Any]:
    """Leaves by their path, so that a checkpoint does not depend on container classes."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


class _DamagedError(ValueError):
    """A checkpoint that can be read, but not to what was written."""


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
        content = {"names": sorted(flat), "facts": facts, "sha256": _digests(flat, facts)}
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
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"The checkpoint of step {step} could not be written below {self._folder} "
                f"({error}); earlier ones are intact."
            ) from error

    def latest_step(self) -> int | None:
        """The newest checkpoint's step, or None."""
        return self._manager.latest_step()

    def restore(self, template: PyTree) -> tuple[PyTree, dict[str, Any]] | None:
        """Reads the newest checkpoint that is whole.

        Args:
          template: a tree of JAX arrays, whose structure, shapes and devices are wanted.

        Returns:
          (tree, facts), or None where there is no checkpoint. A damaged newest one is passed over
          with a warning that names it; it is moved aside once another one has been read.

        Raises:
          CheckpointError: if none of the existing ones can be read, or the newest cannot be for a
            reason that may pass; nothing has been moved then.
        """
        with _quiet():
            steps, damaged = self._steps(), []
            for step in steps:
                restored = self._try_step(step, template)
                if restored is not None:
                    if self._is_owner and damaged:
                        self._move_aside(damaged)
                    return restored
                damaged.append(step)
        if steps:
            raise CheckpointError(
                f"None of the checkpoints below {self._folder} can be read; move that folder away "
                "to start from the beginning."
            )
        return None

    def _steps(self) -> list[int]:
        """Process 0's list, newest first: a shared disk may show another one elsewhere."""

        def read() -> bytes:
            self._manager.reload()
            return json.dumps(sorted(self._manager.all_steps(), reverse=True)).encode()

        return json.loads(processes.bytes_of_primary(read))

    def _try_step(self, step: int, template: PyTree) -> tuple[PyTree, dict[str, Any]] | None:
        """What a checkpoint holds; None, and a warning, where any process finds it damaged."""
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
        warnings.warn(
            f"The checkpoint {path} is damaged ({reason}); trying the one before it.", stacklevel=4
        )
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

    def _restore_step(self, step: int, template: PyTree) -> tuple[PyTree, dict[str, Any]]:
        flat = _flatten(template)
        abstract = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
            for name, leaf in flat.items()
        }
        args = self._ocp.args
        content = self._manager.restore(
            step, args=args.Composite(content=args.JsonRestore())
        ).content
        written = content.get("sha256", {})  # checkpoints of earlier versions have none
        if written and {*content["names"], "facts"} != written.keys():
            raise _DamagedError("its list of arrays is not what was written")
        if content["names"] != sorted(flat):
            raise CheckpointError(
                f"The checkpoint {self._folder / str(step)} holds other arrays than this run has: "
                "it is of another method, model or version of the program."
            )
        tree = self._manager.restore(
            step, args=args.Composite(tree=args.StandardRestore(abstract))
        ).tree
        read = _digests(tree, content["facts"]) if written else {}
        broken = [name for name in read if read[name] != written.get(name)]
        if broken:
            raise _DamagedError(f"{', '.join(broken)}: not what was written")
        leaves = [tree[name] for name in flat]
        return jax.tree.unflatten(jax.tree.structure(template), leaves), content["facts"]

    def close(self) -> None:
        """Releases Orbax's threads."""
        with _quiet():
            self._manager.close()
