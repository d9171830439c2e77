"""Tests of settings whose fields are options."""

import dataclasses

import numpy as np
import pytest

from aiwae_jax import options


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of this test."""

    num_chains: int = options.option(16, help="Chains.", flag="chains", at_least=1, at_most=1_000)
    num_samples: int = options.option(100, help="Samples.", at_least=50, multiple_of=50)
    share: float = options.option(0.5, help="A share.", at_least=0, below=1)
    gap: float | None = options.option(None, help="Nats.", above=0)
    schedule: str = options.option("linear", help="Which.", choices=("linear", "sigmoid"))
    note: str = "no option"

    def __post_init__(self):
        options.check(self)


def test_options_are_the_fields_that_say_what_they_are():
    found = {field.name: said for field, said in options.options_of(Settings)}
    assert list(found) == ["num_chains", "num_samples", "share", "gap", "schedule"]
    assert found["num_chains"].flag == "chains"
    assert options.type_of(Settings, "gap") == (float, True)
    assert options.type_of(Settings, "num_chains") == (int, False)


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        ({"num_chains": 0}, ValueError, "`num_chains` must be at least 1, got 0"),
        ({"num_chains": 1001}, ValueError, "`num_chains` must be at most 1,000, got 1001"),
        ({"num_chains": 1e3}, TypeError, "`num_chains` must be an integer, got 1000.0; write 1000"),
        ({"num_chains": None}, TypeError, "`num_chains` must be an integer, got None"),
        ({"num_samples": 60}, ValueError, "must be a multiple of 50, got 60"),
        ({"share": 1.0}, ValueError, "`share` must be below 1, got 1.0"),
        ({"share": "a"}, TypeError, "`share` must be a number"),
        ({"gap": 0.0}, ValueError, "`gap` must be positive, got 0.0"),
        ({"gap": float("nan")}, ValueError, "`gap` must be finite, got nan"),
        ({"gap": float("inf")}, ValueError, "`gap` must be finite, got inf"),
        ({"schedule": "cubic"}, ValueError, "`schedule` must be one of linear, sigmoid; got 'cub"),
    ],
)
def test_what_an_option_excludes_is_refused_by_its_name(said, error, message):
    with pytest.raises(error, match=message):
        Settings(**said)


def test_numbers_become_pythons_own():
    made = Settings(num_chains=np.int64(3), share=np.float32(0.25))
    assert (type(made.num_chains), type(made.share)) == (int, float)
    assert Settings(gap=2.5).gap == 2.5
