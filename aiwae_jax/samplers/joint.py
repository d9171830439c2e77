"""Particle sets of several samplers, for one objective."""

import jax

from aiwae_jax.types import Info, Sampler, init_params_of_all


def joined(**samplers: Sampler) -> Sampler:
    """Draws one particle set of each sampler, for `objectives.mean_of` with the same names.

    Its particles and states are dictionaries, its diagnostics the parts of one `Info`. It gives
    what all of them give, but there is no one set whose weights could be proper.

    Raises:
      ValueError: for a persistent sampler, whose latents nobody would keep.
    """
    for name, sampler in samplers.items():
        if sampler.restart_every is not None:
            raise ValueError(
                f"`{name}` is persistent, and latents are kept of a phase's own sampler only; give "
                "it a phase of its own."
            )

    def draw(key, params, x, state, *, axis_name=None):
        keys = jax.random.split(key, len(samplers))
        found, parts = {}, {}
        for each, (name, sampler) in zip(keys, samplers.items(), strict=True):
            found[name], parts[name] = sampler.draw(
                each, params, x, state[name], axis_name=axis_name
            )
        return found, Info(parts=parts)

    return Sampler(
        draw,
        frozenset.intersection(*(frozenset(s.gives) for s in samplers.values()))
        - {"proper_weights"},
        init=lambda: {name: sampler.init() for name, sampler in samplers.items()},
        adapt=lambda state, info: {
            name: sampler.adapt(state[name], info.parts[name]) for name, sampler in samplers.items()
        },
        init_params=init_params_of_all(samplers.values()),
        check_data=next((s.check_data for s in samplers.values() if s.check_data), None),
    )
