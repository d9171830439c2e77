"""Packaging: the library needs few packages, the command line needs the extra `run`."""

import pathlib

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
}

setuptools.setup(
    name="aiwae_jax",
    version="0.1.0",
    description="Annealed importance weighted auto-encoders in JAX",
    long_description=pathlib.Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=setuptools.find_packages(include=["aiwae_jax", "aiwae_jax.*"]),
    entry_points={"console_scripts": ["aiwae = aiwae_jax.cli.main:main"]},
    install_requires=CORE,
    extras_require=EXTRAS,
)
