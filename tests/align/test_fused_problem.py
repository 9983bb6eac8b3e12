import numpy as np
import ot
import pytest
from scipy.spatial.distance import cdist

from jamie_sc.align._fused_problem import LEAST_EPSILON, FusedProblem, soft_minimum

N, M = 12, 9


def saturated(n, seed):
    """A geometry for which the distortion is concave among couplings, so that each step descends."""
    x = np.random.default_rng(seed).standard_normal((n, 3))
    D = 1 - np.exp(-(cdist(x, x) ** 2))
    return (D / np.sqrt((D**2).mean())).astype(np.float32)


def marginal(n, seed):
    w = np.random.default_rng(seed).uniform(0.5, 2, n).astype(np.float32)
    return w / w.sum()


@pytest.fixture
def problem():
    return FusedProblem(saturated(N, 0), saturated(M, 1), marginal(N, 2), marginal(M, 3))


@pytest.fixture
def fused(problem):
    linear = np.random.default_rng(4).random((N, M)).astype(np.float32)
    return FusedProblem(problem.A, problem.B, problem.p, problem.q, linear, trust=0.3)


@pytest.fixture
def T():
    """Not a coupling of these marginals: what is computed of it must not need that."""
    T = np.random.default_rng(5).random((N, M)).astype(np.float32)
    return T / T.sum()


def distortion(problem, T):
    """Its definition, a sum over n^2 m^2 terms, in float64."""
    A, B = (D.astype(float) for D in (problem.A, problem.B))
    cost = (A[:, None, :, None] - B[None, :, None, :]) ** 2
    return np.einsum("ijkl,ij,kl->", cost, T.astype(float), T.astype(float))


def entropy(T):
    return -(T * (np.log(np.maximum(T, 1e-300)) - 1)).sum()


# Value and gradient -------------------------------------------------------------------------------------------------


def test_distortion(problem, T):
    assert problem.distortion(T) == pytest.approx(distortion(problem, T), rel=1e-4)
    assert problem.distortion(T, problem.A @ T @ problem.B) == pytest.approx(problem.distortion(T), rel=1e-6)
    assert problem.objective(T) == pytest.approx(problem.distortion(T) / 2, rel=1e-6)


def test_an_isometry_has_no_distortion():
    A, p, order = saturated(N, 0), marginal(N, 2), np.random.default_rng(0).permutation(N)
    problem = FusedProblem(A, A[order][:, order], p, p[order])
    T = np.zeros((N, N), np.float32)
    T[order, np.arange(N)] = p[order]
    assert problem.distortion(T) == pytest.approx(0, abs=1e-5)
    assert problem.distortion(np.outer(p, p[order])) > 0.1


def test_fused_objective(fused, T):
    expected = 0.7 * distortion(fused, T) / 2 + 0.3 * (fused.linear * T).sum()
    assert fused.objective(T) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("trust", [None, 0.3])
def test_gradient(problem, fused, T, trust):
    """By finite differences of the objective, in float64."""
    chosen = problem if trust is None else fused

    def objective(T):
        linear = 0 if trust is None else trust * (fused.linear * T).sum()
        return (1 - (trust or 0)) * distortion(problem, T) / 2 + linear

    expected, step = np.empty((N, M)), 1e-4
    for at in np.ndindex(N, M):
        nudge = np.zeros((N, M))
        nudge[at] = step
        expected[at] = (objective(T + nudge) - objective(T - nudge)) / (2 * step)
    np.testing.assert_allclose(chosen._gradient(T, chosen.A @ T @ chosen.B), expected, rtol=1e-3, atol=1e-5)


# Projection ---------------------------------------------------------------------------------------------------------


def test_soft_minimum():
    cost = np.random.default_rng(0).random((5, 4)).astype(np.float32)
    for axis in (0, 1):
        expected = -0.1 * np.log(np.exp(-cost / 0.1).sum(axis=axis, keepdims=True))
        np.testing.assert_allclose(soft_minimum(cost, np.float32(0.1), axis=axis), expected, rtol=1e-5)
        tiny = soft_minimum(1e3 * cost, np.float32(1e-4), axis=axis)
        np.testing.assert_allclose(tiny, 1e3 * cost.min(axis=axis, keepdims=True), rtol=1e-5)


def test_projection_is_sinkhorn_in_logarithms(problem):
    cost = np.random.default_rng(6).random((N, M)).astype(np.float32)
    got = problem._project(cost, np.float32(0.2))
    p, q = (w.astype(float) / w.astype(float).sum() for w in (problem.p, problem.q))
    expected = ot.sinkhorn(p, q, cost.astype(float), 0.2, method="sinkhorn_log", stopThr=1e-10, numItermax=5000)
    np.testing.assert_allclose(got, expected, rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(got.sum(axis=1), problem.p, rtol=1e-4)
    np.testing.assert_allclose(got.sum(axis=0), problem.q, rtol=1e-3)


def test_projection_does_not_care_about_potentials(problem):
    """Costs that one row or one column has in common move nothing, however large they are."""
    rng = np.random.default_rng(6)
    cost = rng.random((N, M)).astype(np.float32)
    shifted = cost + 30 * rng.random((N, 1)).astype(np.float32) + 20
    np.testing.assert_allclose(
        problem._project(shifted, np.float32(0.1)), problem._project(cost, np.float32(0.1)), rtol=5e-3, atol=1e-5
    )


@pytest.mark.parametrize("slack", [None, 0.05])
@pytest.mark.parametrize("spread", [1, 20])
def test_the_smallest_epsilon_stays_finite(problem, slack, spread):
    hard = FusedProblem(problem.A, problem.B, problem.p, problem.q, slack=slack)
    cost = spread * np.random.default_rng(6).random((N, M)).astype(np.float32)
    T = hard._project(cost, np.float32(LEAST_EPSILON))
    assert np.isfinite(T).all()
    assert T.min() >= 0
    if slack:
        np.testing.assert_allclose(T.sum(axis=1), problem.p, rtol=1e-3)
    assert T.sum() == pytest.approx(1, rel=1e-3)


def test_semi_relaxed_rows_are_exact_and_columns_are_free(problem):
    cost = np.random.default_rng(6).random((N, M)).astype(np.float32)
    cost[:, 0] += 2  # nobody wants this one
    free = FusedProblem(problem.A, problem.B, problem.p, problem.q, slack=0.05)
    T = free._project(cost, np.float32(0.1))
    np.testing.assert_allclose(T.sum(axis=1), problem.p, rtol=0.02)
    assert T[:, 0].sum() < 0.1 * problem.q[0]
    assert problem._project(cost, np.float32(0.1))[:, 0].sum() == pytest.approx(problem.q[0], rel=0.01)
    stiff = FusedProblem(problem.A, problem.B, problem.p, problem.q, slack=50.0)
    np.testing.assert_allclose(stiff._project(cost, np.float32(0.1)).sum(axis=0), problem.q, rtol=0.05)


# Descent ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trust", [None, 0.3])
def test_objective_falls(problem, fused, trust):
    chosen, epsilon = (problem if trust is None else fused), 0.05

    def minimised(T):
        linear = 0 if trust is None else trust * (fused.linear * T).sum()
        return (1 - (trust or 0)) * distortion(problem, T) / 2 + linear - epsilon * entropy(T)

    start = np.outer(problem.p, problem.q)
    values = [minimised(chosen.descend(start, epsilon, n_iter=n).coupling) for n in range(1, 15)]
    assert values[-1] < minimised(start) - 0.01
    assert (np.diff(values) < 1e-5).all()


def test_agrees_with_pot():
    """Entropic Gromov-Wasserstein by projected gradients; POT's gradient is that of the whole distortion."""
    A, B, p, q = saturated(15, 0), saturated(15, 7), marginal(15, 2), marginal(15, 3)
    start = np.outer(p, q) * np.random.default_rng(0).uniform(0.5, 1.5, (15, 15))
    start = ot.sinkhorn(p, q, -np.log(start), 1.0, warn=False)
    expected = ot.gromov.entropic_gromov_wasserstein(
        A.astype(float),
        B.astype(float),
        p,
        q,
        "square_loss",
        epsilon=0.1,
        G0=start,
        solver="PGD",
        max_iter=200,
        warn=False,
    )
    plan = FusedProblem(A, B, p, q).descend(start.astype(np.float32), 0.05, n_iter=200)
    assert plan.converged
    assert expected.max() > 3 * np.outer(p, q).max()  # it did decide
    np.testing.assert_allclose(plan.coupling, expected, atol=2e-3)
    np.testing.assert_allclose(plan.coupling.sum(axis=1), p, rtol=1e-3)
    np.testing.assert_allclose(plan.coupling.sum(axis=0), q, rtol=0.01)


def test_plan(problem):
    start = np.outer(problem.p, problem.q)
    plan = problem.descend(start, 0.05, n_iter=3)
    assert (plan.n_iter, plan.converged, plan.epsilon) == (3, False, 0.05)
    assert plan.objective == pytest.approx(problem.objective(plan.coupling), rel=1e-5)
    ended = problem.descend(start, 0.05, n_iter=500)
    assert ended.converged
    assert ended.n_iter < 500
    again = problem.descend(ended.coupling, 0.05, n_iter=1).coupling
    assert np.abs(again - ended.coupling).sum() < 2e-3


def test_adapting_epsilon_ends_where_the_noise_is(problem):
    start = np.outer(problem.p, problem.q)
    plan = problem.descend(start, 0.05, n_iter=200, adapt=True)
    assert plan.converged
    assert plan.epsilon == pytest.approx(problem.noise(plan.coupling), rel=0.2)
    assert plan.epsilon >= LEAST_EPSILON


def test_adapting_to_the_same_shape_goes_down_to_the_least_epsilon():
    A, p, order = saturated(N, 0), np.full(N, 1 / N, np.float32), np.random.default_rng(0).permutation(N)
    problem = FusedProblem(A, A[order][:, order], p, p)
    T = np.full((N, N), 0.1 / N**2, np.float32)
    T[order, np.arange(N)] += 0.9 / N
    plan = problem.descend(T, 0.02, n_iter=100, adapt=True)
    assert plan.epsilon == pytest.approx(LEAST_EPSILON)
    assert (plan.coupling.argmax(axis=0) == order).all()
    assert np.isfinite(plan.coupling).all()


def test_the_linear_term_decides_where_the_distances_cannot():
    """All cells look alike, so only the linear cost tells them apart."""
    A, p = (1 - np.eye(N)).astype(np.float32), np.full(N, 1 / N, np.float32)
    order = np.random.default_rng(0).permutation(N)
    linear = np.ones((N, N), np.float32)
    linear[order, np.arange(N)] = 0
    plan = FusedProblem(A, A, p, p, linear, trust=0.5).descend(np.outer(p, p), 0.02, n_iter=50)
    assert (plan.coupling.argmax(axis=0) == order).all()
    assert plan.coupling[order, np.arange(N)].sum() > 0.9
