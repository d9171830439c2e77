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
ALLOWED = {
    "types": set(),
    "weights": set(),
    "distributions": {"types"},
    "networks": {"types"},
    "forces": {"types"},
    "checks": {"types"},
    "hmc": {"checks", "types"},
    "discrete": {"checks", "distributions", "hmc", "types"},
    "kernels": {"discrete", "hmc", "types"},
    "schedules": {"checks"},
    "ais": {"checks", "forces", "hmc", "schedules", "weights", "types"},
    "sharding": {"types"},
    "support": {"types"},
    "processes": {"types"},
    "paths": {"distributions", "types"},
    "objectives": {"weights", "distributions", "types"},
    "hamiltonian": {"ais", "distributions", "hmc", "types"},
    "differentiable": {
        *("ais", "distributions", "hamiltonian", "hmc", "kernels"),
        *("networks", "paths", "weights", "types"),
    },
    "samplers": {
        *("ais", "checks", "distributions", "forces", "hmc", "kernels", "paths"),
        *("weights", "types"),
    },
    "scores": {"networks", "objectives", "weights", "types"},
    "flows": {"distributions", "networks", "types"},
    "models": {"checks", "distributions", "flows", "networks", "support", "types"},
    "belief": {"distributions", "models", "networks", "support", "types"},
    "manifest": set(),
    "methods": {"differentiable", "samplers", "scores", "objectives", "types"},
    "optimizers": {"types"},
    "watch": set(),
    "step": {"checks", "optimizers", "support", "types", "watch", "weights"},
    "loop": {"checks", "step", "types", "watch"},
    "train": {"loop", "optimizers", "step", "watch"},
    "population": {"ais", "kernels", "paths", "processes", "sharding", "weights", "types"},
    "verdicts": set(),
    "tuning": {
        *("checks", "hmc", "kernels", "paths", "population", "schedules", "types", "verdicts"),
    },
    "trial": {
        *("checks", "distributions", "kernels", "population", "processes"),
        *("support", "tuning", "types"),
    },
    "doors": {"checks", "kernels", "population", "schedules", "trial", "tuning", "types"},
    "fingerprint": {"types"},
    "likelihood": {
        *(
            "fingerprint",
            "checks",
            "doors",
            "population",
            "processes",
            "tuning",
            "verdicts",
            "types",
        ),
    },
    "cost": {"checks", "doors", "likelihood", "population", "tuning", "types"},
    "simulation": {"checks", "doors", "tuning", "types"},
    "bounds": {"checks", "likelihood", "simulation", "tuning", "types", "verdicts"},
    "variational": {
        *("checks", "doors", "population", "processes", "trial", "verdicts", "weights", "types"),
    },
    "evaluate": {"bounds", "cost", "likelihood", "simulation", "tuning", "variational"},
    "dataset": {"support"},
    "fetching": {"dataset"},
    "mnist": {"dataset", "fetching"},
    "omniglot": {"dataset", "fetching"},
    "data": {"dataset", "fetching", "mnist", "omniglot"},
    "grid": {"checks"},
    "paper": set(),
    "plots": set(),
    "metrics": set(),
    "checkpoint": {"manifest", "processes", "types"},
}
# What the installation of the library alone brings.
CORE_PACKAGES = {"jax", "flax", "optax", "numpy", "chex", "aiwae_jax"}


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


def library_imports(path: pathlib.Path) -> set[str]:
    names = imports(path)
    return {n.split(".")[1] for n in names if n.startswith("aiwae_jax.")}


def test_every_room_looks_only_where_it_may():
    found = {path.stem for path in LIBRARY.glob("*.py")} - {"__init__"}
    assert found == set(ALLOWED)
    for name, allowed in ALLOWED.items():
        assert library_imports(LIBRARY / f"{name}.py") <= allowed, name


def test_nothing_in_the_library_imports_the_experiments():
    for path in LIBRARY.glob("*.py"):
        assert not any(name.startswith("experiments") for name in imports(path)), path


def test_the_library_needs_only_its_core_packages_to_be_imported():
    standard = sys.stdlib_module_names
    for path in LIBRARY.glob("*.py"):
        tops = {name.split(".")[0] for name in imports(path, top_level_only=True)}
        assert tops - set(standard) <= CORE_PACKAGES, path


def test_no_package_of_the_extras_is_loaded_by_importing_the_library():
    """Orbax and absl are no exception of ours: flax and chex bring them."""
    extras = ("matplotlib", "sklearn", "tensorflow_datasets", "tensorboardX", "scipy.io")
    code = f"import sys, aiwae_jax; print([m for m in {extras} if m in sys.modules])"
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
    # Large, and needed only to have TFDS prepare a data set, and to compare speeds.
    left_out = ("tensorflow>=", "torch>=", "blackjax>=")
    assert {name for name in in_setup if not name.startswith(left_out)} == listed


def test_files_stay_small_enough_to_read():
    for path in [*LIBRARY.glob("*.py"), *(ROOT / "experiments").rglob("*.py")]:
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
