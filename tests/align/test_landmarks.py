import numpy as np
import pytest
from scipy.spatial.distance import cdist

from jamie_sc.align._landmarks import N_NEAR, Landmarks, mixture


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return (rng.standard_normal((300, 4)) + 4 * rng.integers(0, 3, (300, 1))).astype(np.float32)


def of(X, n, seed=0):
    return Landmarks.of(X, n, np.random.default_rng(seed))


def test_mixture(X):
    points = X[::10]
    got = mixture(X, points)
    assert got.shape == (300, 30)
    assert (np.diff(got.indptr) <= N_NEAR).all()
    np.testing.assert_allclose(got.sum(axis=1), 1, rtol=1e-5)
    assert got.data.min() >= 0
    distance = cdist(X, points)
    for row, far in zip(got.toarray(), distance, strict=True):
        nearest = np.argsort(far)[:N_NEAR]
        assert set(np.flatnonzero(row)) <= set(nearest)
        assert (np.diff(row[nearest]) <= 1e-6).all()  # the nearer the more


def test_a_cell_on_a_landmark_is_mostly_that_one(X):
    got = mixture(X, X).toarray()
    assert (got.argmax(axis=1) == np.arange(300)).all()


def test_cells_equally_far_count_the_same():
    got = mixture(np.zeros((1, 2)), np.array([[1, 0], [0, 1], [-1, 0], [0, -1], [0, 0.5], [9, 9]]))
    np.testing.assert_allclose(got.toarray()[0, :4], got[0, 0], rtol=1e-6)
    assert got[0, 4] > got[0, 0] > 0
    assert got[0, 5] == 0


def test_fewer_points_than_near(X):
    got = mixture(X, X[:3])
    assert got.shape == (300, 3)
    np.testing.assert_allclose(got.sum(axis=1), 1, rtol=1e-5)


def test_copies_of_one_point():
    X = np.ones((12, 2), dtype=np.float32)
    got = mixture(X, X)
    np.testing.assert_allclose(got.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("n", [300, 1000])
def test_few_cells_are_all_landmarks(X, n):
    all_cells = of(X, n)
    np.testing.assert_array_equal(all_cells.points, X)
    np.testing.assert_allclose(all_cells.weight, 1 / 300)
    assert all_cells.mixture.shape == (300, 300)


def test_centres(X):
    few = of(X, 40)
    n = len(few.points)
    assert 30 < n <= 40
    assert few.points.dtype == few.weight.dtype == np.float32
    assert few.weight.sum() == pytest.approx(1, rel=1e-5)
    assert (few.weight > 0).all()
    assert few.mixture.shape == (300, n)
    np.testing.assert_allclose(few.weight * 300, np.rint(few.weight * 300), atol=1e-3)  # cells counted
    nearest = cdist(X, few.points).min(axis=1)
    assert nearest.mean() < 0.6 * cdist(X, X[:40]).min(axis=1).mean() + 0.4
    np.testing.assert_allclose(few.weight @ few.points, X.mean(axis=0), atol=0.2)


def test_centres_come_from_the_generator(X):
    np.testing.assert_array_equal(of(X, 40).points, of(X, 40).points)
    assert not np.array_equal(of(X, 40).points, of(X, 40, seed=1).points)


def test_mean(X):
    few = of(X, 40)
    values = np.random.default_rng(1).standard_normal((300, 2)).astype(np.float32)
    share = few.mixture.toarray()
    expected = np.stack([np.average(values, axis=0, weights=share[:, k]) for k in range(share.shape[1])])
    np.testing.assert_allclose(few.mean(values), expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(few.mean(np.full((300, 1), 3, dtype=np.float32)), 3, rtol=1e-5)
    assert few.mean(np.zeros((300, 0), np.float32)).shape == (len(few.points), 0)
