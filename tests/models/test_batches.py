import numpy as np
import pytest
import scipy.sparse as sp
import torch

from jamie_sc.models._batches import Batches


def make(rows, F, **kwargs):
    options = {"batch_size": 8, "tempering": 1.0, "rng": np.random.default_rng(0), "device": torch.device("cpu")}
    return Batches([np.asarray(r) for r in rows], F, **(options | kwargs))


def paired(rows_a, rows_b):
    return {(0, 1): sp.csr_matrix((np.asarray(rows_a)[:, None] == np.asarray(rows_b)).astype(np.float32))}


def test_every_cell_once_an_epoch_and_pairs_together():
    a, b = np.arange(32), np.random.default_rng(1).permutation(32)
    batches = make((a, b), paired(a, b))
    seen = []
    for _ in range(batches.steps_per_epoch):
        batch = batches.draw()
        i, j = batch.index
        assert sorted(a[i]) == sorted(b[j])  # the same cells in both modalities
        link = batch.links[0, 1]
        np.testing.assert_array_equal(a[i][link.i], b[j][link.j])
        assert len(link.weight) == 8
        seen += a[i].tolist()
    assert sorted(seen) == a.tolist()


def test_no_cell_twice_in_a_batch():
    batches = make((np.arange(13), np.arange(13)), {}, batch_size=8)
    for _ in range(50):
        (i, _) = batches.draw().index
        assert len(set(i.tolist())) == len(i)


def test_submatrix_of_a_soft_correspondence():
    rng = np.random.default_rng(0)
    F = sp.random(20, 30, 0.3, random_state=1, format="csr")
    batches = make((np.arange(20), np.arange(20, 50)), {(0, 1): F}, batch_size=25, rng=rng)
    batch = batches.draw()
    i, j = (index.numpy() for index in batch.index)
    link = batch.links[0, 1]
    got = sp.coo_matrix((link.weight, (link.i, link.j)), shape=(len(i), len(j))).toarray()
    np.testing.assert_allclose(got, F.toarray()[np.ix_(i, j)], rtol=1e-6)


@pytest.mark.parametrize(("tempering", "expected"), [(1.0, 2), (0.5, 32)])
def test_a_few_pairs_among_many_single_cells(tempering, expected):
    a, b = np.arange(10_000), np.arange(100)  # 100 of 10,000 are in both
    batches = make((a, b), paired(a, b), batch_size=350, tempering=tempering)
    n = len(batches.draw().links[0, 1].weight)
    assert n >= expected
    assert (n < 20) == (tempering == 1.0)


def test_three_modalities_with_any_subset():
    rows = ([0, 1, 2, 3], [2, 3, 4, 5], [3, 5, 6, 7])
    F = {(a, b): paired(rows[a], rows[b])[0, 1] for a, b in ((0, 1), (0, 2), (1, 2))}
    batch = make(rows, F).draw()
    assert [len(i) for i in batch.index] == [4, 4, 4]
    assert {ab: len(link.weight) for ab, link in batch.links.items()} == {(0, 1): 2, (0, 2): 1, (1, 2): 2}
