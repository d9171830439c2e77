"""The sites of a NumPyro model: which are latent, how they are unconstrained, what is refused."""

from typing import Any

import numpy as np

Site = dict[str, Any]


def is_latent(site: Site) -> bool:
    """Whether a site has to be found."""
    return site["type"] == "sample" and not site["is_observed"]


def is_observed(site: Site) -> bool:
    """Whether a site is data or a factor."""
    return site["type"] == "sample" and site["is_observed"]


def is_factor(site: Site) -> bool:
    """Whether an observed site is no data."""
    from numpyro.distributions import Unit

    return isinstance(site["fn"], Unit)


def is_drawn_as_it_is(site: Site) -> bool:
    """Whether draws of a site's distribution are values of it, with the density that it has."""
    is_plain = site["scale"] is None and not _is_masked(site) and not is_factor(site)
    # Inside a scan the draws of all steps would share their noise.
    is_plain &= "_scan_current_index" not in site["infer"]
    return is_plain and tuple(site["fn"].shape()) == np.shape(site["value"])


def bijection(site: Site) -> Any:
    """From all of R^d to the values that a site may have: a transform of NumPyro."""
    from numpyro.distributions import biject_to

    return biject_to(site["fn"].support)


def refuse(site: Site) -> None:
    """Raises ValueError for what has no evidence, or none that continuous chains can find."""
    if reason := _reason(site):
        raise ValueError(f"`model` must have a proper prior on continuous latents; {reason}.")


def _reason(site: Site) -> str | None:
    """Why a site cannot be, in words."""
    from numpyro.distributions import Delta, ImproperUniform

    name = site.get("name")
    if site["type"] == "param":
        return f"the parameter {name!r} has none: sample it, or fix it by `handlers.substitute`"
    if site["type"] == "plate":
        size, subsample_size = site["args"]
        if subsample_size not in (None, size):
            return f"the plate {name!r} sees {subsample_size} of its {size} rows; let it see all"
    if not is_latent(site):
        return None
    fn = _layers(site["fn"])[-1]
    if site["fn"].support.is_discrete:
        return f"{name!r} ({type(fn).__name__}) is discrete: sum over it in the model"
    if isinstance(fn, ImproperUniform):
        return f"{name!r} is ImproperUniform, under which every evidence is as good as any other"
    if isinstance(fn, Delta):
        return f"{name!r} is Delta, and has no density: use `numpyro.deterministic`"
    if _is_masked(site) or site["scale"] is not None:
        return f"{name!r} is masked or scaled, so that its prior is not normalized"
    return None


def _is_masked(site: Site) -> bool:
    from numpyro.distributions import MaskedDistribution

    return any(isinstance(fn, MaskedDistribution) for fn in _layers(site["fn"]))


def _layers(fn: Any) -> list[Any]:
    """A distribution, and those that it wraps."""
    from numpyro.distributions import ExpandedDistribution, Independent, MaskedDistribution

    found = [fn]
    while isinstance(found[-1], ExpandedDistribution | Independent | MaskedDistribution):
        found.append(found[-1].base_dist)
    return found
