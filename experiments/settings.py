"""Settings that identify a training run of the paper's command."""

import dataclasses

from aiwae_jax.cli import flags, sources
from aiwae_jax.cli import settings as cli
from aiwae_jax.options import Option, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(cli.Fitting, sources.Reading):
    """Two runs that differ here need two work folders."""

    dataset: str = option(help=f"Data: {sources.WHAT}. Default digits.")


FLAGS = flags.names_of(Training)  # field -> flag
_DEFAULTS = {
    "batch_size": "Default as in the paper: 128 for aiwae, 20 for iwae and vae; 20 for binary "
    "latents, 32 on digits.",
    "num_stages": "Default 8, the paper's; 4 on digits.",
}


def help_of(name: str, said: Option) -> str:
    """The help of an option, with this command's own default."""
    return f"{cli.help_of(name, said)} {_DEFAULTS.get(name, '')}".strip()
