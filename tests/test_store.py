"""Finished pieces of an evaluation on a disk that may damage them."""

import numpy as np
import pytest

from aiwae_jax.runs import store


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_damaged_piece_is_made_again_whichever_of_its_bytes_it_is(share, tmp_path):
    pieces = store.FolderStore(tmp_path)
    pieces["a"] = {"x": np.arange(20.0), "y": np.ones(3)}
    (path,) = tmp_path.glob("*.npz")
    content = bytearray(path.read_bytes())
    for bit in range(8):
        damaged = bytearray(content)
        damaged[int(share * len(content))] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            found = pieces["a"]
        except KeyError:
            continue
        np.testing.assert_array_equal(found["x"], np.arange(20.0))
        np.testing.assert_array_equal(found["y"], np.ones(3))
