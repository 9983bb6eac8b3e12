import numpy as np
import pytest
import scipy.sparse as sp
import torch

from jamie_sc.models._batches import Batches, SubMatrix, _Partners, stratified


def make(rows, F, inferred=None, **kwargs):
    options = {"batch_size": 8, "tempering": 1.0, "rng": np.random.default_rng(0), "device": torch.device("cpu")}
    return Batches([np.asarray(r) for r in rows], F, inferred, **(options | kwargs))


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


def dense(link, i, j):
    return sp.coo_matrix((link[2], (link[0], link[1])), shape=(len(i), len(j))).toarray()


@pytest.fixture
def soft():
    """One-to-many, and a cell of the first modality that corresponds to none."""
    F = sp.random(20, 30, 0.3, random_state=1, format="csr").tolil()
    F[4] = 0
    return F.tocsr()


def test_submatrix_of_a_soft_correspondence(soft):
    cut, rng = SubMatrix(soft), np.random.default_rng(0)
    for _ in range(5):
        i, j = rng.permutation(20)[:12], rng.permutation(30)[:13]
        np.testing.assert_allclose(dense(cut.cut(i, j), i, j), soft.toarray()[np.ix_(i, j)], rtol=1e-6)


def test_line_11(soft):
    """Columns of a batch brought to the sum 1; by default rows and columns, and to less if all of F has less."""
    soft = soft / 4
    F, (i, j) = soft.toarray(), (np.arange(3, 17), np.arange(5, 25))
    of_columns, of_rows = np.minimum(F.sum(axis=0), 1), np.minimum(F.sum(axis=1, keepdims=True), 1)
    assert 0 < of_columns.min() < of_columns.max() == 1
    assert 0 < of_rows[of_rows > 0].min() < of_rows.max() == 1
    part = F[np.ix_(i, j)]
    columns, rows = part.sum(axis=0), part.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        to_one = np.nan_to_num(part / columns)
        own = np.nan_to_num(part / columns * of_columns[j] + part / rows * of_rows[i]) / 2
    np.testing.assert_allclose(dense(SubMatrix(soft, unit_columns=True).scaled(i, j), i, j), to_one, rtol=1e-6)
    np.testing.assert_allclose(dense(SubMatrix(soft).scaled(i, j), i, j), own, rtol=1e-5)
    inferred = dense(SubMatrix(soft).rows_to_one(i, j), i, j).sum(axis=1)
    np.testing.assert_allclose(inferred, rows[:, 0] > 0, rtol=1e-6)


def test_scaling_leaves_pairs_and_lone_confidences():
    F = sp.csr_matrix(np.diag([1, 0.3, 1]).astype(np.float32))
    i = np.array([2, 1])
    np.testing.assert_allclose(dense(SubMatrix(F).scaled(i, i), i, i), np.diag([1, 0.3]), rtol=1e-6)


def test_batch_holds_the_scaled_submatrix(soft):
    batches = make((np.arange(20), np.arange(20, 50)), {(0, 1): soft}, {(1, 0): soft.T.tocsr()}, batch_size=25)
    for _ in range(5):
        batch = batches.draw()
        i, j = (index.numpy() for index in batch.index)
        np.testing.assert_allclose(dense(batch.links[0, 1], i, j), dense(SubMatrix(soft).scaled(i, j), i, j))
        back = dense(batch.inferred[1, 0], j, i)
        np.testing.assert_allclose(back, dense(SubMatrix(soft.T.tocsr()).rows_to_one(j, i), j, i))


def matching(n, m, rng):
    """Each of n cells corresponds to 3 of m cells of other names, in a table of 1 in 100 entries or fewer."""
    columns = np.concatenate([rng.choice(m, 3, replace=False) for _ in range(n)])
    return sp.csr_matrix((rng.uniform(0.1, 1, 3 * n), (np.repeat(np.arange(n), 3), columns)), shape=(n, m))


def test_cells_bring_a_partner_and_batches_keep_their_size():
    F = matching(900, 700, np.random.default_rng(0))
    batches = make((np.arange(900), np.arange(900, 1600)), {(0, 1): F}, batch_size=64)
    sizes = []
    for _ in range(50):
        batch = batches.draw()
        i, j = (index.numpy() for index in batch.index)
        link = batch.links[0, 1]
        assert set(link.i.tolist()) == set(range(len(i)))  # every cell of the first modality has a partner here
        has = np.diff(F.tocsc().indptr)[j] > 0
        assert set(link.j.tolist()) == set(np.flatnonzero(has))
        assert len(set(i)) == len(i)
        assert len(set(j)) == len(j)
        sizes.append(len(i) + len(j))
    assert 55 < np.mean(sizes) < 70


def test_partners_are_drawn_by_weight():
    weights = np.array([[0.1, 0.2, 0.7]])
    cells = [np.array([0]), np.array([1, 2, 3])]
    partners = _Partners(cells, {(0, 1): sp.csr_matrix(weights)}, 4)
    drawn = partners.draw(np.zeros(20_000, dtype=int), np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(drawn, minlength=4)[1:] / 20_000, weights[0], atol=0.02)
    assert (partners.draw(np.array([1, 2, 3]), np.random.default_rng(0)) == 0).all()


def test_a_pair_by_name_brings_others_only_where_it_has_more():
    F = sp.csr_matrix(np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]], dtype=np.float32))
    partners = _Partners([np.arange(3), np.arange(3)], {(0, 1): F}, 3)
    np.testing.assert_allclose(partners.brings, [0, 1 / 3, 1])  # a link to itself counts from both sides


def test_the_same_seed_draws_the_same():
    F = matching(50, 40, np.random.default_rng(0))
    first, second = (make((np.arange(50), np.arange(50, 90)), {(0, 1): F}, batch_size=20) for _ in range(2))
    for _ in range(10):
        a, b = first.draw(), second.draw()
        for x, y in zip([*a.index, *a.links[0, 1]], [*b.index, *b.links[0, 1]], strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(("tempering", "pairs"), [(1.0, range(2, 20)), (0.5, range(25, 45))])
def test_a_few_pairs_among_many_single_cells(tempering, pairs):
    a, b = np.arange(10_000), np.arange(100)  # 100 of 10,000 are in both
    batches = make((a, b), paired(a, b), batch_size=350, tempering=tempering)
    assert len(batches.draw().links[0, 1].weight) in pairs


def test_cells_without_partner_fill_their_share_at_most():
    """1,000 cells paired, 1,000 in one modality only, 10 of which correspond to others."""
    a, b = np.arange(2000), np.arange(1000)
    F = paired(a, b)[0, 1].tolil()
    F[1990:, 0] = 0.5
    batches = make((a, b), {(0, 1): F.tocsr()}, batch_size=200, lone=0.1)
    assert batches.n_linked == 1010
    for _ in range(20):
        i, _ = batches.draw().index
        assert ((i >= 1000) & (i < 1990)).sum() == 20
    few = make((a, b), {(0, 1): F.tocsr()}, batch_size=200, lone=0.9).draw().index[0]
    assert ((few >= 1000) & (few < 1990)).sum() < 110  # no more than without a limit
    assert make((a, b + 5000), {}, batch_size=200, lone=0.1).n_linked == 3000


def test_three_modalities_with_any_subset():
    rows = ([0, 1, 2, 3], [2, 3, 4, 5], [3, 5, 6, 7])
    F = {(a, b): paired(rows[a], rows[b])[0, 1] for a, b in ((0, 1), (0, 2), (1, 2))}
    batch = make(rows, F).draw()
    assert [len(i) for i in batch.index] == [4, 4, 4]
    assert {ab: len(link.weight) for ab, link in batch.links.items()} == {(0, 1): 2, (0, 2): 1, (1, 2): 2}


# Cells held out -----------------------------------------------------------------------------------------------------


def held_out(rows, F, fraction, seed=0):
    return stratified([np.asarray(r) for r in rows], F, fraction, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.3])
def test_pairs_are_held_out_wherever_there_are_any(fraction, seed):
    """3 pairs among 1,000 cells: a random tenth would often hold none."""
    a, b = np.arange(1000), np.random.default_rng(seed).permutation(np.arange(997, 1500))
    of_a, of_b = held_out((a, b), paired(a, b), fraction, seed)
    assert set(a[of_a]) & set(range(997, 1000)) == set(b[of_b]) & set(range(997, 1000))  # a cell in all its modalities
    pairs = set(a[of_a]) & set(b[of_b])
    assert len(pairs) == np.ceil(fraction * 3)
    assert of_a.sum() - len(pairs) == np.ceil(fraction * 997)
    assert of_b.sum() - len(pairs) == np.ceil(fraction * 500)


@pytest.mark.parametrize("seed", range(5))
def test_every_kind_of_cell_is_held_out(seed):
    """Three modalities: cells in any subset of them, with partners of another name and without."""
    subsets = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
    rows = [
        np.concatenate([np.arange(20 * s, 20 * s + 20) for s, of in enumerate(subsets) if k in of]) for k in range(3)
    ]
    F = {(a, b): paired(rows[a], rows[b])[0, 1].tolil() for a, b in ((0, 1), (0, 2), (1, 2))}
    F[0, 1][:10, :10] = 0.1 * np.eye(10)  # half of those in one modality only
    F = {ab: block.tocsr() for ab, block in F.items()}
    held = held_out(rows, F, 0.2, seed)
    cells = [set(r[h]) for r, h in zip(rows, held, strict=True)]
    for s, of in enumerate(subsets):
        group = set(range(20 * s, 20 * s + 20))
        found = {frozenset(cells[k] & group) for k in of}
        assert len(found) == 1
        assert len(found.pop()) == 4
    for first in (0, 20):  # 10 with a partner, 10 without
        assert len(cells[first // 20] & set(range(first, first + 10))) == 2


def test_cells_held_out_are_drawn():
    a, F = np.arange(50), paired(np.arange(50), np.arange(50))
    one, same, other = (held_out((a, a), F, 0.2, seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert one.dtype == bool
