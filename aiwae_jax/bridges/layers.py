"""Dense layers trained elsewhere, read from the tensors of a state by their names."""

from collections.abc import Mapping, Sequence
from typing import Any

import chex
import jax
import numpy as np

from aiwae_jax import networks
from aiwae_jax.types import PyTree

# A linear layer's name, or that and the name of the batch normalization which follows it.
Layer = str | tuple[str, str]


class Layers:
    """The tensors of a state, each of which must be read once.

    Args:
      state: `{"fc.weight": [out, in], "fc.bias": [out], ...}`, as PyTorch names them.
      batch_norm_epsilon: what was added to running variances, which no state says.

    Raises:
      TypeError: for what is no mapping of names to numbers.
    """

    def __init__(self, state: Mapping[str, Any], batch_norm_epsilon: float = 1e-5):
        if not isinstance(state, Mapping):
            raise TypeError(
                "`state` must map names to tensors, as `module.state_dict()` does, got "
                f"{type(state).__name__}."
            )
        self._tensors = {}
        for name, value in state.items():
            if not hasattr(value, "shape"):
                raise TypeError(
                    f"`state` must map names to tensors, got {type(value).__name__} for {name!r}; "
                    "is the state one of its entries?"
                )
            if not name.endswith("num_batches_tracked"):
                self._tensors[name] = np.asarray(value, np.float32)
        self._unread = set(self._tensors)
        self._epsilon = batch_norm_epsilon

    def ignore(self, prefix: str) -> None:
        """Leaves out tensors that the model does not need."""
        self._unread -= {name for name in self._tensors if name.startswith(prefix)}

    def tensor(self, name: str) -> np.ndarray:
        """One tensor.

        Raises:
          ValueError: naming what there is, where there is none of this name.
        """
        if name not in self._tensors:
            found = ", ".join(f"{n} {list(a.shape)}" for n, a in self._tensors.items())
            raise ValueError(f"`state` must have {name!r}; it has {found}.")
        self._unread.discard(name)
        return self._tensors[name]

    def dense(self, layer: Layer) -> dict[str, np.ndarray]:
        """A layer as `networks` have it: `kernel` `[in, out]`, `bias` `[out]`.

        A batch normalization that follows it is a part of it, at its running mean and variance.

        Raises:
          ValueError: for a layer that is none, or not linear.
        """
        name, norm = (layer, None) if isinstance(layer, str) else layer
        kernel = self.tensor(f"{name}.weight").T
        if kernel.ndim != 2:
            raise ValueError(
                f"`state` must have a dense layer {name!r}, got weights of shape "
                f"{list(kernel.T.shape)}."
            )
        has_bias = f"{name}.bias" in self._tensors
        bias = self.tensor(f"{name}.bias") if has_bias else np.zeros(kernel.shape[1], np.float32)
        if norm is not None:
            variance = self.tensor(f"{norm}.running_var").astype(np.float64) + self._epsilon
            factor = self.tensor(f"{norm}.weight") / np.sqrt(variance)
            bias = (bias - self.tensor(f"{norm}.running_mean")) * factor
            bias = (bias + self.tensor(f"{norm}.bias")).astype(np.float32)
            kernel = (kernel * factor).astype(np.float32)
        return {"kernel": kernel, "bias": bias}

    def mlp(
        self, hidden: Sequence[Layer], heads: Sequence[str], activation: str
    ) -> networks.Network:
        """A network of these layers, whose `init` returns what they have learned.

        Raises:
          ValueError: for layers that do not fit each other, or an unknown activation.
        """
        hidden_layers = [self.dense(layer) for layer in hidden]
        head_layers = [self.dense(head) for head in heads]
        size = (hidden_layers or head_layers)[0]["kernel"].shape[0]
        made = networks.mlp(
            size,
            [layer["kernel"].shape[1] for layer in hidden_layers],
            [layer["kernel"].shape[1] for layer in head_layers],
            activation=activation,
        )
        wanted = jax.eval_shape(made.init, jax.eval_shape(lambda: jax.random.key(0)))
        params = dict(wanted, heads=dict(enumerate(head_layers)))
        if hidden_layers:
            params["hidden"] = dict(enumerate(hidden_layers))
        shapes = jax.tree.map(np.shape, params)
        if shapes != jax.tree.map(lambda leaf: leaf.shape, wanted):
            raise ValueError(
                f"The layers {[*hidden, *heads]} must follow each other, got kernels "
                f"{[layer['kernel'].shape for layer in (*hidden_layers, *head_layers)]}."
            )

        def init(key: chex.PRNGKey) -> PyTree:
            del key
            return params

        return made._replace(init=init)

    def check_all_read(self) -> None:
        """Raises ValueError for tensors that no layer has, for a model without them is another."""
        if self._unread:
            left_out = ", ".join(sorted(self._unread))
            raise ValueError(
                f"`state` must have the named layers and no others; {left_out} would be left out."
            )
