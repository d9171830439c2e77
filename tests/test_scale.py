import json

import pytest
from test_run import TINY

from experiments import scale


def test_hosts_at_balance_is_where_the_exchange_takes_as_long_as_the_computation():
    seconds, num_bytes, link = 0.1, 1e6, (1e9, 1e-5)
    num = scale.hosts_at_balance(seconds, num_bytes, 4, link)
    assert seconds / num == pytest.approx(2 * num_bytes / link[0] + 4 * link[1])


@pytest.mark.slow
@pytest.mark.by_hand
def test_scaling_is_measured_and_written(tmp_path, capsys):
    path = tmp_path / "scale.json"
    sizes = [flag for flag in TINY if "eval" not in flag]
    arguments = ["scale", *sizes, "--K=2", "--T=3", "--rounds=1", f"--json={path}"]
    assert scale.main(arguments) == 0
    assert "| data:1 |" in capsys.readouterr().out
    found = json.loads(path.read_text())
    # Two decoder layers of 4, two heads of 2, and the same back, with biases.
    assert found["parameters"] == (2 * 4 + 4 + 4 * 4 + 4 + 4 * 64 + 64) + (
        64 * 4 + 4 + 4 * 4 + 4 + 2 * (4 * 2 + 2)
    )
    assert found["exchanges_per_step"] == 4
    assert found["meshes"]["data:1"]["speedup"] == 1.0
