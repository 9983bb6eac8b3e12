import numpy as np
import pytest
from scipy import sparse
from scipy.stats import pearsonr

from jamie_sc.metrics import _arrays, pearson


@pytest.fixture
def matrices():
    rng = np.random.default_rng(0)
    measured = rng.poisson(1.0, size=(60, 9)).astype(float)
    return measured, measured + 2 * rng.normal(size=measured.shape)


def test_equals_scipy(matrices):
    expected = [pearsonr(a, b).statistic for a, b in zip(*(m.T for m in matrices), strict=True)]
    np.testing.assert_allclose(pearson(*matrices), expected, rtol=1e-10)


def test_sparse_equals_dense(matrices):
    measured, imputed = matrices
    for kind in (sparse.csr_matrix, sparse.csc_array, sparse.coo_array):
        np.testing.assert_allclose(pearson(kind(measured), imputed), pearson(measured, imputed), rtol=1e-12)
        np.testing.assert_allclose(pearson(kind(measured), kind(imputed)), pearson(measured, imputed), rtol=1e-12)


@pytest.mark.parametrize("values", [1, 60, 125, 60 * 9])
def test_blocks_change_nothing(matrices, values, monkeypatch):
    expected = pearson(*matrices)
    monkeypatch.setattr(_arrays, "BLOCK_VALUES", values)
    np.testing.assert_allclose(pearson(*matrices), expected, rtol=1e-12)
    np.testing.assert_allclose(pearson(*map(sparse.csr_array, matrices)), expected, rtol=1e-12)


def test_constant_features_score_zero():
    """0.1 is no exact binary number, so the mean of many is not quite 0.1."""
    varying = np.arange(49.0)
    constant = np.full(49, 0.1)
    measured = np.column_stack([varying, constant, constant, varying])
    imputed = np.column_stack([constant, varying, constant, -3 * varying])
    np.testing.assert_allclose(pearson(measured, imputed), [0, 0, 0, -1], atol=1e-14)
    assert (pearson(measured, imputed)[:3] == 0).all()


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
def test_scale_and_offset_change_nothing(matrices, scale):
    measured, imputed = matrices
    np.testing.assert_allclose(pearson(scale * measured, imputed), pearson(measured, imputed), rtol=1e-10)
    np.testing.assert_allclose(pearson(measured + 1e6, imputed), pearson(measured, imputed), rtol=1e-6)


def test_input_is_left_as_it_was(matrices):
    before = [m.copy() for m in matrices]
    pearson(*matrices)
    for now, then in zip(matrices, before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_one_cell():
    np.testing.assert_array_equal(pearson([[1, 2]], [[3, 4]]), [0, 0])


@pytest.mark.parametrize(
    ("measured", "imputed", "message"),
    [
        (np.ones((3, 2)), np.ones((3, 4)), "measured is 3 cells x 2 features and imputed is 3 x 4"),
        (np.ones((3, 2)), np.ones((2, 2)), "measured is 3 cells x 2 features and imputed is 2 x 2"),
        (np.ones(3), np.ones(3), r"measured must be a matrix .* shape \(3,\)"),
        (np.ones((3, 2)), np.ones((0, 2)), "imputed is empty: 0 cells x 2 columns"),
        (np.ones((3, 0)), np.ones((3, 0)), "measured is empty: 3 cells x 0 columns"),
        (np.ones((2, 2)), np.array([[1, 2], [np.nan, 3]]), "imputed has NaN .* row 1, column 0"),
        (sparse.csr_array([[1, np.inf], [1, 3]]), np.ones((2, 2)), "measured has NaN .* row 0, column 1"),
    ],
)
def test_errors(measured, imputed, message):
    with pytest.raises(ValueError, match=message):
        pearson(measured, imputed)


def test_error_names_the_column_of_the_whole_matrix(monkeypatch):
    monkeypatch.setattr(_arrays, "BLOCK_VALUES", 4)
    measured = np.ones((2, 7))
    measured[1, 5] = np.nan
    with pytest.raises(ValueError, match="measured has NaN .* row 1, column 5"):
        pearson(measured, np.ones((2, 7)))
