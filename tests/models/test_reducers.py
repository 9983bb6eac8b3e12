import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from jamie_sc.models._reducers import Reducer, default_n_components, holds_counts


@pytest.fixture
def counts():
    return np.random.default_rng(0).poisson(np.random.default_rng(1).gamma(1, 3, 40), (120, 40)).astype(np.float32)


def test_agrees_with_scikit_learn(counts):
    reducer = Reducer.fit(counts, n_components=6)
    scores = PCA(6, svd_solver="full").fit_transform(StandardScaler().fit_transform(counts))
    got = reducer.transform(counts)
    np.testing.assert_allclose(np.abs((got * scores).sum(0)), (scores**2).sum(0), rtol=1e-3)  # up to the sign
    np.testing.assert_allclose(reducer.variance, scores.var(axis=0, ddof=1), rtol=1e-3)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("clip", [np.inf, 2.0])
def test_sparse_is_dense(counts, log, clip):
    dense = Reducer.fit(counts, n_components=5, clip=clip, log=log)
    sparse = Reducer.fit(sp.csr_matrix(counts), n_components=5, clip=clip, log=log)
    signs = np.sign((dense.components * sparse.components).sum(axis=1))
    np.testing.assert_allclose(
        dense.transform(counts),
        sparse.transform(sp.csr_matrix(counts)) * signs,
        atol=2e-2 * np.abs(counts).max() ** 0.5,
    )
    np.testing.assert_allclose(dense.transform(counts), dense.transform(sp.csr_matrix(counts)), atol=1e-4)


def test_sparse_stays_sparse(counts, monkeypatch):
    for cls in (sp.csr_matrix, sp.csc_matrix, sp.coo_matrix):
        for method in ("toarray", "todense"):
            monkeypatch.setattr(cls, method, lambda *_a, **_k: pytest.fail("a sparse matrix was made dense"))
    X = sp.csr_matrix(counts)
    assert Reducer.fit(X, n_components=5, log=True, clip=10).transform(X).shape == (120, 5)


def test_all_components_invert(counts):
    reducer = Reducer.fit(counts, n_components=100)
    assert reducer.n_components == 40
    np.testing.assert_allclose(reducer.inverse(reducer.transform(counts)), counts, atol=1e-3)
    np.testing.assert_allclose(
        reducer.inverse(reducer.transform(counts), np.array([7, 3])), counts[:, [7, 3]], atol=1e-3
    )


def test_clip_is_in_standard_deviations_and_never_past_zero():
    X = np.ones((101, 2), dtype=np.float32)
    X[:, 1] = np.linspace(-1, 1, 101)
    X[:50, 0], X[0] = 1.2, (100, 50)
    sd, mean = X.std(axis=0), X.mean(axis=0)
    clipped = Reducer.fit(X, n_components=2, clip=3.0)
    by_hand = np.clip(X, np.minimum(mean - 3 * sd, 0), np.maximum(mean + 3 * sd, 0))
    np.testing.assert_allclose(clipped.inverse(clipped.transform(X)), by_hand, atol=1e-4)


def test_log_normalisation_is_that_of_scanpy(counts):
    import anndata as ad
    import scanpy as sc

    expected = ad.AnnData(counts.copy())
    sc.pp.normalize_total(expected)  # to the median
    sc.pp.log1p(expected)
    reducer = Reducer.fit(counts, n_components=40, log=True)
    np.testing.assert_allclose(reducer.inverse(reducer.transform(counts)), expected.X, atol=1e-3)


def test_cells_without_counts_are_zero_and_not_nan(counts):
    counts[3] = 0
    for X in (counts, sp.csr_matrix(counts)):
        assert np.isfinite(Reducer.fit(X, n_components=5, log=True).transform(X)).all()


def test_denoising_comes_closer_to_the_truth():
    """Rank 3 in noise: shrunk components are nearer to the noise-free matrix than plain ones; noise alone leaves none."""
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((150, 3)) @ rng.standard_normal((3, 200))
    noisy = (truth + 2 * rng.standard_normal(truth.shape)).astype(np.float32)
    error = {}
    for denoise in (False, True):
        reducer = Reducer.fit(noisy, n_components=30, denoise=denoise)
        error[denoise] = np.square(reducer.inverse(reducer.transform(noisy)) - truth).mean()
    assert error[True] < 0.7 * error[False]
    assert reducer.shrinkage[2] > 0.9 > 0.7 > reducer.shrinkage[3]
    np.testing.assert_allclose(reducer.transform(noisy).var(axis=0, ddof=1), reducer.variance, rtol=1e-3, atol=1e-6)
    noise = Reducer.fit(rng.standard_normal((150, 200)).astype(np.float32), n_components=30, denoise=True)
    assert noise.shrinkage.max() < 0.7


def test_without_noise_nothing_is_taken_out(counts):
    np.testing.assert_array_equal(Reducer.fit(counts, n_components=40, denoise=True).shrinkage, 1)


def test_constant_feature(counts):
    counts[:, 0] = 5
    reducer = Reducer.fit(counts, n_components=39)
    assert np.isfinite(reducer.transform(counts)).all()
    np.testing.assert_allclose(reducer.inverse(reducer.transform(counts))[:, 0], 5, atol=1e-3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([[0, 16.0]], True), ([[0, 15.0]], False), ([[0, 16.5]], False), ([[-1, 16.0]], False), ([[0, 0.0]], False)],
)
def test_holds_counts(values, expected):
    assert holds_counts(np.array(values)) is expected
    assert holds_counts(sp.csr_matrix(np.array(values))) is expected


def test_default_n_components():
    assert [default_n_components(n, 1000) for n in (100, 480, 5000)] == [32, 48, 96]
    assert default_n_components(5000, 20) == 20


# Features -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_features_are_clipped_and_scaled(form):
    X = np.random.default_rng(0).standard_normal((80, 6)).astype(np.float32) * [1, 2, 3, 4, 5, 6] + 10
    X[0] = 100
    reducer = Reducer.fit(X, n_components=3, clip=3.0)
    mean, sd = X.mean(axis=0), X.std(axis=0)
    expected = (np.clip(X, np.minimum(mean - 3 * sd, 0), mean + 3 * sd) - mean) / sd
    got = reducer.features(form(X.astype(np.float32)))
    assert isinstance(got, np.ndarray)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert got[0] == pytest.approx(np.full(6, 3), abs=1e-3)


def test_features_are_those_of_the_components(counts):
    """Rotated, they are what `transform` returns, up to a shift where they keep their own units."""
    for options in ({}, {"standardize": False}, {"log": True, "standardize": False}, {"log": True}):
        reducer = Reducer.fit(counts, n_components=40, clip=4.0, **options)
        rotated = reducer.features(counts) @ reducer.components.T
        shift = reducer.transform(counts) - rotated
        np.testing.assert_allclose(shift, np.broadcast_to(shift[:1], shift.shape), atol=1e-2)


def test_features_in_their_own_units_are_not_centred(counts):
    """A zero stays a zero; counts are logged, at equal depth."""
    reducer = Reducer.fit_inputs(counts, n_components=5, own_units=True)
    depth = counts.sum(axis=1, keepdims=True)
    expected = np.log1p(counts / depth * np.median(depth))
    np.testing.assert_allclose(reducer.features(counts), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(reducer.features(sp.csr_matrix(counts)), expected, rtol=1e-4, atol=1e-5)
    assert ((reducer.features(counts) == 0) == (counts == 0)).all()


def test_a_feature_of_spread_one_is_centred_with_the_others():
    """What is in its own units is the matrix, not the feature whose deviation happens to be 1."""
    X = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32) * [1, 2, 3] + 5
    X[:, 0] = np.tile([4, 6], 25)
    reducer = Reducer.fit(X.astype(np.float32), n_components=3)
    np.testing.assert_allclose(reducer.features(X.astype(np.float32)).mean(axis=0), 0, atol=1e-4)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize(
    "options",
    [{}, {"standardize": False}, {"log": True}, {"log": True, "standardize": False}, {"denoise": True}],
    ids=lambda options: "-".join(options) or "standardised",
)
def test_axes_lead_from_features_to_components(counts, form, options):
    """transform(X) = (features(X) - average) axes', shrinkage and clipping included."""
    X = form(counts)
    reducer = Reducer.fit(X, n_components=6, clip=1.5, **options)
    got = (reducer.features(X) - reducer.average) @ reducer.axes.T
    np.testing.assert_allclose(got, reducer.transform(X), rtol=1e-4, atol=1e-3)
    assert reducer.axes.shape == (6, 40)
    assert np.isclose(reducer.shrinkage, 1).all() != ("denoise" in options)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix])
@pytest.mark.parametrize("options", [{}, {"log": True, "standardize": False}], ids=["standardised", "logged"])
def test_columns_are_some_of_the_features(counts, form, options):
    """A cell's total is that of all features, whichever are asked for."""
    reducer = Reducer.fit(counts, n_components=6, clip=2.0, **options)
    columns = np.array([7, 3, 7])
    got = reducer.scaled(reducer.logged(form(counts)), columns)
    assert isinstance(got, np.ndarray)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, reducer.features(counts)[:, columns], rtol=1e-6)


def test_average_is_what_features_are_for_the_mean_of_the_cells(counts):
    for options in ({}, {"standardize": False}, {"log": True, "standardize": False}):
        reducer = Reducer.fit(counts, n_components=6, **options)
        np.testing.assert_allclose(reducer.features(counts).mean(axis=0), reducer.average, atol=1e-4)
    assert (reducer.average > 0).all()
    np.testing.assert_array_equal(Reducer.fit(counts, n_components=6).average, 0)
