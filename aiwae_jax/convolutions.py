"""Convolutional encoder and decoder of images, as pure functions of a parameter pytree.

An image is a flat vector `[X]`, row by row, its colours last. In real fp32, as dense networks.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aiwae_jax import checks, networks
from aiwae_jax.types import PyTree

_KERNEL = (3, 3)
_STRIDE = (2, 2)
_PRECISION = networks.PRECISIONS["float32"]


def as_shape(image_shape: Sequence[int]) -> tuple[int, int, int]:
    """(height, width, colours) of what may leave out one colour.

    Raises:
      ValueError: for what is no shape.
      TypeError: for sizes that are no whole numbers.
    """
    if not isinstance(image_shape, Sequence) or len(image_shape) not in (2, 3):
        raise ValueError(
            f"`image_shape` must be (height, width) or (height, width, colours), got "
            f"{image_shape!r}."
        )
    sizes = [
        checks.integer(f"image_shape[{i}]", size, least=1) for i, size in enumerate(image_shape)
    ]
    return tuple(sizes) if len(sizes) == 3 else (*sizes, 1)


def _halved(size: int) -> int:
    return -(-size // 2)


def _convolution(
    kind: type, channels_in: int, channels: int, rngs: nnx.Rngs, strides
) -> nnx.Module:
    return kind(
        channels_in,
        channels,
        _KERNEL,
        strides=strides,
        padding="SAME",
        param_dtype=jnp.result_type(float),
        rngs=rngs,
        **_PRECISION,
    )


class _Encoder(nnx.Module):
    """Convolutions that halve an image, a dense layer, and linear heads.

    What stands beside the image joins the dense layer.
    """

    def __init__(
        self, shape, channels, hidden_size, head_sizes, linear, activation, rngs, num_beside
    ):
        self.shape, self.activation = shape, activation
        pairs = itertools.pairwise([shape[2], *channels])
        self.layers = nnx.List([_convolution(nnx.Conv, i, o, rngs, _STRIDE) for i, o in pairs])
        height, width = shape[:2]
        for _ in channels:
            height, width = _halved(height), _halved(width)
        last = channels[-1] if channels else shape[2]
        num_seen = height * width * last + num_beside
        self.dense = networks.MLP(num_seen, [hidden_size], head_sizes, linear, rngs, activation)

    def __call__(self, inputs: chex.Array) -> tuple[chex.Array, ...]:
        size = math.prod(self.shape)
        x = inputs[:size].reshape(self.shape)
        for layer in self.layers:
            x = self.activation(layer(x))
        return self.dense(jnp.concatenate([x.ravel(), inputs[size:]]))


class _Decoder(nnx.Module):
    """A dense layer, convolutions that double an image, and one for each output."""

    def __init__(self, size_in, shape, channels, hidden_size, colours, linear, activation, rngs):
        self.activation = activation
        sizes = [shape[:2]]
        for _ in channels:
            sizes.append(tuple(_halved(size) for size in sizes[-1]))
        self.sizes = tuple(reversed(sizes))
        first = channels[0] if channels else hidden_size
        self.first_shape = (*self.sizes[0], first)
        self.dense = networks.MLP(
            size_in, [hidden_size], [math.prod(self.first_shape)], linear, rngs, activation
        )
        between = [*channels, channels[-1]] if channels else [first]
        self.layers = nnx.List(
            [
                _convolution(nnx.ConvTranspose, i, o, rngs, _STRIDE)
                for i, o in itertools.pairwise(between)
            ]
        )
        self.heads = nnx.List(
            [_convolution(nnx.Conv, between[-1], number, rngs, (1, 1)) for number in colours]
        )

    def __call__(self, z: chex.Array) -> tuple[chex.Array, ...]:
        (x,) = self.dense(z)
        x = self.activation(x.reshape(self.first_shape))
        for layer, (height, width) in zip(self.layers, self.sizes[1:], strict=True):
            x = self.activation(layer(x)[:height, :width])  # of odd sizes a row too many
        return tuple(head(x).ravel() for head in self.heads)


def _as_functions(build: Callable[[chex.PRNGKey], nnx.Module], size_in: int) -> networks.Network:
    @functools.cache
    def graphdef() -> nnx.GraphDef:
        return nnx.split(nnx.eval_shape(lambda: build(jax.random.key(0))))[0]

    def init(key: chex.PRNGKey) -> PyTree:
        return nnx.to_pure_dict(nnx.split(build(key))[1])

    def apply(params: PyTree, inputs: chex.Array) -> tuple[chex.Array, ...]:
        return nnx.merge(graphdef(), params)(inputs)

    return networks.Network(init, apply, size_in)


def encoder(
    image_shape: Sequence[int],
    channels: Sequence[int],
    hidden_size: int,
    head_sizes: Sequence[int],
    *,
    linear: str = "torch",
    activation: str = "tanh",
    num_beside: int = 0,
) -> networks.Network:
    """Convolutions that halve an image, a dense layer, and linear heads.

    Args:
      image_shape: as of `as_shape`.
      channels: of the convolutions.
      hidden_size: units of the dense layer.
      head_sizes: of the outputs.
      linear: as of `networks.mlp`.
      activation: as of `networks.mlp`.
      num_beside: numbers behind the image, which the dense layer sees beside the convolutions.

    Raises:
      ValueError: as `as_shape`, and for what is unknown.
    """
    shape = as_shape(image_shape)
    layer, chosen = _chosen(linear, activation)

    def build(key: chex.PRNGKey) -> _Encoder:
        sizes = shape, channels, hidden_size, head_sizes
        return _Encoder(*sizes, layer, chosen, nnx.Rngs(key), num_beside)

    return _as_functions(build, math.prod(shape) + num_beside)


def decoder(
    size_in: int,
    image_shape: Sequence[int],
    channels: Sequence[int],
    hidden_size: int,
    head_sizes: Sequence[int],
    *,
    output_bias: Sequence[chex.Array | None] = (),
    linear: str = "torch",
    activation: str = "tanh",
) -> networks.Network:
    """A dense layer, convolutions that double an image, and one for each output.

    Args:
      size_in: D.
      image_shape: as of `as_shape`.
      channels: of the convolutions, from the latent on.
      hidden_size: units of the dense layer.
      head_sizes: of the outputs, each a multiple of height times width.
      output_bias: for each output None, or `[its size]`, of which it starts at the mean of each
        colour.
      linear: as of `networks.mlp`.
      activation: as of `networks.mlp`.

    Raises:
      ValueError: as `as_shape`, for what is unknown, and for an output that is not of pixels.
    """
    shape = as_shape(image_shape)
    num_pixels = shape[0] * shape[1]
    if odd := [size for size in head_sizes if size % num_pixels]:
        raise ValueError(
            f"`head_sizes` must be multiples of the {num_pixels} pixels of an image, got {odd[0]}."
        )
    layer, chosen = _chosen(linear, activation)
    colours = [size // num_pixels for size in head_sizes]

    def build(key: chex.PRNGKey) -> _Decoder:
        return _Decoder(
            size_in, shape, channels, hidden_size, colours, layer, chosen, nnx.Rngs(key)
        )

    network = _as_functions(build, size_in)

    def init(key: chex.PRNGKey) -> PyTree:
        params = network.init(key)
        for i, bias in enumerate(output_bias):
            if bias is not None:
                means = np.mean(np.reshape(bias, (num_pixels, colours[i])), axis=0)
                params["heads"][i]["bias"] = jnp.asarray(means, float)
        return params

    return network._replace(init=init)


def _chosen(linear: str, activation: str) -> tuple[Callable, Callable]:
    """The layers and the function that these names are of."""
    networks.check_linear(linear)
    networks.check_activation(activation)
    return functools.partial(networks.LINEAR_LAYERS[linear], **_PRECISION), networks.ACTIVATIONS[
        activation
    ]
