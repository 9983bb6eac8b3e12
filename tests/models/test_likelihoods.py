import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy import stats
from scipy.special import expit, softmax

from jamie_sc.models._likelihoods import LIKELIHOODS, check_likelihood, likelihood_of

DECODINGS, FEATURES, CELLS = 3, 7, 11
COUNTS = ("nb", "zinb", "poisson")
each = pytest.mark.parametrize("name", LIKELIHOODS)


def numpy_of(*tensors):
    return [t.detach().numpy() for t in tensors]


def filled(name, n_features=FEATURES, *, seed=0, dtype=torch.float64, **values):
    """A likelihood with parameters drawn at random, or these."""
    likelihood, generator = LIKELIHOODS[name](n_features).to(dtype), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in likelihood.named_parameters():
            parameter.normal_(generator=generator)
            parameter.copy_(torch.as_tensor(values.get(key, parameter)))
    return likelihood


def values_of(name, *, seed=0):
    """Decodings, values and library sizes; the first cell of counts has none."""
    rng = np.random.default_rng(seed)
    out = torch.from_numpy(rng.normal(size=(DECODINGS, FEATURES, CELLS)))
    if name == "gaussian":
        x = rng.normal(size=(FEATURES, CELLS))
    else:
        x = rng.poisson(rng.gamma(0.5, 8, (FEATURES, CELLS))).astype(float)
        x[:, 0] = 0
        assert {0, 1} < set(x.ravel())
    x = torch.from_numpy((x > 0).astype(float) if name == "bernoulli" else x)
    return out, x, x.sum(0)


def nll_of(likelihood, out, x, library):
    """(decodings, cells)"""
    return torch.stack(likelihood.nll(list(out), x, library))


def softplus_from(x, at_zero):
    return np.log1p(np.exp(x + np.log(np.expm1(at_zero))))


def by_scipy(likelihood, out, x, library):
    """Log-likelihood of each value and the mean, written down another way."""
    p = {key: parameter.detach().numpy() for key, parameter in likelihood.named_parameters()}
    out, x, library = numpy_of(out, x, library)
    if likelihood.name == "gaussian":
        return stats.norm(out, softplus_from(p["spread"], 1 - 1e-4) + 1e-4).logpdf(x), out
    score = softplus_from(p["scale"], 1) * out + p["shift"]
    if likelihood.name == "bernoulli":
        return stats.bernoulli(expit(score)).logpmf(x), expit(score)
    mu = softmax(score, axis=-2) * library
    if likelihood.name == "poisson":
        return stats.poisson(mu).logpmf(x), mu
    theta = np.exp(p["log_theta"])
    nb = stats.nbinom(theta, theta / (theta + mu))
    if likelihood.name == "nb":
        return nb.logpmf(x), mu
    pi = expit(p["logit_pi"])
    return np.log(pi * (x == 0) + (1 - pi) * nb.pmf(x)), (1 - pi) * mu


@each
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scipy(name, seed):
    likelihood, (out, x, library) = filled(name, seed=seed), values_of(name, seed=seed)
    expected, mean = by_scipy(likelihood, out, x, library)
    got = nll_of(likelihood, out, x, library)
    assert got.shape == (DECODINGS, CELLS)
    np.testing.assert_allclose(got.detach(), -expected.mean(axis=-2), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(likelihood.mean(out, library).detach(), mean, rtol=1e-9)


@pytest.mark.parametrize("name", ["nb", "zinb"])
@pytest.mark.parametrize("theta", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_theta_small_and_large(name, theta, dtype, rtol):
    likelihood = filled(name, dtype=dtype, log_theta=np.log(theta))
    out, x, library = (t.to(dtype) for t in values_of(name))
    expected, _ = by_scipy(likelihood.double(), out.double(), x.double(), library.double())
    got = nll_of(likelihood.to(dtype), out, x, library)
    np.testing.assert_allclose(got.detach(), -expected.mean(axis=-2), rtol=rtol, atol=rtol)


def test_gradient_of_theta_is_accurate_in_single_precision():
    def gradient(dtype):
        likelihood = filled("nb", dtype=dtype, log_theta=np.log(1e4))
        nll_of(likelihood, *(t.to(dtype) for t in values_of("nb"))).sum().backward()
        return likelihood.log_theta.grad

    exact = gradient(torch.float64)
    assert exact.abs().min() > 1e-5
    torch.testing.assert_close(gradient(torch.float32).double(), exact, rtol=1e-2, atol=1e-6)


def test_largest_theta_is_poisson():
    out, x, library = values_of("nb")
    nb, poisson = filled("nb", log_theta=50.0), filled("poisson")
    torch.testing.assert_close(nb.scale, poisson.scale)
    torch.testing.assert_close(nll_of(nb, out, x, library), nll_of(poisson, out, x, library), rtol=1e-3, atol=1e-3)


@each
def test_starts_at_the_plain_distribution(name):
    likelihood, (out, x, library) = LIKELIHOODS[name](FEATURES).double(), values_of(name)
    assert likelihood.n_features == FEATURES
    assert all(p.shape == (FEATURES, 1) and (p == 0).all() for p in likelihood.parameters())
    [got] = numpy_of(nll_of(likelihood, out, x, library))
    mu = softmax(out.numpy(), axis=-2) * library.numpy()
    nb = stats.nbinom(1, 1 / (1 + mu))
    pmf = {
        "gaussian": lambda: stats.norm(out.numpy(), 1).pdf(x),
        "nb": lambda: nb.pmf(x),
        "zinb": lambda: ((x == 0).numpy() + nb.pmf(x)) / 2,
        "poisson": lambda: stats.poisson(mu).pmf(x),
        "bernoulli": lambda: stats.bernoulli(expit(out.numpy())).pmf(x),
    }[name]()
    np.testing.assert_allclose(got, -np.log(pmf).mean(axis=-2), atol=1e-8)


# Where they start ---------------------------------------------------------------------------------------------------


def started(name, X):
    likelihood = LIKELIHOODS[name](X.shape[1]).double()
    likelihood.start(X)
    return likelihood


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix], ids=["dense", "sparse"])
@pytest.mark.parametrize("name", ["nb", "poisson", "zinb", "bernoulli"])
def test_start_is_the_average_cell(name, form):
    """A decoder that says nothing yet gives each feature's share of all counts, or how often it is 1."""
    rng = np.random.default_rng(0)
    X = rng.poisson(rng.gamma(2, 1, (500, 1)) * [0.2, 1, 5, 30]).astype(np.float32)
    X = (X > 2).astype(np.float32) if name == "bernoulli" else X
    likelihood, library = started(name, form(X)), torch.tensor([100.0, 7.0], dtype=torch.float64)
    mean = likelihood.mean(torch.zeros(4, 2, dtype=torch.float64), library).detach().numpy()
    if name == "bernoulli":
        np.testing.assert_allclose(mean, np.stack([X.mean(axis=0)] * 2, axis=1), atol=2e-3)
    else:
        keep = 0.5 if name == "zinb" else 1  # zeros take half at first
        share = X.sum(axis=0, dtype=float) / X.sum(dtype=float)
        np.testing.assert_allclose(mean, keep * np.outer(share, library), rtol=1e-6)
    assert (likelihood.scale == 0).all()


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix], ids=["dense", "sparse"])
@pytest.mark.parametrize("name", ["nb", "zinb"])
def test_start_of_theta_is_that_of_the_moments(name, form):
    """Cells of different depth and nothing else; a feature of Poisson counts is at the upper bound."""
    rng, theta = np.random.default_rng(0), np.array([0.5, 2.0, 10.0])
    mu = rng.gamma(5, 200, (20_000, 1)) * [0.05, 0.1, 0.2]
    X = np.hstack([rng.negative_binomial(theta, theta / (theta + mu)), rng.poisson(mu[:, :1] * 60)])
    likelihood = started(name, form(X.astype(np.float32)))
    got = likelihood.log_theta.detach().exp().numpy()[:, 0]
    np.testing.assert_allclose(got[:3], theta, rtol=0.25)
    assert got[3] > 50


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix], ids=["dense", "sparse"])
@pytest.mark.parametrize("name", ["nb", "zinb", "poisson", "bernoulli"])
def test_start_is_finite(name, form):
    """A feature that is nowhere, one that is everywhere, one in a single cell; a cell without anything."""
    X = np.zeros((20, 3), dtype=np.float32)
    X[1:, 1] = 1
    X[3, 2] = 1 if name == "bernoulli" else 1000
    likelihood = started(name, form(X))
    assert all(p.isfinite().all() and p.abs().max() < 20 for p in likelihood.parameters())


def test_gaussian_starts_at_one():
    X = np.random.default_rng(0).normal(5, 3, (20, 4))
    assert all((p == 0).all() for p in started("gaussian", X).parameters())


# One decoding, one cell ---------------------------------------------------------------------------------------------


@each
def test_decodings_are_independent(name):
    likelihood, (out, x, library) = filled(name), values_of(name)
    together = likelihood.nll(list(out), x, library)
    assert [part.shape for part in together] == [(CELLS,)] * DECODINGS
    for part, one in zip(together, out, strict=True):
        torch.testing.assert_close(likelihood.nll([one], x, library), [part])
    torch.testing.assert_close(likelihood.nll(list(out), x.T.contiguous().T, library), together)
    assert likelihood.mean(out[:, None], library).shape == (DECODINGS, 1, FEATURES, CELLS)


@each
def test_decodings_of_some_cells(name):
    """In any order, a cell more than once; others of all cells beside them."""
    likelihood, (out, x, library) = filled(name), values_of(name)
    whole = nll_of(likelihood, out, x, library)
    some, one = torch.tensor([4, 0, 9, 4]), torch.tensor([7])
    decodings = [out[0], out[1][:, some], out[2][:, one]]
    got = likelihood.nll(decodings, x, library, [None, some, one])
    torch.testing.assert_close(got, [whole[0], whole[1][some], whole[2][one]])


@each
def test_cells_are_independent(name):
    likelihood, (out, x, library) = filled(name), values_of(name)
    some = [4, 0, 9]
    expected = nll_of(likelihood, out, x, library)[:, some]
    torch.testing.assert_close(nll_of(likelihood, out[:, :, some], x[:, some], library[some]), expected)


@pytest.mark.parametrize("name", COUNTS)
def test_probabilities_add_up_and_have_the_mean(name):
    likelihood, x = filled(name, 1), torch.arange(3000, dtype=torch.float64)[None]
    library, out = torch.full((3000,), 17.0, dtype=torch.float64), torch.zeros(1, 3000, dtype=torch.float64)
    probability = torch.exp(-nll_of(likelihood, [out], x, library)[0])
    torch.testing.assert_close(probability.sum().item(), 1.0)
    torch.testing.assert_close((probability * x[0]).sum().item(), likelihood.mean(out, library)[0, 0].item())


@pytest.mark.parametrize("name", ["nb", "poisson"])
def test_means_add_up_to_the_library_size(name):
    out, _, library = values_of(name)
    torch.testing.assert_close(filled(name).mean(out, library).sum(-2), library.expand(DECODINGS, -1))


@pytest.mark.parametrize("name", COUNTS)
def test_cell_without_counts_is_certain(name):
    likelihood, (out, x, library) = filled(name), values_of(name)
    assert library[0] == 0 < library[1]
    nll = nll_of(likelihood, out, x, library)
    torch.testing.assert_close(nll[:, 0], torch.zeros_like(nll[:, 0]))
    assert (nll[:, 1:] > 0.1).all()
    assert (likelihood.mean(out, library)[..., 0] == 0).all()


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("parameter", [-50.0, -9.0, 0.0, 9.0, 50.0])
@pytest.mark.parametrize("loc", [-50.0, 50.0])
def test_finite_in_extremes(name, dtype, parameter, loc):
    likelihood = filled(name, dtype=dtype, **dict.fromkeys(("log_theta", "logit_pi", "spread", "scale"), parameter))
    out, x, library = (t.to(dtype) for t in values_of(name))
    out[:, ::2] = loc
    out.requires_grad_()
    nll = nll_of(likelihood, out, x, library)
    nll.sum().backward()
    assert nll.isfinite().all()
    for value in (out, *likelihood.parameters()):
        assert value.grad.isfinite().all()
    assert likelihood.mean(out, library).isfinite().all()


@each
def test_gradients(name):
    likelihood, (out, x, library) = filled(name), values_of(name)
    inputs = (out.requires_grad_(), *likelihood.parameters())
    assert torch.autograd.gradcheck(lambda out, *_: nll_of(likelihood, out, x, library), inputs)


@each
def test_counts_need_a_library(name):
    likelihood, (out, x, _) = filled(name), values_of(name)
    assert likelihood.counts == (name in COUNTS)
    if name in COUNTS:
        for call in (lambda: nll_of(likelihood, out, x, None), lambda: likelihood.mean(out, None)):
            with pytest.raises(ValueError, match=f"{name!r} needs library, the total counts of each cell"):
                call()
    else:
        assert nll_of(likelihood, out, x, None).shape == (DECODINGS, CELLS)
        assert likelihood.mean(out, None).shape == out.shape


# Which one ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[np.asarray, sp.csr_matrix], ids=["dense", "sparse"])
def matrix(request, monkeypatch):
    """A matrix of these rows, dense or sparse; the latter never becomes dense."""
    for method in ("toarray", "todense"):
        monkeypatch.setattr(sp.csr_matrix, method, lambda *_a, **_k: pytest.fail("a sparse matrix was made dense"))
    return lambda rows: request.param(np.array(rows, dtype=np.float32))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[0, 1], [1, 0]], "bernoulli"),
        ([[1, 1]], "bernoulli"),
        ([[0, 0]], "bernoulli"),
        ([[0, 2], [1, 0]], "nb"),
        ([[0, 2], [1, -1]], "gaussian"),
        ([[0, 1], [0.5, 0]], "gaussian"),
        ([[-1, 0]], "gaussian"),
    ],
)
def test_likelihood_of(matrix, rows, expected):
    X = matrix(rows)
    assert likelihood_of(X) == expected
    assert check_likelihood(expected, X, "rna") is None


def test_what_suits_less_specific_values_also_suits_others(matrix):
    for name in LIKELIHOODS:
        check_likelihood(name, matrix([[0, 1]]), "rna")
    for name in ("gaussian", *COUNTS):
        check_likelihood(name, matrix([[0, 3]]), "rna")
    check_likelihood("gaussian", matrix([[-0.5, 3]]), "rna")


@pytest.mark.parametrize("name", COUNTS)
def test_values_that_are_no_counts(matrix, name):
    expected = (
        rf"'rna' has likelihood '{name}' but holds 2 values that are negative or not whole numbers \(first: 0.5\)\. "
        r"Give the layer with raw counts: layer=\{'rna': 'counts'\}; or choose 'gaussian'"
    )
    with pytest.raises(ValueError, match=expected):
        check_likelihood(name, matrix([[0, 3, 0.5], [0, 0, -2]]), "rna")


@pytest.mark.parametrize(("value", "suits"), [(3, "nb"), (-1, "gaussian"), (0.25, "gaussian")])
def test_values_that_are_not_0_or_1(matrix, value, suits):
    expected = rf"'atac' has likelihood 'bernoulli' but holds 1 values other than 0 and 1 \(first: {value}\)\."
    with pytest.raises(ValueError, match=f"{expected} .*choose '{suits}'"):
        check_likelihood("bernoulli", matrix([[0, 1, value]]), "atac")


def test_unknown_likelihood():
    expected = r"no likelihood 'normal' for modality 'rna'\. Choose one of \['gaussian', 'nb', 'zinb', 'poisson', 'bern"
    with pytest.raises(ValueError, match=expected):
        check_likelihood("normal", np.zeros((1, 1), dtype=np.float32), "rna")
