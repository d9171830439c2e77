"""Flags of an evaluation."""

from absl import flags as absl_flags

from aiwae_jax import evaluate, moves, networks, paths
from aiwae_jax.evaluate import tuning
from aiwae_jax.report.evaluation import Evaluation
from experiments.flags import common

_DIGITS_TEMPERATURES = 100
_SEARCH_FROM = 100  # temperatures
_SETTINGS = {  # flag -> field of the library's settings
    "eval_temperatures": "num_temperatures",
    "eval_chains": "num_chains",
    "eval_leapfrog_steps": "num_leapfrog_steps",
    "eval_schedule": "schedule",
    "eval_chain_space": "chain_space",
    "eval_persistence": "momentum_persistence",
    "eval_acceptance": "target_acceptance",
    "eval_move": "move",
}


_FLAGS_OF = {
    **{field: flag for flag, field in _SETTINGS.items()},
    "num_examples": "eval_examples",
    "num_simulated": "eval_simulated",
    "target_gap": "target_gap",
    "num_bound_samples": "eval_bound_samples",
}


def flag_of(field: str) -> str:
    """The flag that sets a field of `Evaluation`."""
    return _FLAGS_OF.get(field, f"eval_{field}")


def _values(settings: evaluate.Settings) -> dict[str, int | float | str]:
    """Values of the flags that describe these settings."""
    return {flag: getattr(settings, field) for flag, field in _SETTINGS.items()}


def define(fv: absl_flags.FlagValues) -> None:
    """Defines them."""
    absl_flags.DEFINE_enum(
        "eval",
        "default",
        ["default", "paper", "none"],
        "Evaluation settings: `paper` is 16 chains, 10 leapfrog steps, 10,000 linear temperatures "
        "in latent space, fresh momenta and all images (its time is printed before it starts); "
        "`none` trains only. The flags below override single settings.",
        flag_values=fv,
    )
    absl_flags.DEFINE_integer(
        "eval_temperatures",
        None,
        f"Number of inverse temperatures for the NLL, counting 0 and 1. Default 1000; "
        f"{_DIGITS_TEMPERATURES} on digits. With --target_gap the search begins here, by default "
        f"at {_SEARCH_FROM}.",
        flag_values=fv,
    )
    absl_flags.DEFINE_integer(
        "eval_chains",
        None,
        "Independent AIS chains per image for the NLL. Default 16.",
        flag_values=fv,
    )
    absl_flags.DEFINE_integer(
        "eval_leapfrog_steps",
        None,
        "Leapfrog steps per HMC move for the NLL. Default 3; the paper's 10. Of binary latents "
        "the proposals or sweeps of each move, by default 1.",
        flag_values=fv,
    )
    absl_flags.DEFINE_enum(
        "eval_schedule",
        None,
        list(tuning.SCHEDULES),
        "Temperatures: evenly spaced; dense at both ends; or placed on pilot chains so that every "
        "weight increment has the same variance. Default adaptive.",
        flag_values=fv,
    )
    absl_flags.DEFINE_enum(
        "eval_chain_space",
        None,
        list(paths.SPACES),
        "Where the chains move: `latent` moves z, as the paper; `base` moves the noise that q "
        "turns into z, so that q's standard deviations become the mass matrix. Default base; "
        "latent for binary latents.",
        flag_values=fv,
    )
    absl_flags.DEFINE_enum(
        "eval_move",
        None,
        list(moves.MOVES),
        "How chains move: hmc for continuous latents, for binary ones langevin (the default "
        "there), informed or gibbs.",
        flag_values=fv,
    )
    absl_flags.DEFINE_float(
        "eval_persistence",
        None,
        "Share in [0, 1) of its momentum that an HMC move keeps from the last one. Default 0.8, "
        "which lets few leapfrog steps do the work of many; the paper's 0 draws it anew.",
        flag_values=fv,
    )
    absl_flags.DEFINE_float(
        "eval_acceptance",
        None,
        "Acceptance that the step sizes are steered to. Default 0.8; the paper's 0.6, also of "
        "binary latents.",
        flag_values=fv,
    )
    absl_flags.DEFINE_enum(
        "eval_adapt",
        "pilot",
        list(tuning.ADAPT),
        "Step sizes: tuned on pilot chains and frozen; or `paper`, the authors' rule, adapted on "
        "the very chains that are reported, which biases them (needs --eval_schedule=linear).",
        flag_values=fv,
    )
    absl_flags.DEFINE_integer(
        "eval_examples",
        None,
        "Images evaluated from the test set, and as many from the training set, drawn by the "
        "evaluation seed; 0 means all test images. Default 200.",
        flag_values=fv,
    )
    absl_flags.DEFINE_integer(
        "eval_simulated",
        50,
        "Images simulated from the model, on which the NLL's settings are checked in both "
        "directions; the gap between the two bounds is reported. 0 leaves it out.",
        flag_values=fv,
    )
    absl_flags.DEFINE_float(
        "target_gap",
        None,
        "Raises the number of temperatures until the bidirectional gap, upper end of its 95% "
        "interval, is at most this many nats; measures it again on fresh simulated images; and "
        "evaluates the real images at that setting.",
        flag_values=fv,
    )
    absl_flags.DEFINE_integer(
        "eval_bound_samples",
        5000,
        "K of the variational bound L_K: NVLB = -L_5000 in the paper. A multiple of 50.",
        flag_values=fv,
    )
    absl_flags.DEFINE_integer(
        "eval_seed",
        0,
        "Seed that chooses and binarizes the evaluated images, once, and drives the chains.",
        flag_values=fv,
    )
    absl_flags.DEFINE_enum(
        "eval_force_precision",
        "float32",
        list(networks.PRECISIONS),
        "Precision of the gradients inside HMC; energies and weights stay fp32, so that the "
        "estimate stays unbiased.",
        flag_values=fv,
    )


def check(fv: absl_flags.FlagValues) -> None:
    """Raises UsageError for flags that can be right for no run."""
    common.check_at_least("eval_temperatures", fv.eval_temperatures, 2)
    common.check_at_least("eval_chains", fv.eval_chains, 1)
    common.check_at_least("eval_leapfrog_steps", fv.eval_leapfrog_steps, 1)
    common.check_seed("eval_seed", fv.eval_seed)
    for name in ("eval_examples", "eval_simulated"):
        value = fv[name].value
        common.require(
            value is None or value == 0 or value >= 2,
            f"--{name} must be 0 ({'all' if name == 'eval_examples' else 'none'}) or at least 2, "
            f"got {value}.",
        )
    common.require(
        fv.eval_bound_samples >= 50 and fv.eval_bound_samples % 50 == 0,
        f"--eval_bound_samples must be a positive multiple of 50, got {fv.eval_bound_samples}.",
    )
    common.require(
        0.0 <= (fv.eval_persistence or 0.0) < 1.0,
        f"--eval_persistence must be at least 0 and below 1, got {fv.eval_persistence}.",
    )
    common.require(
        0.0 < (0.5 if fv.eval_acceptance is None else fv.eval_acceptance) < 1.0,
        f"--eval_acceptance must lie between 0 and 1, got {fv.eval_acceptance}.",
    )
    if fv.target_gap is not None:
        common.require(fv.target_gap > 0.0, f"--target_gap must be positive, got {fv.target_gap}.")
        common.require(
            fv.eval_simulated > 0 and fv.eval_adapt == "pilot",
            "--target_gap needs --eval_simulated > 0 and --eval_adapt=pilot.",
        )


def parse(fv: absl_flags.FlagValues, dataset: str, *, is_binary: bool = False) -> Evaluation | None:
    """The evaluation that the flags describe; None for `none`.

    Args:
      fv: the flags.
      dataset: whose defaults are taken.
      is_binary: whether latents are binary, which have defaults of their own.

    Raises:
      common.UsageError: for one that cannot be run.
    """
    check(fv)
    if fv.eval == "none":
        return None
    settings = evaluate.BINARY_SETTINGS if is_binary else evaluate.Settings(chain_space="base")
    defaults = _values(settings) | {"eval_examples": 200}
    if dataset == "digits":
        defaults["eval_temperatures"] = _DIGITS_TEMPERATURES
    if fv.eval == "paper":
        common.require(
            not is_binary,
            "--eval=paper is HMC, which cannot move binary latents; leave it out, and set "
            "--eval_temperatures=10000 --eval_examples=0 for as much work.",
        )
        defaults = _values(evaluate.PAPER_SETTINGS) | {"eval_examples": 0}
    if fv.target_gap is not None:
        defaults["eval_temperatures"] = _SEARCH_FROM

    def value(name: str):
        return fv[name].value if fv[name].present else defaults.get(name, fv[name].value)

    latents = "binary" if is_binary else "continuous"
    common.require(
        moves.MOVES[value("eval_move")].latents == latents,
        f"--eval_move={fv.eval_move} cannot move {latents} "
        f"latents; use {' or '.join(moves.names(latents))}.",
    )
    common.require(
        not is_binary or (value("eval_chain_space"), value("eval_persistence")) == ("latent", 0.0),
        "--eval_chain_space and --eval_persistence are of HMC, and binary latents have other "
        "moves; leave them out.",
    )
    is_adaptive = value("eval_schedule") == "adaptive"
    common.require(
        fv.eval_adapt == "pilot" or not is_adaptive,
        "--eval_adapt=paper runs no pilot chains that could place the temperatures; add "
        "--eval_schedule=linear.",
    )
    return Evaluation(
        **{field: value(flag) for flag, field in _SETTINGS.items()},
        adapt=fv.eval_adapt,
        num_examples=value("eval_examples"),
        num_simulated=fv.eval_simulated if fv.eval_adapt == "pilot" else 0,
        target_gap=fv.target_gap,
        num_bound_samples=fv.eval_bound_samples,
        seed=fv.eval_seed,
        force_precision=fv.eval_force_precision,
    )
