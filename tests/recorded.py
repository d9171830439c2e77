"""SHA-256 of what ten commands gave when they were recorded, for work that must not change a bit.

python -m pytest tests/test_recorded.py -m slow     compares, on the kind of machine that recorded
python tests/recorded.py                            records anew, after a change of numbers
"""

import hashlib
import json
import os
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
PATH = HERE / "recorded.json"

_SIZES = [
    *("--dataset=digits", "--epochs=0.14", "--batch_size=64"),  # three steps
    "--mesh=data:1",
]
_TINY = ["--latent_dim=2", "--hidden_dim=6"]
_NO_EVALUATION = ["--eval=none"]
COMMANDS = {
    "vae": ["--method=vae", *_TINY, *_NO_EVALUATION],
    "iwae planar": [
        *("--method=iwae", "--K=3", *_TINY, "--posterior=planar"),
        *_NO_EVALUATION,
    ],
    "aiwae": ["--method=aiwae", "--K=2", "--T=4", "--L=2", *_TINY, *_NO_EVALUATION],
    "aiwae base two_layer": [
        *("--method=aiwae", "--K=2", "--T=3", "--L=2", *_TINY, "--model=two_layer"),
        *("--chain_space=base", *_NO_EVALUATION),
    ],
    "aiwae_wake": ["--method=aiwae_wake", "--K=2", "--T=3", *_TINY, *_NO_EVALUATION],
    "rws": ["--method=rws", "--K=3", "--rws_phi=both", *_TINY, *_NO_EVALUATION],
    "dreg": ["--method=dreg", "--K=3", *_TINY, *_NO_EVALUATION],
    "uha": ["--method=uha", "--T=3", "--L=2", *_TINY, *_NO_EVALUATION],
    "vimco sbn": ["--method=vimco", "--K=3", "--model=sbn", "--layers=5,3", *_NO_EVALUATION],
    "evaluated": [
        *("--method=aiwae", "--K=2", "--T=3", "--L=2", *_TINY, "--eval_examples=6"),
        *("--eval_temperatures=20", "--eval_chains=2", "--eval_bound_samples=50"),
        "--eval_simulated=4",
    ],
}
_NUMBERS = (
    *("nll_test", "nll_train", "nvlb_test", "nvlb_train", "bidirectional_gap", "active_units"),
    *("nll_test_se", "bidirectional_gap_se"),
)


def machine() -> dict[str, str]:
    """What bits may depend on."""
    import jax
    import jaxlib

    from aiwae_jax.report import environment

    return {
        "processor": environment.processor(),
        "jax": f"{jax.__version__} {jaxlib.__version__}",
        "flags": os.environ.get("XLA_FLAGS", ""),
    }


def _sha(content) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def take(name: str, folder: pathlib.Path) -> dict[str, str]:
    """Runs a command in `folder`; the hashes of its parameters and of its report's numbers."""
    from experiments import run

    code = run.main(["run", *_SIZES, *COMMANDS[name], f"--workdir={folder}"])
    assert code == 0, name
    names = [path.name for path in (folder / "checkpoints").iterdir()]
    step = max((name for name in names if name.isdigit()), key=int)
    path = folder / "checkpoints" / step / "content" / "metadata"
    content = json.loads(path.read_text(encoding="utf-8"))
    found = {"state": _sha(content["sha256"] | {"facts": ""})}  # the facts have times
    if (folder / "report.json").exists():
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        found["numbers"] = _sha({key: report[key] for key in _NUMBERS})
    return found


def main() -> None:
    """Records."""
    sys.path.insert(0, str(HERE.parent))
    import conftest as conftest  # the tests' XLA flags

    hashes = {}
    for name in COMMANDS:
        with tempfile.TemporaryDirectory() as folder:
            hashes[name] = take(name, pathlib.Path(folder))
    content = {"machine": machine(), "hashes": hashes}
    PATH.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
