"""What is said of the package in several places agrees: version, changes, citation, container."""

import importlib
import inspect
import pathlib
import re
import subprocess
import sys

import yaml

import aiwae_jax

ROOT = pathlib.Path(__file__).parent.parent


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_the_newest_of_the_changes_and_what_is_cited():
    newest = re.search(r"^## (\d+\.\d+\.\d+)", read("CHANGELOG.md"), re.MULTILINE)[1]
    assert newest == aiwae_jax.__version__
    assert yaml.safe_load(read("CITATION.cff"))["version"] == aiwae_jax.__version__


def test_the_container_is_said_not_to_be_built_here():
    assert read("Dockerfile").startswith("# Not built here")


def functions_of(room):
    """(name, function) of all that a room offers: what is called, and methods of its classes."""
    for name in getattr(room, "__all__", [n for n in vars(room) if not n.startswith("_")]):
        thing = getattr(room, name)
        if getattr(thing, "__module__", "").startswith("aiwae_jax"):
            if inspect.isfunction(thing):
                yield f"{room.__name__}.{name}", thing
            elif inspect.isclass(thing):
                for own, method in vars(thing).items():
                    is_ours = getattr(method, "__module__", "").startswith("aiwae_jax")
                    if inspect.isfunction(method) and is_ours and not own.startswith("_"):
                        yield f"{room.__name__}.{name}.{own}", method


def test_every_argument_and_result_of_the_public_surface_has_a_type():
    rooms = [importlib.import_module(f"aiwae_jax.{n}") for n in aiwae_jax.__all__ if n != "load"]
    found = {name: each for room in rooms for name, each in functions_of(room)}
    assert len(found) > 200
    bare = set()
    for name, function in found.items():
        signature = inspect.signature(inspect.unwrap(function))
        parts = {
            n: p.annotation for n, p in signature.parameters.items() if n not in {"self", "cls"}
        }
        parts["return"] = signature.return_annotation
        bare |= {f"{name}: {part}" for part, type_ in parts.items() if type_ is signature.empty}
    assert not bare


def loaded_by(code):
    """Names of what is loaded in another process after `code`."""
    code += "\nimport sys; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return set(found.stdout.split())


def test_importing_waits_for_nothing_that_is_not_asked_for():
    assert not loaded_by("import aiwae_jax") & {"jax", "numpy", "flax", "optax", "scipy"}
    rooms = "import aiwae_jax; [getattr(aiwae_jax, name) for name in aiwae_jax.__all__]"
    here, needed = loaded_by(rooms), loaded_by("import jax, flax.nnx, optax, chex")
    packages, others = ({name.split(".")[0] for name in names} for names in (here, needed))
    assert packages - others - set(sys.stdlib_module_names) == {"aiwae_jax"}
    assert "scipy.special" not in here  # which takes longer than all of ours
