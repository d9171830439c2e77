"""Encoders and decoders of dense layers, in Flax NNX, as pure functions of a parameter pytree.

Each network is split once into its graph definition and a plain nested dict of arrays; `apply`
merges them again at trace time, so nothing below knows that Flax is used. Matrix products run in
real fp32 by default (`Precision.HIGHEST`): recent GPUs would otherwise use tf32, and energies and
likelihoods must be exact. The same parameters can be applied in a lower precision, for forces.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aiwae_jax.types import PyTree

# Weights uniform in ±1/sqrt(fan_in), PyTorch's default for linear layers: the variance of that
# uniform distribution is (1/3)/fan_in.
_TORCH_UNIFORM = nnx.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")


def _linear(size_in, size_out, kernel_init, bias_init, rngs, **options) -> nnx.Linear:
    """A layer whose parameters are float32, or float64 where JAX's x64 is on."""
    return nnx.Linear(
        size_in,
        size_out,
        kernel_init=kernel_init,
        bias_init=bias_init,
        param_dtype=jnp.result_type(float),
        rngs=rngs,
        **options,
    )


def _torch_linear(size_in: int, size_out: int, rngs: nnx.Rngs, **options) -> nnx.Linear:
    bound = size_in**-0.5

    def bias_init(key, shape, dtype):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return _linear(size_in, size_out, _TORCH_UNIFORM, bias_init, rngs, **options)


def _glorot_linear(size_in: int, size_out: int, rngs: nnx.Rngs, **options) -> nnx.Linear:
    glorot, zeros = nnx.initializers.glorot_uniform(), nnx.initializers.zeros_init()
    return _linear(size_in, size_out, glorot, zeros, rngs, **options)


LINEAR_LAYERS = {"torch": _torch_linear, "glorot": _glorot_linear}


def _round_to_bfloat16(x: chex.Array) -> chex.Array:
    """XLA would remove a cast to bf16 and back; `reduce_precision` it must keep."""
    return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7).astype(jnp.bfloat16)


@jax.custom_vjp
def _bfloat16_matmul(x: chex.Array, kernel: chex.Array) -> chex.Array:
    """X @ kernel of bf16 operands, accumulated in fp32; so are the products of its gradient."""
    return jnp.matmul(
        _round_to_bfloat16(x), _round_to_bfloat16(kernel), preferred_element_type=jnp.float32
    )


def _bfloat16_matmul_bwd(residuals, g):
    x, kernel = residuals
    return _bfloat16_matmul(g, kernel.T), _bfloat16_matmul(x[:, None], g[None, :])


_bfloat16_matmul.defvjp(
    lambda x, kernel: (_bfloat16_matmul(x, kernel), (x, kernel)), _bfloat16_matmul_bwd
)


def _bfloat16_dot_general(x, kernel, dimension_numbers, **_):
    """Stands in for `dot_general` in `nnx.Linear`, for one input."""
    chex.assert_rank(x, 1)
    del dimension_numbers
    return _bfloat16_matmul(x, kernel)


# Options of a linear layer. In fp32, HIGH lets an accelerator use tf32 (three bf16 passes on TPU).
PRECISIONS = {
    "float32": {"precision": jax.lax.Precision.HIGHEST},
    "tensorfloat32": {"precision": jax.lax.Precision.HIGH},
    "bfloat16": {"dot_general": _bfloat16_dot_general},
}


# What the hidden layers of a network may be. A chain's moves follow gradients: where these jump, as
# those of relu, more moves are rejected.
ACTIVATIONS = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
}


class MLP(nnx.Module):
    """Hidden layers followed by one or more linear heads: `[size_in]` -> tuple of `[size_out]`."""

    def __init__(
        self,
        size_in: int,
        hidden_sizes: Sequence[int],
        head_sizes: Sequence[int],
        linear: Callable[..., nnx.Linear],
        rngs: nnx.Rngs,
        activation: Callable[[chex.Array], chex.Array] = jnp.tanh,
    ):
        sizes = (size_in, *hidden_sizes)
        self.activation = activation
        self.hidden = nnx.List([linear(i, o, rngs) for i, o in itertools.pairwise(sizes)])
        self.heads = nnx.List([linear(sizes[-1], size, rngs) for size in head_sizes])

    def __call__(self, inputs: chex.Array) -> tuple[chex.Array, ...]:
        """Applies the network to one input."""
        for layer in self.hidden:
            inputs = self.activation(layer(inputs))
        return tuple(head(inputs) for head in self.heads)


class AutoregressiveMLP(nnx.Module):
    """One masked tanh layer and two masked heads (MADE, Germain et al. 2015), with a context.

    Output i of each head depends on inputs 0 .. i-1 and on the context.
    """

    def __init__(
        self,
        size: int,
        context_size: int,
        hidden_size: int,
        linear: Callable[..., nnx.Linear],
        rngs: nnx.Rngs,
    ):
        self.size = size
        self.hidden_size = hidden_size
        self.from_inputs = linear(size, hidden_size, rngs)
        self.from_context = linear(context_size, hidden_size, rngs)
        self.heads = nnx.List([linear(hidden_size, size, rngs) for _ in range(2)])

    def __call__(self, inputs: chex.Array, context: chex.Array) -> tuple[chex.Array, chex.Array]:
        """Applies the network to one input `[size]` and its context."""
        places = np.arange(self.size)
        # A hidden unit of degree d sees inputs 0 .. d and feeds outputs d+1 and later; one of
        # degree -1 sees the context only, which is all that output 0 may depend on.
        degrees = np.arange(self.hidden_size) % self.size - 1
        hidden = jnp.tanh(
            _masked(self.from_inputs, inputs, places[:, None] <= degrees)
            + self.from_context(context)
        )
        return tuple(_masked(head, hidden, degrees[:, None] < places) for head in self.heads)


def _masked(layer: nnx.Linear, inputs: chex.Array, mask: np.ndarray) -> chex.Array:
    kernel = jnp.where(mask, layer.kernel[...], 0.0)
    return jnp.matmul(inputs, kernel, precision=layer.precision) + layer.bias[...]


class Network(NamedTuple):
    """A network as a pair of pure functions.

    Attributes:
      init: `init(key) -> params`, a nested dict of arrays.
      apply: `apply(params, inputs, precision="float32") -> tuple of outputs`, `precision` being a
        key of `PRECISIONS`.
      size_in: size of the inputs, where it is known.
    """

    init: Callable[[chex.PRNGKey], PyTree]
    apply: Callable[..., tuple[chex.Array, ...]]
    size_in: int | None = None


def check_linear(name: str) -> None:
    """Raises ValueError for an initialization that is none of `LINEAR_LAYERS`."""
    if name not in LINEAR_LAYERS:
        raise ValueError(f"`linear` must be one of {sorted(LINEAR_LAYERS)}, got {name!r}.")


def check_activation(name: str) -> None:
    """Raises ValueError for an activation that is none of `ACTIVATIONS`."""
    if name not in ACTIVATIONS:
        raise ValueError(f"`activation` must be one of {', '.join(ACTIVATIONS)}; got {name!r}.")


def mlp(
    size_in: int,
    hidden_sizes: Sequence[int],
    head_sizes: Sequence[int],
    *,
    linear: str = "torch",
    output_bias: chex.Array | Sequence[chex.Array | None] | None = None,
    activation: str = "tanh",
) -> Network:
    """An `MLP` as pure functions.

    Args:
      size_in: size of the input vector.
      hidden_sizes: sizes of the hidden layers.
      head_sizes: sizes of the linear heads on top of the last hidden layer.
      linear: initialization of the layers, "torch" (uniform ±1/sqrt(fan-in), biases too) or
        "glorot" (Glorot uniform weights, zero biases).
      output_bias: optional `[head_sizes[0]]` that replaces the first head's initial bias; or a list
        with one or None for each head.
      activation: of the hidden layers, a key of `ACTIVATIONS`.

    Raises:
      ValueError: for an unknown `linear` or `activation`.
    """
    check_linear(linear)
    check_activation(activation)
    biases = list(output_bias) if isinstance(output_bias, list | tuple) else [output_bias]

    def build(key: chex.PRNGKey, precision: str = "float32") -> MLP:
        layer = functools.partial(LINEAR_LAYERS[linear], **PRECISIONS[precision])
        chosen = ACTIVATIONS[activation]
        return MLP(size_in, hidden_sizes, head_sizes, layer, nnx.Rngs(key), chosen)

    @functools.cache
    def graphdef(precision: str) -> nnx.GraphDef:
        return nnx.split(nnx.eval_shape(lambda: build(jax.random.key(0), precision)))[0]

    def init(key: chex.PRNGKey) -> PyTree:
        params = nnx.to_pure_dict(nnx.split(build(key))[1])
        for i, bias in enumerate(biases):
            if bias is not None:
                params["heads"][i]["bias"] = jnp.asarray(bias, float)
        return params

    def apply(
        params: PyTree, inputs: chex.Array, precision: str = "float32"
    ) -> tuple[chex.Array, ...]:
        return nnx.merge(graphdef(precision), params)(inputs)

    return Network(init, apply, size_in)


def autoregressive(size: int, context_size: int, hidden_size: int) -> Network:
    """An `AutoregressiveMLP` as pure functions; `apply(params, inputs, context)`."""

    def build(key: chex.PRNGKey) -> AutoregressiveMLP:
        layer = functools.partial(_torch_linear, **PRECISIONS["float32"])
        return AutoregressiveMLP(size, context_size, hidden_size, layer, nnx.Rngs(key))

    @functools.cache
    def graphdef() -> nnx.GraphDef:
        return nnx.split(nnx.eval_shape(lambda: build(jax.random.key(0))))[0]

    def init(key: chex.PRNGKey) -> PyTree:
        return nnx.to_pure_dict(nnx.split(build(key))[1])

    def apply(params: PyTree, inputs: chex.Array, context: chex.Array):
        return nnx.merge(graphdef(), params)(inputs, context)

    return Network(init, apply)
