"""Auto-encoders that PyTorch and its libraries trained, beside their own marginal likelihoods."""

import jax
import numpy as np
import pytest
from side_by_side import compare

from aiwae_jax import bridges, evaluate, likelihoods

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.slow
torch.set_num_threads(1)  # threads that wait for tiny products would spin beside JAX's
SETTINGS = evaluate.Settings(num_temperatures=100, num_chains=16)
X, D = 12, 2


def bits(num):
    """Pixels whose odds follow two latents."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(2, X))
    odds = 2.0 * rng.normal(size=(num, 2)) @ weights
    return (rng.random((num, X)) < 1.0 / (1.0 + np.exp(-odds))).astype(np.float32)


class VAE(torch.nn.Module):
    """As one writes it in PyTorch."""

    def __init__(self, activation):
        super().__init__()
        nn = torch.nn
        self.fc1, self.fc2 = nn.Linear(X, 16), nn.Linear(16, 8)
        self.mu, self.log_var = nn.Linear(8, D), nn.Linear(8, D)
        self.decoder = nn.Sequential(
            nn.Linear(D, 16), nn.BatchNorm1d(16), activation(), nn.Linear(16, X)
        )
        self.activation = activation()

    def encode(self, x):
        hidden = self.activation(self.fc2(self.activation(self.fc1(x))))
        return self.mu(hidden), self.log_var(hidden)

    def log_weight(self, x):
        mu, log_var = self.encode(x)
        q = torch.distributions.Normal(mu, (0.5 * log_var).exp())
        z = q.rsample()
        log_prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
        of_data = torch.distributions.Bernoulli(logits=self.decoder(z)).log_prob(x).sum(-1)
        return log_prior + of_data - q.log_prob(z).sum(-1)


def trained(activation=torch.nn.ReLU, num_steps=300):
    torch.manual_seed(0)
    module, x = VAE(activation), torch.from_numpy(bits(500))
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(num_steps):
        optimizer.zero_grad()
        (-module.log_weight(x).mean()).backward()
        optimizer.step()
    return module.eval()


def read(state, **options):
    options = {
        "encoder": ["fc1", "fc2"],
        "heads": ["mu", "log_var"],
        "activation": "relu",
    } | options
    return bridges.torch(
        state,
        decoder=[("decoder.0", "decoder.1"), "decoder.3"],
        likelihood=likelihoods.bernoulli(),
        **options,
    )


def importance_weighted(module, x, num):
    with torch.no_grad():
        log_weights = module.log_weight(torch.from_numpy(x).repeat(num, 1)).reshape(num, len(x))
    return (torch.logsumexp(log_weights, 0) - np.log(num)).numpy()


def test_a_state_of_torch_has_the_modules_own_likelihood(tmp_path, capsys):
    module, x = trained(), bits(64)
    torch.save(module.state_dict(), tmp_path / "state.pt")
    found = read(tmp_path / "state.pt")
    mean, stddev = found.encode(x)
    with torch.no_grad():
        mu, log_var = module.encode(torch.from_numpy(x))
        probabilities = torch.sigmoid(module.decoder(mu)).numpy()
    np.testing.assert_allclose(mean, mu.numpy(), atol=1e-5)
    np.testing.assert_allclose(stddev, np.exp(0.5 * log_var.numpy()), rtol=1e-5)
    np.testing.assert_allclose(found.decode(mu.numpy()), probabilities, atol=1e-5)
    ours = found.log_likelihood(x, SETTINGS, key=jax.random.key(0))
    with capsys.disabled():
        compare("torch", ours, importance_weighted(module, x, 5000), within=0.02)


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("tanh", torch.nn.Tanh),
        ("elu", torch.nn.ELU),
        ("silu", torch.nn.SiLU),
        ("softplus", torch.nn.Softplus),
        ("gelu", lambda: torch.nn.GELU(approximate="tanh")),
    ],
)
def test_activations_are_torchs(name, activation):
    module = trained(activation, num_steps=3)
    found = read(module.state_dict(), activation=name)
    with torch.no_grad():
        mu, _ = module.encode(torch.from_numpy(bits(5)))
    np.testing.assert_allclose(found.encode(bits(5))[0], mu.numpy(), atol=1e-5)


def test_one_head_holds_both_halves():
    module = trained(num_steps=3)
    state = module.state_dict()
    for part in ("weight", "bias"):
        both = [state.pop(f"{name}.{part}") for name in ("mu", "log_var")]
        state[f"both.{part}"] = torch.cat(both)
    split, joined = read(module.state_dict()), read(state, heads=["both"])
    np.testing.assert_allclose(joined.encode(bits(5)), split.encode(bits(5)), rtol=1e-6)


class Anything:
    """What only a pickle that runs code can hold."""


def test_what_cannot_be_read_is_refused(tmp_path):
    state = trained(num_steps=1).state_dict()
    torch.save({"model": Anything()}, tmp_path / "code.pt")
    with pytest.raises(ValueError, match="must hold tensors only"):
        read(tmp_path / "code.pt")
    with pytest.raises(ValueError, match=r"others; extra.weight would be left out"):
        read({**state, "extra.weight": torch.zeros(3, 3)})
    with pytest.raises(ValueError, match=r"`state` must have 'fc3.weight'; it has fc1.weight \["):
        read(state, encoder=["fc1", "fc3"])
    with pytest.raises(
        ValueError, match=r"The layers \['fc2', 'fc1', 'mu', 'log_var'\] must follow"
    ):
        read(state, encoder=["fc2", "fc1"])
    with pytest.raises(TypeError, match="is the state one of its entries"):
        read({"model_state_dict": state})
    with pytest.raises(TypeError, match="`state` must map names to tensors"):
        read(trained)
    with pytest.raises(ValueError, match="`spread` must be one of log_variance, log_scale"):
        read(state, spread="variance")


@pytest.mark.parametrize("loss", ["bce", "mse"])
def test_a_folder_of_pythae_has_its_own_likelihood(tmp_path, capsys, loss):
    models = pytest.importorskip("pythae.models")
    torch.manual_seed(0)
    config = models.VAEConfig(input_dim=(X,), latent_dim=D, reconstruction_loss=loss)
    model, x = models.VAE(config), torch.from_numpy(bits(500))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(200):
        optimizer.zero_grad()
        model({"data": x}).loss.backward()
        optimizer.step()
    model.eval().save(str(tmp_path / "model"))
    found = bridges.pythae(tmp_path / "model")
    ours = found.log_likelihood(bits(32), SETTINGS, key=jax.random.key(0))
    with torch.no_grad():
        theirs = model.get_nll(torch.from_numpy(bits(32)), n_samples=5000, batch_size=1000)
    with capsys.disabled():
        compare(f"pythae, {loss}", ours, theirs, within=0.02)


def test_a_folder_with_networks_of_ones_own_is_refused(tmp_path):
    (tmp_path / "model_config.json").write_text(
        '{"name": "VAEConfig", "uses_default_encoder": false, "uses_default_decoder": true}'
    )
    with pytest.raises(ValueError, match="has a pickled encoder, which could run any code"):
        bridges.pythae(tmp_path)
    (tmp_path / "model_config.json").write_text('{"name": "BetaVAEConfig"}')
    with pytest.raises(ValueError, match="must hold a VAE of pythae, got 'BetaVAEConfig'"):
        bridges.pythae(tmp_path)
