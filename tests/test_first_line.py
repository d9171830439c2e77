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


# Names that by themselves look like values with a slip in them: numbers that do not rise.
UNLIKELY = "who,7,5,3"


def test_a_line_with_the_name_that_is_asked_for_is_of_names(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(f"{UNLIKELY}\n{VALUES}\n")
    with pytest.raises(data.DataError, match="line 1, column '0': 'who' is no number"):
        data.from_file(path)
    dataset = data.from_file(path, label="who")
    assert dataset.columns == ("7", "5", "3")
    assert dataset.test_labels.tolist() == (dataset.test_index + 0.5).tolist()
    content = data.read_rows(path, columns=["5", "who"])
    assert content.rows[:2].tolist() == [[0.25, 0.5], [1.25, 1.5]]
    assert len(content.rows) == 10


def test_a_number_that_is_asked_for_may_be_a_value(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(f"{VALUES}\n")
    with pytest.raises(data.DataError, match=r"`label`='0\.5' must be a column .* have no"):
        data.from_file(path, label="0.5")
    content = data.read_rows(path, columns=["0.5", "0", "0.25", "1"])  # of a run on other names
    assert len(content.rows) == 10
