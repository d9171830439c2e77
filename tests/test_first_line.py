"""The first line of a table: names, or values with a slip in them."""

import pytest

from aiwae_jax import data

VALUES = "\n".join(f"{i}.5,{i % 3},{i}.25,{i % 2}" for i in range(10))


@pytest.mark.parametrize("first", ["x1.5,2,0.25,1", "1.5,2,O.25,1"])
def test_a_slip_among_the_values_of_the_first_line_is_refused_by_its_place(tmp_path, first):
    path = tmp_path / "mine.csv"
    path.write_text(f"{first}\n{VALUES}\n")
    with pytest.raises(data.DataError, match=r"line 1, column '[02]': '.*' is no number"):
        data.from_file(path)


@pytest.mark.parametrize("slip", ["x1,2,3,0", "7,O,5,3"])
def test_a_slip_among_whole_numbers_is_refused_too(tmp_path, slip):
    path = tmp_path / "mine.csv"
    rows = "\n".join(f"{i},{i + 1},{i % 3},{i + 3}" for i in range(10))
    path.write_text(f"{slip}\n{rows}\n")
    with pytest.raises(data.DataError, match=r"line 1, column .* is no number"):
        data.from_file(path)


@pytest.mark.parametrize(
    "first",
    ["a,b,c,d", "a,b,c,2020", "place,2019,2020,2021", "sample,400.5,401.0,401.5", "id,-1,0,1"],
)
def test_names_and_years_are_names(tmp_path, first):
    path = tmp_path / "mine.csv"
    path.write_text(f"{first}\n{VALUES}\n")
    dataset = data.from_file(path)
    assert dataset.columns == tuple(first.split(","))
    assert len(dataset.train) + len(dataset.test) == 10
