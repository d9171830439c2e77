"""Models that scvi-tools trained, beside their own marginal likelihoods."""

import warnings

import jax
import numpy as np
import pytest
from side_by_side import compare

from aiwae_jax import bridges, evaluate, likelihoods

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    scvi = pytest.importorskip("scvi")
    anndata = pytest.importorskip("anndata")
    torch = pytest.importorskip("torch")

SETTINGS = evaluate.Settings(num_temperatures=200, num_chains=16)
NUM_SAMPLES = 5000


def counts(num=300, num_genes=20):
    """Negative binomial counts whose shares follow two latents."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(num, 2)) @ rng.normal(size=(2, num_genes))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    means = 200.0 * rng.lognormal(0.0, 0.3, size=(num, 1)) * shares
    return rng.negative_binomial(2.0, 2.0 / (2.0 + means)).astype(np.float32)


def trained(max_epochs=30, **options):
    torch.set_num_threads(1)
    scvi.settings.seed = 0
    cells = anndata.AnnData(counts())
    scvi.model.SCVI.setup_anndata(cells)
    model = scvi.model.SCVI(cells, n_latent=2, n_hidden=32, **options)
    model.train(max_epochs=max_epochs, accelerator="cpu", enable_progress_bar=False)
    model.module.eval()
    return model


@pytest.mark.parametrize("gene_likelihood", ["nb", "zinb"])
def test_a_model_has_its_own_likelihood(gene_likelihood, capsys):
    model = trained(gene_likelihood=gene_likelihood, n_layers=2)
    found = bridges.scvi(model)
    rows = likelihoods.with_library(counts())
    mean, stddev = found.encode(rows)
    mu, variance = model.get_latent_representation(return_dist=True)
    np.testing.assert_allclose(mean, mu, atol=1e-4)
    np.testing.assert_allclose(stddev, np.sqrt(variance), rtol=1e-4)

    ours = found.log_likelihood(rows[:32], SETTINGS, key=jax.random.key(0))
    theirs = model.get_marginal_ll(
        indices=np.arange(32),
        n_mc_samples=NUM_SAMPLES,
        n_mc_samples_per_pass=500,
        return_mean=False,
    )
    with capsys.disabled():
        compare(f"scvi-tools, {gene_likelihood}", ours, np.asarray(theirs), within=0.02)


def test_what_is_no_such_model_is_refused():
    with pytest.raises(ValueError, match="`model` must have `dispersion`='gene', got 'gene-cell'"):
        bridges.scvi(trained(1, dispersion="gene-cell"))
    with pytest.raises(ValueError, match="`gene_likelihood` of nb, zinb; got 'poisson'"):
        bridges.scvi(trained(1, gene_likelihood="poisson"))
    with pytest.raises(ValueError, match=r"`model` must be of BatchNorm1d.*got {.LayerNorm.}"):
        bridges.scvi(trained(1, use_layer_norm="both"))
    with pytest.raises(TypeError, match=r"`model` must be a `scvi.model.SCVI`, got int 3"):
        bridges.scvi(3)
