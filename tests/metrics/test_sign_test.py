from math import comb

import numpy as np
import pytest

from jamie_sc.metrics import SignTest, sign_test


def scores(n_better, n_worse, n_ties=0):
    difference = np.array([1.0] * n_better + [-1.0] * n_worse + [0.0] * n_ties)
    return difference, np.zeros(len(difference))


@pytest.mark.parametrize(("n_better", "n_worse"), [(9, 3), (3, 9), (12, 0), (6, 6), (1, 0)])
def test_equals_the_sum_of_both_tails(n_better, n_worse):
    n, k = n_better + n_worse, max(n_better, n_worse)
    tail = sum(comb(n, i) for i in range(k, n + 1)) / 2**n
    result = sign_test(*scores(n_better, n_worse))
    assert result[:3] == (n_better, n_worse, 0)
    assert result.pvalue == pytest.approx(min(1, 2 * tail))


def test_figures_of_the_paper():
    """Section 2.2: 33 of 39 features, p < 2e-5 (visual cortex); 22 of 29, p < 9e-3 (motor cortex)."""
    assert 1e-5 < sign_test(*scores(33, 39 - 33)).pvalue < 2e-5
    assert 8e-3 < sign_test(*scores(22, 29 - 22)).pvalue < 9e-3


def test_ties_and_nan_are_dropped():
    a, b = scores(5, 2, n_ties=4)
    a, b = np.append(a, [np.nan, 1.0, np.nan]), np.append(b, [1.0, np.nan, np.nan])
    assert sign_test(a, b) == SignTest(5, 2, 4, sign_test(*scores(5, 2)).pvalue)


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0, 2.0], [1.0, 2.0]), ([np.nan], [0.0])])
def test_no_difference(a, b):
    result = sign_test(a, b)
    assert (result.n_better, result.n_worse, result.pvalue) == (0, 0, 1.0)


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0, 2.0]), ([[1.0]], [[2.0]]), (1.0, 2.0)])
def test_errors(a, b):
    with pytest.raises(ValueError, match="a and b must have one score for each feature, but their shapes are"):
        sign_test(a, b)
