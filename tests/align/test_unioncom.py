import logging
import sys
import types
import warnings

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from jamie_sc.align._unioncom import _PrimalDual, unioncom


def published(K_x, K_y, n_iter, *, rho=10.0, epsilon=0.01):
    """The nine products of the published iteration, in float64."""
    N = max(len(K_x), len(K_y))
    K_x, K_y = K_x / N, K_y / N
    one_x, one_y = np.ones((len(K_x), 1)), np.ones((len(K_y), 1))
    F, first, second = np.zeros((3, len(K_x), len(K_y)))
    mu, lam, S, alpha = 0 * one_x, 0 * one_y, 0 * one_y, 1.0
    for t in range(1, n_iter + 1):
        G = 4 * F @ (K_y @ (F.T @ (F @ K_y))) - 4 * alpha * K_x @ (F @ K_y) + mu @ one_y.T + one_x @ lam.T
        G += rho * (F @ one_y @ one_y.T - 2 * one_x @ one_y.T + one_x @ one_x.T @ F + one_x @ S.T)
        first, second = 0.9 * first + 0.1 * G, 0.999 * second + 0.001 * G**2
        direction = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-7)
        F = (1 - epsilon) * F + epsilon * np.maximum(F - direction, 0)
        S = (1 - epsilon) * S + epsilon * np.maximum(S - lam - rho * (F.T @ one_x - one_y + S), 0)
        mu = mu + epsilon * (F @ one_y - one_x)
        lam = lam + epsilon * (F.T @ one_x - one_y + S)
        alpha = np.trace(K_x @ (F @ K_y) @ F.T) / np.trace(K_x @ K_x)
    return F


def equation_8(K_x, K_y, F):
    """The objective in float64, with the best alpha."""
    P = F.astype(float) @ K_y @ F.T.astype(float)
    alpha = (P * K_x).sum() / (K_x**2).sum()
    return ((alpha * K_x - P) ** 2).sum()


def points(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 3)) * [3, 2, 1]


def distances(n, seed=0):
    return cdist(points(n, seed), points(n, seed)) / 3


def same_shape(n, m, seed=0):
    """Two sets of cells, the first `n` of the `m` are the same."""
    K = distances(m, seed)
    return K[:n, :n], K


def run(K_x, K_y, n_iter, **options):
    return unioncom(K_x, K_y, max_iter=n_iter, tol=0, progress=False, **options)


@pytest.fixture
def package(monkeypatch):
    """The published method; what importing it would leave behind is undone."""
    pytest.importorskip("unioncom")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
    monkeypatch.setattr(np, "int", int, raising=False)  # it is older than NumPy 1.24
    if "torchvision" not in sys.modules:  # imported there, not used and not required
        monkeypatch.setitem(sys.modules, "torchvision", types.SimpleNamespace(models=None))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from unioncom.UnionCom import UnionCom

    def solve(K_x, K_y, n_iter):
        method = UnionCom(epoch_pd=n_iter)
        method.device = torch.device("cpu")
        return method.Prime_Dual([K_x, K_y], dx=3, dy=5)

    return solve


# The published iterates ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_iter", [1, 2, 10, 200])
@pytest.mark.parametrize(("n", "m"), [(30, 40), (35, 35)])
def test_equals_the_nine_products(n, m, n_iter):
    K_x, K_y = distances(n, 1), distances(m, 2)
    expected = published(K_x, K_y, n_iter)
    solution = run(K_x, K_y, n_iter)
    assert solution.coupling == pytest.approx(expected, abs=2e-6)
    assert solution.n_iter == n_iter
    assert not solution.converged
    if n_iter == 200:  # by then the entries differ, or all solvers would look alike
        assert np.std(expected) > 1e-3


def test_equals_the_nine_products_with_other_steps_and_in_blocks(monkeypatch):
    monkeypatch.setattr("jamie_sc.align._unioncom.BLOCK_ROWS", 7)
    monkeypatch.setattr("jamie_sc.align._unioncom.BLOCK_VALUES", 7)
    K_x, K_y = distances(30, 1), distances(40, 2)
    solution = run(K_x, K_y, 100, rho=3.0, epsilon=0.02)
    assert solution.coupling == pytest.approx(published(K_x, K_y, 100, rho=3.0, epsilon=0.02), abs=2e-6)
    assert np.abs(solution.coupling - run(K_x, K_y, 100).coupling).max() > 1e-3


@pytest.mark.parametrize("n_iter", [1, 10, 200])
def test_equals_the_package(package, n_iter, capsys):
    K_x, K_y = distances(50, 1), distances(60, 2)
    expected = package(K_x, K_y, n_iter)
    capsys.readouterr()  # it prints
    assert run(K_x, K_y, n_iter).coupling == pytest.approx(expected, abs=2e-6)


def test_scale_is_hidden_by_a_start_at_zero():
    """As in the published code, where alpha is fitted before it multiplies anything but zeros."""
    K_x, K_y = distances(12, 1), distances(15, 2)
    assert np.array_equal(run(K_x, K_y, 20, scale=5.0).coupling, run(K_x, K_y, 20).coupling)
    known = [[0, 1], [2, 3]]
    assert not np.array_equal(
        run(K_x, K_y, 20, scale=5.0, known=known).coupling, run(K_x, K_y, 20, known=known).coupling
    )


# What is returned ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(30, 40), (40, 30), (25, 25)])
def test_objective_and_residuals(n, m):
    K_x, K_y = distances(n, 1), distances(m, 2)
    solution = run(K_x, K_y, 300)
    F = solution.coupling
    assert F.shape == (n, m)
    assert F.dtype == np.float32
    assert F.min() >= 0
    objective = equation_8(K_x, K_y, F) if n <= m else equation_8(K_y, K_x, F.T)
    assert solution.objective == pytest.approx(objective, rel=1e-4)
    rows, columns = F.sum(1) - 1, F.sum(0) - 1
    rows, columns = (abs(rows), columns.clip(0)) if n <= m else (rows.clip(0), abs(columns))
    assert solution.row_residual == pytest.approx(rows.max(), abs=1e-5)
    assert solution.column_residual == pytest.approx(columns.max(), abs=1e-5)


def test_constraints_hold_and_the_objective_falls():
    K_x, K_y = same_shape(30, 40)
    early, late = run(K_x, K_y, 200), run(K_x, K_y, 2000)
    assert late.row_residual < 0.01 < early.row_residual
    assert late.column_residual < 0.01
    uniform = equation_8(K_x, K_y, np.full((30, 40), 1 / 40))
    assert late.objective < 0.6 * early.objective < 0.6 * uniform


def test_finds_the_same_cells():
    """In most of these shapes; the method has one start, and some shapes it mirrors."""
    found = [run(*same_shape(15, 20, seed), 4000).coupling.argmax(1) == np.arange(15) for seed in (1, 2, 5)]
    assert np.mean(found) > 0.5


def test_more_cells_in_x_than_in_y():
    K_x, K_y = distances(40, 1), distances(30, 2)
    solution, swapped = run(K_x, K_y, 300), run(K_y, K_x, 300)
    assert np.array_equal(solution.coupling, swapped.coupling.T)
    assert solution.row_residual == swapped.column_residual
    assert solution.column_residual == swapped.row_residual
    assert swapped.row_residual != swapped.column_residual
    assert solution.objective == swapped.objective


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_input_is_not_changed(dtype):
    K_x, K_y = (np.round(8 * distances(n)).astype(dtype) for n in (9, 12))
    before = K_x.copy(), K_y.copy()
    solution = run(K_x, K_y, 20)
    assert np.array_equal(K_x, before[0])
    assert np.array_equal(K_y, before[1])
    assert np.array_equal(solution.coupling, run(K_x.tolist(), K_y.tolist(), 20).coupling)


# Known pairs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_iter", [1, 2, 50, 500])
@pytest.mark.parametrize(("n", "m"), [(20, 25), (25, 20)])
@pytest.mark.parametrize("block", [3, 1000])
def test_known_pairs_are_clamped(n, m, n_iter, block, monkeypatch):
    monkeypatch.setattr("jamie_sc.align._unioncom.BLOCK_ROWS", block)
    monkeypatch.setattr("jamie_sc.align._unioncom.BLOCK_VALUES", 1)
    known = np.array([[0, 7], [11, 2], [19, 19]])
    F = run(distances(n, 1), distances(m, 2), n_iter, known=known).coupling
    assert np.array_equal(F[known[:, 0]], np.eye(m)[known[:, 1]])
    assert np.array_equal(F[:, known[:, 1]], np.eye(n)[:, known[:, 0]])
    free = np.delete(np.delete(F, known[:, 0], 0), known[:, 1], 1)
    assert free.max() > 0


def test_known_pairs_help_the_others():
    pairs = np.repeat(np.arange(6)[:, None], 2, axis=1)

    def right(known):
        couplings = [run(*same_shape(15, 20, seed), 1500, known=known).coupling for seed in (1, 2, 5)]
        return np.mean([F.argmax(1)[6:] == np.arange(6, 15) for F in couplings])

    assert right(pairs) > right(None) + 0.2


def test_all_cells_known_and_none():
    K_x, K_y = distances(8, 1), distances(8, 2)
    order = np.random.default_rng(0).permutation(8)
    solution = run(K_x, K_y, 30, known=np.stack([np.arange(8), order], axis=1))
    assert np.array_equal(solution.coupling, np.eye(8)[order])
    assert solution.objective == pytest.approx(equation_8(K_x, K_y, np.eye(8)[order]), rel=1e-5)
    assert solution.row_residual == solution.column_residual == 0
    assert np.array_equal(run(K_x, K_y, 30, known=[]).coupling, run(K_x, K_y, 30).coupling)


# When it stops ------------------------------------------------------------------------------------------------------


def test_stops_early_at_nearly_the_same_coupling():
    K_x, K_y = distances(8, 0), distances(8, 50)
    solution = unioncom(K_x, K_y, max_iter=8000, progress=False)
    assert solution.converged
    assert solution.n_iter < 6000
    assert max(solution.row_residual, solution.column_residual) < 0.01
    later = run(K_x, K_y, solution.n_iter + 1500)
    assert solution.coupling == pytest.approx(later.coupling, abs=0.1)
    assert np.abs(solution.coupling - later.coupling).mean() < 0.01
    assert solution.objective == pytest.approx(later.objective, rel=0.01)
    assert np.ptp(later.coupling) > 0.9


@pytest.mark.parametrize("tol", [0, None, 1e-3])
def test_the_rule_changes_nothing_before_it_is_met(tol):
    K_x, K_y = distances(30, 1), distances(40, 2)
    solution = unioncom(K_x, K_y, max_iter=600, tol=tol, progress=False)
    assert solution.n_iter == 600
    assert not solution.converged
    assert np.array_equal(solution.coupling, run(K_x, K_y, 600).coupling)


def test_a_coupling_that_comes_apart_is_put_back(caplog):
    """Adam's late steps are too long here: the published iteration leaves a good coupling for a bad one."""
    K_x, K_y = same_shape(100, 120)
    with caplog.at_level(logging.WARNING, "jamie_sc"):
        kept = unioncom(K_x, K_y, max_iter=6000, progress=False)
    assert "came apart at iteration" in caplog.text
    assert kept.n_iter < 6000
    assert not kept.converged
    assert max(kept.row_residual, kept.column_residual) < 0.01
    assert kept.objective == pytest.approx(equation_8(K_x, K_y, kept.coupling), rel=1e-4)
    gone = run(K_x, K_y, kept.n_iter)
    assert gone.row_residual > 0.03
    assert gone.objective > kept.objective


# What it leaves alone -----------------------------------------------------------------------------------------------


def test_nothing_global_changes():
    K_x, K_y = distances(10, 1), distances(12, 2)
    legacy = np.random.mtrand._rand  # NumPy's global generator
    before = legacy.get_state()[1].copy(), torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()
    first = run(K_x, K_y, 10)
    assert np.array_equal(legacy.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])
    assert (torch.get_num_threads(), torch.get_default_dtype()) == before[2:]
    legacy.rand()
    torch.rand(1)
    assert np.array_equal(run(K_x, K_y, 10).coupling, first.coupling)


def test_other_defaults_of_torch_change_nothing():
    K_x, K_y = distances(10, 1), distances(12, 2)
    expected = run(K_x, K_y, 10).coupling
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            assert np.array_equal(run(K_x, K_y, 10).coupling, expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_progress_bar(capsys):
    unioncom(distances(5), distances(5), max_iter=3, progress=True)
    assert "3/3" in capsys.readouterr().err
    unioncom(distances(5), distances(5), max_iter=3, progress=False)
    assert capsys.readouterr() == ("", "")


def test_cost_is_logged(caplog, monkeypatch):
    monkeypatch.setattr("jamie_sc.align._unioncom.LARGE", 20)
    with caplog.at_level(logging.INFO, "jamie_sc"):
        run(distances(10), distances(19), 2)
        assert caplog.text == ""
        run(distances(10), distances(20), 2)
    assert "10 x 20 cells: 3.2e+04 floating-point operations in 2 iterations" in caplog.text


def test_memory_is_what_the_docstring_says():
    state = _PrimalDual(distances(30), distances(40), np.empty((0, 2), int), alpha=1.0, rho=10.0, epsilon=0.01)
    matrices = [value for value in vars(state).values() if isinstance(value, torch.Tensor) and value.ndim == 2]
    sizes = sum(value.numel() for value in matrices if value is not state.G)
    assert sizes == 4 * 30 * 40 + 2 * 30 * 30 + 40 * 40
    assert {value.dtype for value in matrices} == {torch.float32}


# Errors -------------------------------------------------------------------------------------------------------------


def changed(value, *, mirror=True):
    K = distances(6)
    K[1, 2] = value
    if mirror:
        K[2, 1] = value
    return K


@pytest.mark.parametrize(
    ("K", "message"),
    [
        (np.ones((3, 4)), r"K must be a square matrix of distances .* shape \(3, 4\)"),
        (np.ones(4), r"K must be a square matrix of distances .* shape \(4,\)"),
        (np.ones((0, 0)), "K must be a square matrix of distances"),
        (changed(np.nan), "K has NaN or infinite distances"),
        (changed(np.inf), "K has NaN or infinite distances"),
        (changed(-np.inf), "K has NaN or infinite distances"),
        (changed(-0.5), "K has negative distances, the smallest -0.5"),
        (changed(9.0, mirror=False), "K is not symmetric"),
        (np.zeros((6, 6)), "All distances in K are 0: nothing tells its 6 cells apart"),
    ],
)
def test_errors_of_the_distances(K, message):
    with pytest.raises(ValueError, match=message.replace("K ", "K_x ")):
        unioncom(K, distances(6))
    with pytest.raises(ValueError, match=message.replace("K ", "K_y ")):
        unioncom(distances(6), K)


def test_asymmetry_far_from_the_diagonal_is_seen_and_rounding_is_not():
    K = distances(150)
    K[3, 140] += 0.1
    with pytest.raises(ValueError, match="not symmetric"):
        run(K, K.T, 1)
    K[3, 140] -= 0.1 - 1e-7
    run(K, K, 1)


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ([[0, 1], [0, 2]], "known has row 0 of K_x in more than one pair"),
        ([[0, 2], [1, 2]], "known has row 2 of K_y in more than one pair"),
        ([[6, 0]], "known has row 6 of K_x, which has rows 0 to 5"),
        ([[0, 8]], "known has row 8 of K_y, which has rows 0 to 7"),
        ([[-1, 0]], "known has row -1 of K_x"),
        ([[0.0, 1.0]], r"known must be integers, .* not float64 of shape \(1, 2\)"),
        ([0, 1], r"known must be integers, .* shape \(2,\)"),
        ([[0, 1, 2]], r"known must be integers, .* shape \(1, 3\)"),
    ],
)
def test_errors_of_known_pairs(known, message):
    with pytest.raises(ValueError, match=message):
        unioncom(distances(6), distances(8), known=known)


def test_known_pairs_are_named_as_the_caller_gave_them():
    with pytest.raises(ValueError, match="known has row 8 of K_x, which has rows 0 to 7"):
        unioncom(distances(8), distances(6), known=[[8, 0]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": -1.0}, "scale must be a number of at least 0, not -1.0"),
        ({"scale": np.nan}, "scale must be a number of at least 0, not nan"),
        ({"max_iter": 0}, "max_iter must be at least 1, not 0"),
        ({"tol": -1e-3}, "tol must be None or at least 0, not -0.001"),
        ({"rho": 0.0}, "rho must be above 0, not 0.0"),
        ({"epsilon": 0.0}, "epsilon must be above 0 and at most 1, not 0.0"),
        ({"epsilon": 1.5}, "epsilon must be above 0 and at most 1, not 1.5"),
    ],
)
def test_errors_of_the_options(options, message):
    with pytest.raises(ValueError, match=message):
        unioncom(distances(6), distances(8), **options)


@pytest.mark.parametrize("factor", [1e15, 1e20, 1e30])
def test_overflow(factor):
    with pytest.raises(FloatingPointError, match="Divide the distances"):
        run(distances(6) * factor, distances(8) * factor, 20)
