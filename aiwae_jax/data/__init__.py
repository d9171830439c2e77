"""Data sets: arrays, files and named sets, verified, and what their values are.

`from_arrays`, `from_file` and `load` make a `Dataset`. Whatever the way in, the content is looked
at, and a stand-in is named as one.
"""

from aiwae_jax.data.conditions import condition_of, condition_on
from aiwae_jax.data.dataset import DataError, Dataset, as_floats, binarize
from aiwae_jax.data.doors import check, from_arrays, with_weights
from aiwae_jax.data.fetching import cache_folder
from aiwae_jax.data.files import TEST_SHARE, from_file, split_rows
from aiwae_jax.data.finite import MISSING
from aiwae_jax.data.named import NAMES, load
from aiwae_jax.data.new_rows import read_rows
from aiwae_jax.data.readers import KNOWN as KNOWN_FILES
from aiwae_jax.data.reloading import reload

__all__ = [
    "KNOWN_FILES",
    "MISSING",
    "NAMES",
    "TEST_SHARE",
    "DataError",
    "Dataset",
    "as_floats",
    "binarize",
    "cache_folder",
    "check",
    "condition_of",
    "condition_on",
    "from_arrays",
    "from_file",
    "load",
    "read_rows",
    "reload",
    "split_rows",
    "with_weights",
]
