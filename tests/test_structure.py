"""The house: who may look into which room, and that set-up and documents agree."""

import ast
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
LIBRARY = ROOT / "aiwae_jax"
# A room looks into rooms of lower floors, and of its own floor where that makes no circle.
FLOORS = [
    {
        *(
            "types",
            "info",
            "recipe",
            "weights",
            "distributions",
            "likelihoods",
            "networks",
            "convolutions",
            "checks",
            "support",
        ),
        *("fingerprint", "operations", "options", "parallel", "row_weights"),
    },
    {"moves", "forces", "paths", "schedules", "ais", "trees"},
    {
        *("samplers", "differentiable", "hamiltonian", "objectives", "scores", "methods"),
        "models",
    },
    {"data", "evaluate"},
    {"runs", "train"},
    {"report", "estimator", "bridges"},
    {"cli"},
]
# What the installation of the library alone brings; SciPy comes with JAX.
CORE_PACKAGES = {"jax", "flax", "optax", "numpy", "chex", "scipy", "absl", "aiwae_jax"}


def imports(path: pathlib.Path, *, top_level_only: bool = False) -> set[str]:
    """Dotted names of all modules that a file imports."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def modules() -> dict[str, pathlib.Path]:
    """The library's modules by their dotted names; a package has the name of its folder."""
    found = {}
    for path in LIBRARY.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def graph(*, top_level_only: bool) -> dict[str, set[str]]:
    """Module -> the library's modules that it imports, anywhere or when it is loaded."""
    known = modules()
    found = {}
    for name, path in known.items():
        wanted = imports(path, top_level_only=top_level_only)
        # `from a.b import c` names a module c, or something in the module a.b.
        found[name] = {n if n in known else n.rpartition(".")[0] for n in wanted}
        found[name] = {n for n in found[name] if n in known and n != "aiwae_jax"} - {name}
    del found["aiwae_jax"]
    return found


def test_every_room_looks_only_at_its_own_floor_and_below():
    floor_of = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    found = graph(top_level_only=False)
    assert {name.split(".")[1] for name in found} == set(floor_of)
    for name, others in found.items():
        for other in others:
            rooms = name.split(".")[1], other.split(".")[1]
            assert floor_of[rooms[1]] <= floor_of[rooms[0]], f"{name} looks up at {other}"
            assert rooms != ("runs", "train"), f"{name}: runs know nothing of training"


def test_no_modules_import_each_other_in_a_circle():
    """Packages' own faces aside, which gather what is in them."""
    found = graph(top_level_only=True)
    packages = {name for name, path in modules().items() if path.name == "__init__.py"}

    def rooms_of(name: str) -> set[str]:
        return {n for n in found[name] if not (n in packages and name.startswith(f"{n}."))}

    done, open_ = set(), []

    def visit(name: str) -> None:
        if name in done:
            return
        assert name not in open_, " -> ".join([*open_[open_.index(name) :], name])
        open_.append(name)
        for other in sorted(rooms_of(name)):
            visit(other)
        done.add(open_.pop())

    for name in found:
        visit(name)


def test_nothing_in_the_library_imports_the_experiments():
    for path in LIBRARY.rglob("*.py"):
        assert not any(name.startswith("experiments") for name in imports(path)), path


def test_the_library_needs_only_its_core_packages_to_be_imported():
    standard = sys.stdlib_module_names
    for path in LIBRARY.rglob("*.py"):
        tops = {name.split(".")[0] for name in imports(path, top_level_only=True)}
        assert tops - set(standard) <= CORE_PACKAGES, path


@pytest.mark.slow
def test_no_package_of_the_extras_is_loaded_by_importing_the_library():
    """Orbax and absl are no exception of ours: flax and chex bring them."""
    extras = ("matplotlib", "sklearn", "tensorflow_datasets", "tensorboardX", "scipy.io", "pooch")
    extras += ("pyarrow", "h5py", "PIL", "numpyro", "blackjax", "torch")
    code = (
        "import sys, aiwae_jax; [getattr(aiwae_jax, name) for name in aiwae_jax.__all__]\n"
        f"print([m for m in {extras} if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert found.stdout.strip() == "[]"


def test_importing_everything_touches_no_device():
    """Else the command line could no longer choose how many there are."""
    code = (
        "import jax, aiwae_jax, experiments.run, experiments.evaluate\n"
        "jax.config.update('jax_num_cpu_devices', 2)\nprint(jax.device_count())"
    )
    environment = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=environment,
    )
    assert found.stdout.strip() == "2"


def test_requirements_are_the_extras_of_setup():
    def specified(text):
        return set(re.findall(r'^\s*"?([A-Za-z_][\w-]*[>~]=[\d.]+)"?,?\s*$', text, re.MULTILINE))

    setup = (ROOT / "setup.py").read_text()
    listed = specified((ROOT / "requirements.txt").read_text())
    in_setup = set(re.findall(r'"([A-Za-z_][\w-]*[>~]=[\d.]+)"', setup))
    # Large, and needed only to have TFDS prepare a data set, to compare speeds, and by bridges; and
    # Jupyter, which only `make notebooks` needs.
    left_out = ("tensorflow>=", "torch>=", "blackjax>=", "pythae>=", "scvi-tools>=")
    left_out += ("tfp-nightly>=",)
    left_out += ("ipykernel>=", "ipywidgets>=", "jupytext>=", "nbclient>=")
    assert {name for name in in_setup if not name.startswith(left_out)} == listed


def test_files_stay_small_enough_to_read():
    for path in [*LIBRARY.rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 400, path


def test_no_address_of_this_or_that_machine_is_committed():
    listing = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT)
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    for name in listing.stdout.split():
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".txt", ".json"} or name == "Makefile":
            text = path.read_text()
            # Spelled in pieces, so that this file does not find itself.
            assert "/wo" + "rk/" not in text, name
            assert "/ro" + "ot/" not in text, name
