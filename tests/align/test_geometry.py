import logging
from itertools import product

import numpy as np
import pytest
from scipy.sparse.csgraph import floyd_warshall
from scipy.spatial.distance import cdist
from scipy.stats import rankdata, spearmanr

from jamie_sc.align._geometry import (
    diffusion_ranks,
    hop_distances,
    mean_geometry,
    metrics_for,
    neighborhood_sizes,
    unit,
)


@pytest.fixture
def weight():
    w = np.random.default_rng(0).uniform(0.5, 2, 40).astype(np.float32)
    return w / w.sum()


def mean_square(D, weight):
    return sum(weight[i] * weight[j] * D[i, j] ** 2 for i in range(len(D)) for j in range(len(D)))


def some_distances(seed, n=40):
    x = np.random.default_rng(seed).standard_normal((n, 3))
    return cdist(x, x).astype(np.float32)


def test_unit(weight):
    D = some_distances(0)
    scaled = unit(D, weight)
    assert mean_square(scaled, weight) == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(scaled / scaled[0, 1], D / D[0, 1], rtol=1e-5)
    np.testing.assert_allclose(unit(7 * D, weight), scaled, rtol=1e-5)


def test_mean_geometry(weight):
    parts = [unit(some_distances(seed), weight) for seed in range(3)]
    got = mean_geometry(parts, weight)
    mean = sum(part.astype(float) for part in parts) / 3
    mean /= np.sqrt(mean_square(mean, weight))
    saturated = 1 - np.exp(-(mean**2))
    assert mean_square(got, weight) == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(got, saturated / np.sqrt(mean_square(saturated, weight)), rtol=1e-4)
    np.testing.assert_allclose(mean_geometry(iter(parts), weight), got)  # as they come
    assert got.dtype == np.float32


@pytest.mark.parametrize(("n", "given"), [(1000, None), (256, None), (30, None), (17, None), (12, None), (6, None)])
def test_sizes(n, given):
    sizes = neighborhood_sizes(n, given)
    assert sizes == sorted(set(sizes))
    assert sizes[0] == min(5, n - 1)
    assert sizes[-1] <= max(5, round(0.3 * n))
    assert max(sizes) < n
    if n >= 256:
        assert len(sizes) == 8
        assert sizes[-1] == round(0.3 * n)
        ratios = np.divide(sizes[1:], sizes[:-1])
        np.testing.assert_allclose(ratios, (0.3 * n / 5) ** (1 / 7), rtol=0.15)


def test_a_given_size():
    assert neighborhood_sizes(100, 12) == [12]
    assert neighborhood_sizes(10, 12) == [9]


def test_hop_distances_of_each_metric_and_size():
    X = np.random.default_rng(3).standard_normal((50, 5)).astype(np.float32)
    weight = np.full(50, 1 / 50, dtype=np.float32)
    got = list(hop_distances(X, weight, [6, 15]))
    assert len(got) == 4
    for D, (metric, size) in zip(got, product(("correlation", "euclidean"), (6, 15)), strict=True):
        straight = cdist(X, X, metric)
        graph = np.full(straight.shape, np.inf)
        for i, row in enumerate(straight):
            near = np.argsort(row)[1 : size + 1]
            graph[i, near] = graph[near, i] = 1
        expected = floyd_warshall(graph)
        assert np.isfinite(expected).all()
        np.testing.assert_allclose(D, expected / np.sqrt((expected**2).mean()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [None, "adt"])
def test_components_of_the_largest_neighborhood_are_named(caplog, name):
    """Two groups stay apart whatever the size; a gap within them only at the smallest."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 4)).astype(np.float32)
    X[:15] += 50 * np.array([1, -1, 2, 0])
    weight = np.full(40, 1 / 40, dtype=np.float32)
    with caplog.at_level(logging.WARNING):
        got = list(hop_distances(X, weight, [3, 8], name=name))
    assert np.isfinite(got).all()
    assert len(caplog.records) == (name is not None)
    if name:
        assert "8 neighbours of 'adt' falls into 2 components, of 25, 15" in caplog.text


def test_few_features_are_not_correlated():
    assert list(metrics_for(5)) == ["correlation", "euclidean"]
    assert list(metrics_for(4)) == ["euclidean"]
    got = list(hop_distances(np.eye(12)[:, :3].astype(np.float32), np.full(12, 1 / 12), [5], metrics=metrics_for(3)))
    assert len(got) == 1


# Diffusion ----------------------------------------------------------------------------------------------------------


def test_diffusion_recovers_the_order_of_a_line(weight):
    x = np.random.default_rng(4).permutation(np.linspace(0, 1, 40) ** 1.5)
    D = unit(np.abs(x[:, None] - x).astype(np.float32), weight)
    ranks = diffusion_ranks(D, weight)
    assert ranks.shape == (40, 2)
    assert ranks.dtype == np.float32
    first = ranks[:, 0]
    assert abs(spearmanr(first, x)[0]) > 0.999
    order = np.argsort(first)
    before = np.cumsum(weight[order]) - weight[order] / 2
    np.testing.assert_allclose(first[order], before, rtol=1e-4)
    assert abs(spearmanr(ranks[:, 1], np.abs(rankdata(x) - 20.5))[0]) > 0.8  # the ends against the middle


def test_diffusion_ranks_lie_in_the_open_unit_interval(weight):
    ranks = diffusion_ranks(mean_geometry([some_distances(2)], weight), weight, n=3)
    assert ranks.shape == (40, 3)
    assert ranks.min() > 0
    assert ranks.max() < 1
    assert ranks.T @ weight == pytest.approx(np.full(3, 0.5), abs=1e-3)
