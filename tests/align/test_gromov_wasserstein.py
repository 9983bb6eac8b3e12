import logging
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from jamie_sc.align import _best_matches, gromov_wasserstein
from jamie_sc.align import _gromov_wasserstein as module


def in_space(plane, rng, width=6):
    return plane @ np.linalg.qr(rng.standard_normal((width, 2)))[0].T


def arms(n, lengths=(1, 2, 4), seed=0):
    """Three arms of unlike lengths, as many cells to each as it is long: a shape without any symmetry."""
    rng = np.random.default_rng(seed)
    arm = rng.choice(3, n, p=np.array(lengths) / sum(lengths))
    angle = 2 * np.pi * arm / 3
    along = rng.uniform(0, 1, n) * np.array(lengths)[arm]
    plane = along[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return in_space(plane + 0.05 * rng.standard_normal((n, 2)), rng)


def mirrored(n, seed=1):
    """Two arms, cell i on one and cell n + i on the other each other's mirror image."""
    rng = np.random.default_rng(seed)
    plane = rng.uniform(0, 3, n)[:, None] * np.array([-0.5, 0.9]) + 0.05 * rng.standard_normal((n, 2))
    return in_space(np.concatenate([plane, plane * [1, -1]]), rng)


def turned(Z, n=None, seed=1):
    """Some of the cells in another order, rotated; and which they are."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(Z))[:n]
    return Z[rows] @ np.linalg.qr(rng.standard_normal((6, 6)))[0], rows


def match(X, Y, **options):
    return gromov_wasserstein(X, Y, progress=False, **options)


def best(solution):
    return solution.coupling.toarray().argmax(axis=1)


def apart(Z, found):
    return np.linalg.norm(Z - found, axis=1)


# The same shape -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("marginals", ["balanced", "semi-relaxed"])
def test_finds_a_copy(marginals, caplog):
    Z = arms(90)
    Y, rows = turned(Z)
    with caplog.at_level(logging.WARNING):
        solution = match(Z, Y, marginals=marginals)
    assert not caplog.records
    error = apart(Z, Z[rows[best(solution)]])
    assert np.median(error) == 0
    assert error.mean() < 0.05
    assert solution.objective < 0.01
    assert solution.rivals == ()
    assert solution.converged
    assert 0 < solution.n_iter < 100
    assert solution.row_residual < 0.05


@pytest.mark.parametrize("turn", [False, True])
def test_finds_a_part(turn):
    Z = arms(160)
    part, rows = turned(Z, 120)
    X, Y = (part, Z) if turn else (Z, part)
    solution = match(X, Y)
    assert solution.coupling.shape == (len(X), len(Y))
    found = best(solution)
    error = apart(Z[rows], Z[found]) if turn else apart(Z, Z[rows[found]])
    assert np.median(error) < 0.1
    assert error.mean() < 0.15


def test_unlike_shapes_say_so():
    """Noise has no geometry in common with three arms: the objective is near that of chance."""
    noise = np.random.default_rng(0).standard_normal((90, 6))
    solution = match(arms(90), noise, n_neighbors=8)
    same = match(arms(90), turned(arms(90))[0], n_neighbors=8)
    assert 10 * same.objective < solution.objective <= 1.01
    assert solution.epsilon > 3 * same.epsilon


def test_the_order_of_cells_changes_nothing():
    X, Y = arms(80), arms(70, seed=5)
    rng = np.random.default_rng(0)
    at, to = rng.permutation(80), rng.permutation(70)
    known = np.stack([np.arange(12), 3 * np.arange(12)], axis=1)
    back = np.argsort(at), np.argsort(to)
    moved = np.stack([back[0][known[:, 0]], back[1][known[:, 1]]], axis=1)
    for first, second in ((None, None), (known, moved)):
        options = {"n_neighbors": 8, "n_matches": 80}
        coupling = match(X, Y, pairs=first, **options).coupling.toarray()
        again = match(X[at], Y[to], pairs=second, **options).coupling.toarray()
        assert coupling.max() > 5 / (80 * 70)
        np.testing.assert_allclose(again, coupling[at][:, to], atol=0.02 * coupling.max())


# What is returned ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_matches", [1, 7, 30, 500])
def test_matches_are_kept_for_each_cell_of_either_side(n_matches):
    X, Y = arms(60), turned(arms(60, seed=3), 45)[0]
    coupling = match(X, Y, n_neighbors=8, n_matches=n_matches, epsilon=0.05).coupling
    assert coupling.format == "csr"
    assert coupling.dtype == np.float32
    assert coupling.data.min() >= 0
    filled = coupling.toarray() > 0
    assert (coupling.getnnz(axis=1) >= min(n_matches, 45)).all()
    assert (coupling.getnnz(axis=0) >= min(n_matches, 60)).all()
    assert filled.any(axis=1).all()
    assert filled.any(axis=0).all()
    assert coupling.nnz <= n_matches * 105
    assert coupling.sum() <= 1.05
    if n_matches == 500:
        np.testing.assert_allclose(np.asarray(coupling.sum(axis=1)).ravel(), 1 / 60, rtol=0.3)
        assert coupling.sum() == pytest.approx(1, rel=0.05)


def test_balanced_is_even_and_semi_relaxed_is_not():
    """The second modality lacks an arm: its cells are not forced to stand for it in equal parts."""
    Z = arms(120, (2, 2, 4))
    missing = np.linalg.norm(Z, axis=1) > 2.2
    Y = turned(Z[~missing])[0]
    even, free = (match(Z, Y, n_neighbors=8, marginals=m) for m in ("balanced", "semi-relaxed"))
    assert free.row_residual < 0.01
    assert free.column_residual > 2 * max(even.row_residual, even.column_residual)
    assert free.objective < even.objective


def test_epsilon_is_taken_as_given():
    Z = arms(60)
    Y, _ = turned(Z)
    sharp, blurred = (match(Z, Y, n_neighbors=8, epsilon=epsilon) for epsilon in (0.002, 0.5))
    assert (sharp.epsilon, blurred.epsilon) == pytest.approx((0.002, 0.5))
    assert sharp.coupling.max() > 3 * blurred.coupling.max()


# Known pairs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_known", [1, 4, 15])
def test_known_pairs_stay_matched_alone(n_known):
    X, Y = arms(70), arms(60, seed=4)
    known = np.stack([np.arange(n_known), 59 - 2 * np.arange(n_known)], axis=1)
    coupling = match(X, Y, pairs=known, n_neighbors=8).coupling
    expected = np.zeros((n_known, 60))
    expected[np.arange(n_known), known[:, 1]] = 1 / 70
    np.testing.assert_allclose(coupling[:n_known].toarray(), expected, rtol=1e-6)
    assert (coupling[:, known[:, 1]].getnnz(axis=0) == 1).all()
    free = np.delete(coupling.toarray(), known[:, 1], axis=1)[n_known:]
    assert (free > 0).any(axis=1).all()
    assert coupling.sum() == pytest.approx(1, abs=0.1)


def test_a_shape_and_its_mirror_image(caplog):
    """Geometry cannot tell which arm is which, and says so; ten known pairs can."""
    Z = mirrored(50)
    Y, rows = turned(Z)
    other = np.roll(Z, 50, axis=0)
    with caplog.at_level(logging.WARNING):
        solution = match(Z, Y, n_neighbors=8, names=("rna", "adt"))
    (record,) = caplog.records
    assert "'rna' with 'adt'" in record.getMessage()
    assert "1 unlike ways" in record.getMessage()
    assert solution.rivals == pytest.approx((1,), abs=0.1)
    found = Z[rows[best(solution)]]
    assert min(np.median(apart(Z, found)), np.median(apart(other, found))) < 0.1
    caplog.clear()
    for upside_down in (False, True):  # whichever it was: pairs decide
        truth = (rows + 50) % 100 if upside_down else rows
        known = np.stack([truth[:10], np.arange(10)], axis=1)
        with caplog.at_level(logging.WARNING):
            solution = match(Z, Y, pairs=known, n_neighbors=8)
        assert not caplog.records
        assert np.median(apart(Z, Z[truth[best(solution)]])) < 0.1


@pytest.mark.parametrize("swap", [False, True])
def test_all_cells_known(swap):
    X, Y = arms(40), arms(30)
    known = np.stack([10 + np.arange(30), np.arange(30)], axis=1)
    X, Y, known = (Y, X, known[:, ::-1]) if swap else (X, Y, known)
    solution = match(X, Y, pairs=known)
    assert solution.coupling.shape == (len(X), len(Y))
    assert solution.coupling.nnz == 30
    assert (solution.coupling.toarray()[known[:, 0], known[:, 1]] > 0).all()
    assert solution.converged


# Many cells ---------------------------------------------------------------------------------------------------------


def test_landmarks_come_close_to_all_cells(caplog):
    Z = arms(600)
    Y, rows = turned(Z)
    error = {}
    for n in (None, 100):
        with caplog.at_level(logging.INFO):
            solution = match(Z, Y, n_neighbors=20, n_landmarks=n)
        assert solution.coupling.shape == (600, 600)
        assert (solution.coupling.getnnz(axis=1) > 0).all()
        assert (solution.coupling.getnnz(axis=0) > 0).all()
        assert 0.5 < solution.coupling.sum() < 1.05  # a blurred match has more than are kept
        error[n] = np.median(apart(Z, Z[rows[best(solution)]]))
    assert error[None] < 0.05
    assert error[100] < 0.2  # of arms 1, 2 and 4 long
    said = [record.getMessage() for record in caplog.records]
    assert any("600 cells of 'X' with 600 of 'Y' on all of them" in text and "GB" in text for text in said)


@pytest.fixture
def few_at_once(monkeypatch):
    """Limits so low that some thousand cells are many."""
    for name, value in {"N_SEARCHED": 50, "N_ALL": 200, "N_LANDMARKS": 100}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(_best_matches, "CHUNK", 50)


def test_no_matrix_of_all_cells_is_made(few_at_once):
    n, m = 3000, 2500
    X, Y = arms(n).astype(np.float32), turned(arms(m, seed=2))[0].astype(np.float32)
    tracemalloc.start()
    try:
        solution = match(X, Y, n_neighbors=8, n_matches=5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert solution.coupling.shape == (n, m)
    assert peak < n * m  # bytes: a quarter of one float32 matrix, less than one of booleans


def test_semi_relaxed_and_known_pairs_on_landmarks(few_at_once):
    Z = arms(400)
    Y, rows = turned(Z, 300)
    known = np.stack([rows[:60], np.arange(60)], axis=1)
    solution = match(Z, Y, pairs=known, n_neighbors=8, marginals="semi-relaxed")
    assert (best(solution)[known[:, 0]] == known[:, 1]).all()
    assert np.median(apart(Z, Z[rows[best(solution)]])) < 0.4


# The same numbers ---------------------------------------------------------------------------------------------------


def test_rng_and_nothing_global(few_at_once):
    X, Y = arms(210), arms(220, seed=3)
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    first, same, generator, other = (
        match(X, Y, n_neighbors=8, rng=rng).coupling for rng in (0, 0, np.random.default_rng(0), 1)
    )
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
    assert abs(first - same).max() == 0
    assert abs(first - generator).max() == 0
    assert abs(first - other).max() > 0


@pytest.mark.parametrize("kind", [np.float64, "list", "float32"])
def test_input_stays_as_it_is(kind):
    X, Y = arms(30), arms(25)
    given = (X.tolist(), Y.tolist()) if kind == "list" else (X.astype(kind), Y.astype(kind))
    before = [np.array(values) for values in given]
    solution = match(*given, n_neighbors=6)
    for values, was in zip(given, before, strict=True):
        np.testing.assert_array_equal(values, was)
    assert sp.issparse(solution.coupling)


@pytest.mark.parametrize(
    "make", [lambda n: np.repeat(arms(n // 4), 4, axis=0), lambda n: arms(n)[:, :2], lambda n: arms(n)[:, :1]]
)
def test_duplicates_and_few_features(make):
    solution = match(make(60), arms(50))
    assert np.isfinite(solution.coupling.data).all()
    assert np.isfinite([solution.objective, solution.row_residual, solution.column_residual]).all()
    assert (solution.coupling.getnnz(axis=1) > 0).all()


def test_components_are_named(caplog):
    X = arms(60)
    X[:20] += 100 * np.array([1, -1, 2, 0, 3, -2])
    with caplog.at_level(logging.WARNING):
        match(X, arms(50), n_neighbors=8, names=("rna", "adt"))
    assert "of 'rna' falls into 2 components, of 40, 20" in caplog.text
    assert "of 'adt' falls" not in caplog.text


# Errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "options", "message"),
    [
        (arms(5), {}, "'rna' has 5 cells.*1 to 4 neighbours"),
        (arms(30), {"n_neighbors": 30}, "'rna' has 30 cells.*n_neighbors=30"),
        (arms(35), {"n_neighbors": 32}, "'adt' has 30 cells.*n_neighbors=32"),
        (np.where(np.arange(6) == 3, np.nan, arms(30)), {}, "'rna'.*NaN"),
        (np.where(np.arange(6) == 3, np.inf, arms(30)), {}, "'rna'.*infinite"),
        (arms(30)[:, 0], {}, "'rna' must be a matrix"),
        (arms(30), {"marginals": "free"}, "'free'.*balanced.*semi-relaxed"),
        (arms(30), {"pairs": np.array([[0, 30]])}, "pairs has row 30 of Y.*0 to 29"),
        (arms(30), {"pairs": np.array([[-1, 3]])}, "row -1 of X"),
        (arms(30), {"pairs": np.array([[1, 3], [1, 4]])}, "row 1 of X in more than one pair"),
        (arms(30), {"pairs": np.array([[1, 3], [2, 3]])}, "row 3 of Y in more than one pair"),
        (arms(30), {"pairs": np.array([1, 2])}, r"pairs must be integers.*int64 of shape \(2,\)"),
        (arms(30), {"pairs": np.array([[1, 2, 3]])}, r"shape \(1, 3\)"),
        (arms(30), {"pairs": np.array([[1.0, 2.0]])}, "pairs must be integers.*float64"),
        (arms(30), {"pairs": np.stack([np.arange(27)] * 2, axis=1)}, "Only 3 cells of 'rna' have no partner"),
    ],
)
def test_errors(X, options, message):
    with pytest.raises(ValueError, match=message):
        match(X, arms(30, seed=1), names=("rna", "adt"), **options)
