"""The SHA-256 of every file of a folder, kept beside it: whether they are what was written."""

import contextlib
import hashlib
import json
import os
import pathlib

_ENDING = ".sha256.json"


def _path_of(folder: pathlib.Path) -> pathlib.Path:
    return folder.with_name(f".{folder.name}{_ENDING}")


def _sums(folder: pathlib.Path) -> dict[str, str]:
    sums = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                sums[str(path.relative_to(folder))] = hashlib.file_digest(
                    file, "sha256"
                ).hexdigest()
    return sums


def write(folder: pathlib.Path) -> None:
    """Notes what is in `folder` now, and forgets folders beside it that are gone.

    A disk that takes no more leaves the folder without a manifest.
    """
    path = _path_of(folder)
    temporary = path.with_name(f"{path.name}.part")
    with contextlib.suppress(OSError):
        temporary.write_text(json.dumps(_sums(folder)), encoding="utf-8")
        os.replace(temporary, path)
        for other in folder.parent.glob(f".*{_ENDING}"):
            if not (folder.parent / other.name[1 : -len(_ENDING)]).exists():
                other.unlink()


def differing(folder: pathlib.Path) -> list[str]:
    """Names of files that are missing, or not what was written; none where nothing was noted."""
    try:
        noted = json.loads(_path_of(folder).read_text(encoding="utf-8"))
        sums = _sums(folder)
        return [name for name, digest in noted.items() if sums.get(name) != digest]
    except (OSError, ValueError, AttributeError):  # no manifest, or a damaged one: it says nothing
        return []
