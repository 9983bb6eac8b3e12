import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import roc_auc_score

from jamie_sc.metrics import _arrays, auroc


@pytest.fixture
def matrices():
    rng = np.random.default_rng(0)
    measured = rng.normal(size=(41, 12)) * np.arange(1, 13) + np.arange(12)  # no two features with the same median
    measured[:, 6:] = rng.poisson(0.7, size=(41, 6))
    return measured, np.round(measured + 3 * rng.normal(size=measured.shape))  # rounded: with ties


def test_equals_sklearn(matrices):
    measured, imputed = matrices
    expected = [roc_auc_score(m > np.median(m), i) for m, i in zip(measured.T, imputed.T, strict=True)]
    np.testing.assert_allclose(auroc(measured, imputed), expected, rtol=1e-12)


def test_sparse_and_blocks_change_nothing(matrices, monkeypatch):
    measured, imputed = matrices
    expected = auroc(measured, imputed)
    monkeypatch.setattr(_arrays, "BLOCK_VALUES", 100)
    np.testing.assert_array_equal(auroc(measured, imputed), expected)
    np.testing.assert_array_equal(auroc(sparse.csr_array(measured), sparse.csc_matrix(imputed)), expected)


def test_the_median_is_low():
    # medians 2 and 1.5: one and two cells of three and four are high
    np.testing.assert_array_equal(auroc([[1], [2], [3]], [[0], [9], [5]]), [0.5])
    np.testing.assert_array_equal(auroc([[0], [1], [2], [3]], [[0], [1], [2], [3]]), [1.0])


def test_perfect_reversed_and_constant_imputation():
    measured = np.random.default_rng(1).normal(size=(30, 1))
    np.testing.assert_array_equal(auroc(measured, np.exp(measured)), [1])
    np.testing.assert_array_equal(auroc(measured, -measured), [0])
    np.testing.assert_array_equal(auroc(measured, np.ones((30, 1))), [0.5])


def test_nan_where_nothing_is_high():
    measured = np.array([[5, 0, 0], [5, 1, 0], [5, 1, 0], [5, 1, 2]])  # constant; most at the maximum; mostly zero
    imputed = np.arange(12.0).reshape(4, 3)
    np.testing.assert_array_equal(auroc(measured, imputed), [np.nan, np.nan, 1])


@pytest.mark.parametrize(
    ("measured", "imputed", "message"),
    [
        (np.ones((3, 2)), np.ones((3, 4)), "measured is 3 cells x 2 features and imputed is 3 x 4"),
        (np.ones((2, 1)), np.array([[1], [np.nan]]), "imputed has NaN .* row 1, column 0"),
    ],
)
def test_errors(measured, imputed, message):
    with pytest.raises(ValueError, match=message):
        auroc(measured, imputed)
