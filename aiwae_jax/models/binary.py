"""Models of binary latents: sigmoid belief networks, and one that predicts half of an image.

Every layer is a vector of Bernoulli units whose log odds are a linear function of the layer before.
A latent z is all of a model's layers in one vector, as 0s and 1s.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from aiwae_jax import networks, support
from aiwae_jax.distributions import Bernoulli
from aiwae_jax.models.images import output_bias
from aiwae_jax.recipe import of_model
from aiwae_jax.types import LogJointFn, Model, Params, PyTree


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["first_logits", "next_fns"],
    meta_fields=["sizes", "is_reversed"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class Layered:
    """Layers of binary units, each independent given the one before: a `Posterior` over `[D]`.

    With functions that are bound to their arrays by `jax.tree_util.Partial` it is a pytree.

    Attributes:
      first_logits: `[sizes[0]]` log odds of the first layer, in the order in which they are drawn.
      next_fns: for each further layer, the layer before -> its log odds.
      sizes: of the layers, a tuple.
      is_reversed: whether z lists them from last to first.
    """

    first_logits: chex.Array
    next_fns: Sequence[Callable[[chex.Array], chex.Array]] = ()
    _: dataclasses.KW_ONLY
    sizes: tuple[int, ...]
    is_reversed: bool = False

    @property
    def latents(self) -> str:
        """Of which kind its draws are."""
        return "binary"

    def _join(self, layers: Sequence[chex.Array]) -> chex.Array:
        return jnp.concatenate(layers[::-1] if self.is_reversed else layers)

    def _split(self, z: chex.Array) -> list[chex.Array]:
        sizes = self.sizes[::-1] if self.is_reversed else self.sizes
        layers = jnp.split(z, np.cumsum(sizes)[:-1])
        return layers[::-1] if self.is_reversed else layers

    def _through(self, layer_fn: Callable[[int, chex.Array], chex.Array]) -> list[chex.Array]:
        """Layers made one by one by `layer_fn(number, logits)`."""
        layers = [layer_fn(0, self.first_logits)]
        for i, logits_fn in enumerate(self.next_fns, 1):
            layers.append(layer_fn(i, logits_fn(layers[-1])))
        return layers

    def sample(self, key: chex.PRNGKey, *, with_straight_through: bool = False) -> chex.Array:
        """Draws `[D]`, without a gradient.

        Args:
          key: consumed.
          with_straight_through: gives each bit the gradient of its probability (Raiko et al. 2015,
            G3; Bengio et al. 2013): of small variance, and biased.
        """

        def draw(i, logits):
            distribution = Bernoulli(logits)
            bits = distribution.sample(jax.random.fold_in(key, i))
            if not with_straight_through:
                return bits
            mean = distribution.mean()
            return bits + (mean - jax.lax.stop_gradient(mean))

        return self._join(self._through(draw))

    def log_prob(self, z: chex.Array) -> chex.Array:
        """Log probability `[]` of `z` `[D]`, nats; between 0 and 1 it is extended linearly."""
        layers = self._split(z)
        logits = [self.first_logits]
        logits += [fn(layer) for fn, layer in zip(self.next_fns, layers[:-1], strict=True)]
        return sum(Bernoulli(a).log_prob(h) for a, h in zip(logits, layers, strict=True))

    def sample_and_log_prob(self, key: chex.PRNGKey) -> tuple[chex.Array, chex.Array]:
        """Draws `[D]` and returns its log probability `[]`."""
        z = self.sample(key)
        return z, self.log_prob(z)

    def mean(self) -> chex.Array:
        """Probabilities of a 1, `[D]`: exact in the first layer, from its mean in the next."""
        return self._join(self._through(lambda _, logits: jax.nn.sigmoid(logits)))

    def stddev(self) -> chex.Array:
        """Standard deviations `[D]`, of the probabilities in `mean`."""
        mean = self.mean()
        return jnp.sqrt(mean * (1.0 - mean))


def _check_layer_sizes(layer_sizes: Sequence[int]) -> None:
    if not isinstance(layer_sizes, Sequence) or not layer_sizes or min(layer_sizes) < 1:
        raise ValueError(
            "`layer_sizes` must name the units of at least one layer, as (200,); got "
            f"{layer_sizes!r}."
        )


def _init_all(key: chex.PRNGKey, layers: Sequence[networks.Network]) -> list[PyTree]:
    return [layer.init(jax.random.fold_in(key, i)) for i, layer in enumerate(layers)]


def _logits_fns(layers: Sequence[networks.Network]) -> dict[str, list[Callable]]:
    """Precision -> each layer as a function of its parameters and its input, made once."""

    def logits_fn(layer, precision):
        return lambda params, inputs: layer.apply(params, inputs, precision)[0]

    return {
        precision: [logits_fn(layer, precision) for layer in layers]
        for precision in networks.PRECISIONS
    }


def _bound(fns: Sequence[Callable], params: Sequence[PyTree], *more: chex.Array) -> list[Partial]:
    """Each function bound to its layer's parameters."""
    return [Partial(fn, p, *more) for fn, p in zip(fns, params, strict=True)]


@of_model
def sigmoid_belief_network(
    data_size: int,
    layer_sizes: Sequence[int] = (200,),
    *,
    mean_image: chex.Array | None = None,
    initialization: str = "torch_mean_bias",
) -> Model:
    """A sigmoid belief network (Neal 1992) with a factorial inference network.

    p(h_n) p(h_{n-1}|h_n) ... p(x|h_1), and q(h_1|x) q(h_2|h_1) ... the other way, all of them
    linear: the MNIST models of Mnih & Rezende 2016. z = (h_1, ..., h_n).

    Args:
      data_size: X, the number of binary pixels.
      layer_sizes: units of h_1, ..., h_n, from the data upwards.
      mean_image: `[X]`, as in `models.bernoulli_vae`.
      initialization: a key of `models.INITIALIZATIONS`.

    Raises:
      ValueError: for a layer without units, and as `models.bernoulli_vae`.
    """
    _check_layer_sizes(layer_sizes)
    sizes = tuple(layer_sizes)
    # Networks between neighbours, and each as a function of its parameters.
    linear, bias = output_bias(initialization, mean_image, data_size)
    mlp = functools.partial(networks.mlp, hidden_sizes=(), linear=linear)
    pixels = mlp(sizes[0], head_sizes=[data_size], output_bias=bias)
    downward = [mlp(above, head_sizes=[below]) for below, above in itertools.pairwise(sizes)][::-1]
    upward = [mlp(i, head_sizes=[o]) for i, o in itertools.pairwise((data_size, *sizes))]
    downward_fns, upward_fns = _logits_fns(downward), _logits_fns(upward)["float32"]

    def init(key: chex.PRNGKey) -> Params:
        pixel_key, down_key, up_key = jax.random.split(key, 3)
        theta = {
            "top": jnp.zeros(sizes[-1]),
            "layers": _init_all(down_key, downward),
            "pixels": pixels.init(pixel_key),
        }
        return Params(theta, _init_all(up_key, upward))

    def prior(theta: PyTree, x: PyTree = None, precision: str = "float32") -> Layered:
        del x
        next_fns = _bound(downward_fns[precision], theta["layers"])
        return Layered(theta["top"], next_fns, sizes=sizes[::-1], is_reversed=True)

    def likelihood(theta: PyTree, z: chex.Array, precision: str = "float32") -> Bernoulli:
        return Bernoulli(*pixels.apply(theta["pixels"], z[: sizes[0]], precision))

    def posterior(phi: PyTree, x: chex.Array) -> Layered:
        chex.assert_rank(x, 1)
        first, *rest = _bound(upward_fns, phi)
        return Layered(first(x), rest, sizes=sizes)

    return _model(init, prior, likelihood, posterior, data_size=data_size)


def _beside(logits_fn: Callable) -> Callable:
    """The same function of a layer and, beside it, of x."""
    return lambda params, x, layer: logits_fn(params, jnp.concatenate([layer, x]))


@of_model
def half_predictor(
    data_size: int,
    layer_sizes: Sequence[int] = (200,),
    *,
    mean_image: chex.Array | None = None,
    initialization: str = "torch_mean_bias",
) -> Model:
    """A stochastic feed-forward network that predicts the second half of x from the first.

    p(h_1|c) p(h_2|h_1) ... p(y|h_n) for x = (c, y), all linear: for row-major images, the lower
    half from the upper one, the task of Tang & Salakhutdinov 2013 and of Raiko et al. 2015. What
    is log p(x) elsewhere is log p(y|c) here. The inference network sees all of x:
    q(h_1|x) q(h_2|h_1, x) ....

    Args:
      data_size: X; the first X // 2 are the context c.
      layer_sizes: units of h_1, ..., h_n, from the context to the prediction.
      mean_image: `[X]`, of which the second half is used.
      initialization: as in `models.bernoulli_vae`.

    Raises:
      ValueError: for data of one pixel, and as `sigmoid_belief_network`.
    """
    _check_layer_sizes(layer_sizes)
    if data_size < 2:
        raise ValueError(f"`data_size` must be at least 2, to have two halves; got {data_size}.")
    sizes, context_size = tuple(layer_sizes), data_size // 2
    # Networks between neighbours; those of the inference see all of x beside.
    linear, bias = output_bias(initialization, mean_image, data_size)
    mlp = functools.partial(networks.mlp, hidden_sizes=(), linear=linear)
    forward = [mlp(i, head_sizes=[o]) for i, o in itertools.pairwise((context_size, *sizes))]
    target = mlp(
        sizes[-1],
        head_sizes=[data_size - context_size],
        output_bias=None if bias is None else bias[context_size:],
    )
    inference = [mlp(data_size, head_sizes=[sizes[0]])]
    inference += [mlp(i + data_size, head_sizes=[o]) for i, o in itertools.pairwise(sizes)]
    forward_fns = _logits_fns(forward)
    first_fn, *rest_fns = _logits_fns(inference)["float32"]
    rest_fns = [_beside(fn) for fn in rest_fns]

    def init(key: chex.PRNGKey) -> Params:
        target_key, forward_key, inference_key = jax.random.split(key, 3)
        theta = {"layers": _init_all(forward_key, forward), "target": target.init(target_key)}
        return Params(theta, _init_all(inference_key, inference))

    def prior(theta: PyTree, x: chex.Array, precision: str = "float32") -> Layered:
        chex.assert_rank(x, 1)
        first, *rest = _bound(forward_fns[precision], theta["layers"])
        return Layered(first(x[:context_size]), rest, sizes=sizes)

    def likelihood(theta: PyTree, z: chex.Array, precision: str = "float32") -> Bernoulli:
        return Bernoulli(*target.apply(theta["target"], z[-sizes[-1] :], precision))

    def posterior(phi: PyTree, x: chex.Array) -> Layered:
        chex.assert_rank(x, 1)
        first_params, *rest_params = phi
        next_fns = _bound(rest_fns, rest_params, x)
        return Layered(first_fn(first_params, x), next_fns, sizes=sizes)

    return _model(
        init, prior, likelihood, posterior, data_size=data_size, context_size=context_size
    )


def _model(
    init: Callable,
    prior: Callable,
    likelihood: Callable,
    posterior: Callable,
    *,
    data_size: int,
    context_size: int = 0,
) -> Model:
    """A model of all but the first `context_size` pixels, of parts that know precisions."""

    def log_joint(theta, x, z, precision: str = "float32") -> chex.Array:
        chex.assert_rank([x, z], 1)
        y = x[context_size:]
        return likelihood(theta, z, precision).log_prob(y) + prior(theta, x, precision).log_prob(z)

    def sample(key: chex.PRNGKey, theta: PyTree, x: PyTree = None) -> tuple[chex.Array, chex.Array]:
        z_key, y_key = jax.random.split(key)
        z = prior(theta, x).sample(z_key)
        y = likelihood(theta, z).sample(y_key)
        return (jnp.concatenate([x[:context_size], y]) if context_size else y), z

    def log_joint_in(precision: str) -> LogJointFn:
        return functools.partial(log_joint, precision=precision)

    return Model(
        init=init,
        log_joint=log_joint,
        posterior=posterior,
        prior=prior,
        sample=sample,
        likelihood=likelihood,
        log_joint_in=log_joint_in,
        latents="binary",
        data_size=data_size,
        check_data=functools.partial(
            support.check_pixels, num_pixels=data_size, first=context_size
        ),
    )
