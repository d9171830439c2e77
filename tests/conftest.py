"""Strict JAX for every test: no silent dtype or rank promotion; warnings are errors (pyproject)."""

import gc
import importlib.metadata
import os
import pathlib
import signal
import sys
import tempfile
import threading

# Compiling is most of what the tests do: unoptimized code for tiny sizes saves half of it, and half
# of the rest goes without the CPU backend's newer emitters. XLA aborts at a flag that it does not
# know, hence only where the flag is known to be.
_FLAGS = "--xla_backend_optimization_level=0"
if importlib.metadata.version("jaxlib").startswith("0.10."):
    _FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", _FLAGS)
# Two workers have a core each; what needs several devices runs in a process of its own.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1")
# Programs that are the same in two tests, processes or runs are compiled once.
_CACHE = pathlib.Path(tempfile.gettempdir()) / f"aiwae_jax-tests-{os.getuid()}"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

# Numpy's products are small here: threads that wait for them would spin beside the other worker.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Tracing makes many objects that stay; looking for garbage among them as often as Python does by
# itself takes 3% of the time.
gc.set_threshold(20_000, 20, 50)

# A shell's background job ignores SIGINT, and what `nohup` starts SIGHUP: so would every process
# that a test interrupts.
for _signal, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_signal) == signal.SIG_IGN:
        signal.signal(_signal, _handler)

import jax
import pytest

_MOST_MAPS = 30_000
_EVERY_OTHER = 12  # of slow tests that are no grid, so many to one that a sample has
# Pages of documents whose examples train and measure for long.
_SLOW_PAGES = {
    "coming_from.md",
    "data_conditions.md",
    "data_missing.md",
    "data_weights.md",
    "evaluate.md",
    "sure.md",
    "train.md",
    "trained.md",
}

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_addoption(parser):
    parser.addoption(
        "--sample",
        type=int,
        default=1,
        metavar="N",
        help="of each test marked as a grid, run every Nth combination; above 1 leave out those "
        "marked by_hand, and of other slow tests run every twelfth",
    )


def _mark_all_but_few(items):
    """Marks cases as slow, but for so many, evenly spread, as the test's own mark says."""
    cases = {}
    for item in items:
        few = item.get_closest_marker("few")
        if few and not item.get_closest_marker("slow"):
            cases.setdefault((item.nodeid.split("[")[0], *few.args), []).append(item)
    for (_, num), of_test in cases.items():
        kept = {round(i * (len(of_test) - 1) / max(num - 1, 1)) for i in range(num)}
        for place, item in enumerate(of_test):
            if place not in kept:
                item.add_marker(pytest.mark.slow)


def pytest_collection_modifyitems(config, items):
    every = config.getoption("--sample")
    grids, others = {}, []
    left_out = []
    _mark_all_but_few(items)
    for item in items:
        if item.path.name in _SLOW_PAGES:
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("grid"):
            of_test = grids.setdefault(item.nodeid.split("[")[0], [])
            if len(of_test) % every:
                left_out.append(item)
            of_test.append(item)
        elif every > 1 and item.get_closest_marker("by_hand"):
            left_out.append(item)
        elif every > 1 and item.get_closest_marker("slow"):
            if len(others) % _EVERY_OTHER:
                left_out.append(item)
            others.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture(autouse=True, scope="module")
def _few_programs_at_once():
    """Compiled programs are dropped before their maps are as many as a process may have.

    A process that asks for more than `vm.max_map_count` of them, 65,530 of Linux, ends with a
    segmentation fault.
    """
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > _MOST_MAPS:
        jax.clear_caches()


@pytest.fixture
def real_data_dir() -> pathlib.Path:
    """The folder with the real files, named by AIWAE_DATA_DIR."""
    folder = os.environ.get("AIWAE_DATA_DIR")
    if not folder:
        pytest.skip("AIWAE_DATA_DIR is not set: no real MNIST and Omniglot files to test with")
    return pathlib.Path(folder)


@pytest.fixture(autouse=True)
def _hooks_of_a_program_end_with_the_test(monkeypatch):
    """A command that ends with an error silences what threads still have to say."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)


@pytest.fixture(autouse=True, scope="session")
def _reports_without_a_check():
    """Reports of tests look at no target before the work, which compiles for seconds.

    `test_target_check` tests the check itself, and the command in processes of its own has it.
    """
    from aiwae_jax.evaluate.findings import Check
    from aiwae_jax.report import measure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "check", lambda target, x: Check(()))
        yield


@pytest.fixture(autouse=True, scope="session")
def _pictures_are_coarse():
    """Nobody looks at the pictures of tests, whose words and pixels take most of their time."""
    from aiwae_jax.report import style

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "DPI", 40)
        patch.setattr(style, "LAYOUT", None)
        yield
