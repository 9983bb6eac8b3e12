import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from jamie_sc.metrics import _arrays, js_distance


def from_the_definition(a, b, low, high, n_bins):
    """Root of the mean of both Kullback-Leibler divergences from the average distribution, in bits."""
    p, q = (np.histogram(values, bins=n_bins, range=(low, high))[0] / len(values) for values in (a, b))
    average = (p + q) / 2
    divergence = 0.0
    for distribution in (p, q):
        some = distribution > 0
        divergence += np.sum(distribution[some] * np.log2(distribution[some] / average[some])) / 2
    return np.sqrt(divergence)


@pytest.fixture
def matrices():
    rng = np.random.default_rng(0)
    measured = rng.normal(size=(80, 6)) * np.arange(1, 7)
    return measured, 0.5 * measured + rng.normal(size=measured.shape) + 1


@pytest.mark.parametrize("n_bins", [2, 20, 33])
def test_equals_the_definition(matrices, n_bins):
    expected = [
        from_the_definition(a, b, min(a.min(), b.min()), max(a.max(), b.max()), n_bins)
        for a, b in zip(*(m.T for m in matrices), strict=True)
    ]
    distances = js_distance(*matrices, n_bins=n_bins)
    assert isinstance(distances, np.ndarray)
    np.testing.assert_allclose(distances, expected, rtol=1e-10)


def test_labels_share_the_bins_of_their_feature(matrices):
    measured, imputed = matrices
    labels = np.random.default_rng(1).choice(["Vip", "Sst", "Pvalb"], size=80)
    distances = js_distance(measured, imputed, labels=labels)
    assert isinstance(distances, pd.DataFrame)
    assert list(distances.columns) == ["Pvalb", "Sst", "Vip"]
    assert distances.shape == (6, 3)
    for feature in range(6):
        a, b = measured[:, feature], imputed[:, feature]
        low, high = min(a.min(), b.min()), max(a.max(), b.max())
        for label in distances:
            of = labels == label
            expected = from_the_definition(a[of], b[of], low, high, 20)
            assert distances.loc[feature, label] == pytest.approx(expected, rel=1e-10)


def test_one_label_is_no_label(matrices):
    one = js_distance(*matrices, labels=np.full(80, "cell"))
    np.testing.assert_array_equal(one["cell"], js_distance(*matrices))


def test_counts_fall_into_the_bins_of_numpy():
    """Whole numbers lie on the edges of bins, the largest on the last one."""
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 101, size=(2, 500, 1))
    a[0], b[0] = 0, 100
    expected = from_the_definition(a, b, 0, 100, 100)
    np.testing.assert_allclose(js_distance(a, b, n_bins=100), [expected], rtol=1e-10)


def test_closed_forms():
    apart = js_distance(np.zeros((5, 1)), np.ones((5, 1)))
    same = js_distance(np.arange(5.0)[:, None], np.arange(5.0)[::-1, None])
    constant = js_distance(np.full((5, 1), 0.3), np.full((5, 1), 0.3))
    np.testing.assert_allclose([*apart, *same, *constant], [1, 0, 0], atol=1e-12)
    # (1/2, 1/2) against (0, 1): in bits 1/2 (1/2 log 2 + 1/2 log 2/3) + 1/2 log 4/3
    half = 0.5 * (0.5 * np.log2(2) + 0.5 * np.log2(2 / 3)) + 0.5 * np.log2(4 / 3)
    np.testing.assert_allclose(js_distance([[0], [1]], [[1], [1]]), [np.sqrt(half)], rtol=1e-12)


def test_distance_of_two_samples_of_one_distribution():
    """The rule of thumb of the docstring."""
    n, n_bins = 4000, 10
    a, b = np.random.default_rng(3).uniform(size=(2, n, 300))
    squared = np.mean(js_distance(a, b, n_bins=n_bins) ** 2)
    assert squared == pytest.approx((n_bins - 1) / (4 * n * np.log(2)), rel=0.1)


def test_sparse_and_blocks_change_nothing(matrices, monkeypatch):
    measured, imputed = np.maximum(matrices, 0)
    labels = np.arange(80) % 3
    expected = js_distance(measured, imputed, labels=labels)
    monkeypatch.setattr(_arrays, "BLOCK_VALUES", 160)
    pd.testing.assert_frame_equal(js_distance(measured, imputed, labels=labels), expected)
    in_sparse = js_distance(sparse.csr_matrix(measured), sparse.csc_array(imputed), labels=labels)
    pd.testing.assert_frame_equal(in_sparse, expected)


@pytest.mark.parametrize(
    ("imputed", "options", "message"),
    [
        (np.ones((3, 4)), {}, "measured is 3 cells x 2 features and imputed is 3 x 4"),
        (np.full((3, 2), np.nan), {}, "imputed has NaN .* row 0, column 0"),
        (np.ones((3, 2)), {"n_bins": 1}, "n_bins must be at least 2, not 1"),
        (np.ones((3, 2)), {"labels": ["a", "b"]}, r"labels has shape \(2,\): give one label for each of the 3 cells"),
        (np.ones((3, 2)), {"labels": ["a", "b", None]}, "labels is missing for 1 of 3 cells, the first in row 2"),
    ],
)
def test_errors(imputed, options, message):
    with pytest.raises(ValueError, match=message):
        js_distance(np.ones((3, 2)), imputed, **options)
