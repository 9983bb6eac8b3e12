"""Correspondence by comparing distances within each modality: Gromov-Wasserstein, on landmarks where cells are many."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import ot
import scipy.sparse as sp
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from .._logging import logger
from ._best_matches import CHUNK, best_matches
from ._cca import cca
from ._distances import check_points
from ._fused_problem import FusedProblem, Plan
from ._geometry import LEAST_NEIGHBORS, diffusion_ranks, hop_distances, mean_geometry, metrics_for, neighborhood_sizes
from ._inputs import read_one_to_one
from ._landmarks import Landmarks, mixture
from ._solution import Solution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.floating[Any]]

N_SEARCHED = 256
"""Points on which starts are compared."""
N_ALL = 2_000
"""Cells up to which each is a landmark of its own."""
N_LANDMARKS = 1_000
"""Landmarks of each modality beyond that."""
WARM, LUKEWARM = 0.05, 0.02
"""Epsilon while starts are compared, and when the best of them are."""
N_ITER, N_REFINED = 100, 20
"""Iterations at most on the points searched, and on more points that start from what was found there."""
SLACK = 0.05
"""Cost of matching some cells of Y more than others with semi-relaxed marginals, in units of the squared distances."""
TRUSTED_PAIRS = 20
"""Known pairs that would count as much as the geometry, were they told without fail."""
N_FOLDS = 5
"""Parts of the known pairs that are left out, one after the other, to see how well they are told."""
NEARLY = 1.1
"""A solution whose objective is at most so many times the best one is nearly as good."""


def gromov_wasserstein(
    X: ArrayLike,
    Y: ArrayLike,
    *,
    pairs: NDArray[np.integer] | None = None,
    n_neighbors: int | None = None,
    epsilon: float | None = None,
    marginals: str = "balanced",
    n_landmarks: int | None = None,
    n_matches: int = 30,
    rng: int | np.random.Generator | None = 0,
    progress: bool | None = None,
    names: tuple[str, str] = ("X", "Y"),
) -> Solution:
    r"""Match cells of two modalities whose geometries agree, with or without known pairs (fused Gromov-Wasserstein).

    Parameters
    ----------
    X
        Values of the first modality (n_x cells x p features), dense.
    Y
        Values of the second modality (n_y cells x q features).
    pairs
        Cells known to be the same: integers (n_pairs, 2), row of X and row of Y. They stay matched with each other alone,
        and what :func:`jamie_sc.align.cca` learns from them is the linear term for the others: 1 minus the cosine of two
        cells over the canonical variables.
    n_neighbors
        Neighbours in the graph that distances are measured along. By default several sizes, 5 to a third of the cells:
        each proposes solutions, and their average distance decides.
    epsilon
        Entropy of the coupling, for squared distances of mean 1. By default it follows what is left
        unexplained, a tenth of the distortion and four tenths of the linear cost: the worse the modalities agree, the
        blurrier the matches.
    marginals
        `"balanced"`: each cell is matched as much as any other. `"semi-relaxed"`: cells of Y may be matched less or more,
        where the composition differs.
    n_landmarks
        Solve on so many k-means centres of each modality and interpolate. By default on all cells up to 2,000, and on
        1,000 centres beyond.
    n_matches
        Matches kept for each cell of X and for each cell of Y.
    rng
        Seed of the landmarks.
    progress
        Show a bar; default only on a terminal or in a notebook.
    names
        What messages call the modalities.

    Returns
    -------
    A :class:`jamie_sc.align.Solution`. Its `coupling` is sparse (n_x x n_y), the best matches of each cell of either
    side; the `objective` is relative to the coupling that knows nothing: 0 where distances agree, 1 for chance. `rivals`
    are the objectives of unlike solutions, in units of the best one's, that are at most a tenth worse; a warning counts
    them.

    Raises
    ------
    ValueError
        If there are fewer cells than neighbours, values are NaN, a pair does not exist or is given twice, or an option is
        unknown.

    Notes
    -----
    With distances :math:`A` and :math:`B` of mean square 1, this minimises over couplings :math:`T` with marginals
    :math:`1/n_x` and :math:`1/n_y`

    .. math::
        \tfrac{1 - \tau}{2} \sum_{ijkl} (A_{ik} - B_{jl})^2 T_{ij} T_{kl} + \tau \sum_{ij} M_{ij} T_{ij} - \varepsilon H(T)

    by projected gradients (Peyre, Cuturi and Solomon 2016; POT's Sinkhorn). :math:`M` is the linear term, and
    :math:`\tau` = pairs / (pairs + 20), times how well pairs that are left out
    are told, 1 - 2 FOSCTTM. Distances are hops along graphs of nearest neighbours, by correlation and by
    Euclidean distance, averaged and made to saturate, :math:`1 - e^{-d^2}`. Starts are the uniform coupling and the ways
    to lay the first two diffusion components onto each other; they are compared on 256 k-means centres.

    An iteration takes 4 n_landmarks^3 operations; memory is some 10 matrices of n_landmarks x n_landmarks. Then each cell
    is interpolated between its nearest landmarks and its best matches are looked up, n_x n_y operations in chunks.

    Examples
    --------
    >>> import numpy as np
    >>> import jamie_sc as jsc
    >>> X = np.random.default_rng(0).exponential(size=(80, 2)) * [3, 1]
    >>> found = jsc.align.gromov_wasserstein(X, X @ [[0, 1, 0], [-1, 0, 0]])
    >>> best = found.coupling.toarray().argmax(axis=1)
    >>> bool(np.median(np.linalg.norm(X - X[best], axis=1)) < 1)
    True
    """
    X, Y = (np.asarray(values, dtype=np.float32) for values in (X, Y))
    for values, name in ((X, names[0]), (Y, names[1])):
        check_points(values, n_neighbors=n_neighbors or LEAST_NEIGHBORS, name=repr(name))
    if marginals not in ("balanced", "semi-relaxed"):
        msg = f'marginals is {marginals!r}. Choose "balanced" or "semi-relaxed".'
        raise ValueError(msg)
    known = read_one_to_one(pairs, (len(X), len(Y)), option="pairs", names=("X", "Y"))
    free = [np.setdiff1d(np.arange(len(values)), known[:, side]) for side, values in enumerate((X, Y))]
    if min(map(len, free)) == 0:
        return Solution(_with_known(None, free, known, (len(X), len(Y))), 0.0, 0.0, 0.0, 0, converged=True)
    for rows, name in zip(free, names, strict=True):
        if len(rows) <= (least := n_neighbors or LEAST_NEIGHBORS):
            msg = (
                f"Only {len(rows)} cells of {name!r} have no partner yet, too few for a graph of {least} neighbours. Leave "
                "them out."
            )
            raise ValueError(msg)
    generator = np.random.default_rng(rng)
    *views, trust = _views(X, Y, known, generator)
    cells = [_Cells(values[rows], view[rows]) for values, rows, view in zip((X, Y), free, views, strict=True)]
    n_fine = n_landmarks or (N_ALL if max(map(len, free)) <= N_ALL else N_LANDMARKS)
    slack = None if marginals == "balanced" else SLACK
    options = {"trust": trust, "slack": slack, "n_neighbors": n_neighbors}
    _announce(names, [len(rows) for rows in free], n_fine)
    with tqdm(desc="match", disable=None if progress is None else not progress) as bar:
        scene, plan, rivals = _solve(cells, n_fine, epsilon, generator, bar, names, options)
        coupling = scene.matches(plan.coupling, n_matches, bar.update)
    _warn_of_rivals(names, rivals)
    problem, T = scene.problem, plan.coupling
    return Solution(
        coupling=_with_known(coupling, free, known, (len(X), len(Y))),
        objective=problem.distortion(T) / problem.distortion(np.outer(problem.p, problem.q)),
        row_residual=float(np.abs(T.sum(axis=1) / problem.p - 1).max()),
        column_residual=float(np.abs(T.sum(axis=0) / problem.q - 1).max()),
        n_iter=plan.n_iter,
        converged=plan.converged,
        epsilon=plan.epsilon,
        rivals=rivals,
    )


def _solve(
    cells: Sequence[_Cells],
    n_fine: int,
    epsilon: float | None,
    rng: np.random.Generator,
    bar: tqdm,
    names: tuple[str, str],
    options: Mapping[str, Any],
) -> tuple[_Scene, Plan, tuple[float, ...]]:
    """Search on few points, then refine on more, where there are more."""
    adapt = epsilon is None
    scene = _Scene.of(cells, min(n_fine, N_SEARCHED), rng, singles=True, names=names, **options)
    with threadpool_limits(1, "blas"):  # on matrices as small as these, threads mostly wait for each other
        plan, rivals = _search(scene, bar)
        plan = scene.problem.descend(plan.coupling, epsilon or LUKEWARM, n_iter=N_ITER, adapt=adapt)
    if min(n_fine, max(len(part.values) for part in cells)) > N_SEARCHED:
        coarse, scene = scene, _Scene.of(cells, n_fine, rng, **options)
        bar.update()
        start = scene.spread(plan.coupling, coarse)
        plan = scene.problem.descend(start, epsilon or plan.epsilon, n_iter=N_REFINED, adapt=adapt)
    return scene, plan, rivals


# Known pairs ---------------------------------------------------------------------------------------------------------


def _views(X: Floats, Y: Floats, known: NDArray[np.intp], rng: np.random.Generator) -> tuple[Floats, Floats, float]:
    """Directions whose cosine says how alike two cells are, from the known pairs; and how far to trust them, 0 to 1.

    Trust grows with the number of pairs and with how well pairs are told that were left out: 1 - 2 FOSCTTM of them.
    """
    if len(known) < 2 * N_FOLDS:
        return np.zeros((len(X), 0), np.float32), np.zeros((len(Y), 0), np.float32), 0.0
    closer = []
    for left_out in np.array_split(rng.permutation(len(known)), N_FOLDS):
        a, b = _canonical_directions(X, Y, np.delete(known, left_out, axis=0))
        likeness = a[known[left_out, 0]] @ b[known[left_out, 1]].T
        own = np.diag(likeness)
        closer.append(((likeness > own[:, None]).mean() + (likeness > own).mean()) / 2)
    told = max(0.0, 1 - 2 * float(np.mean(closer)))
    return *_canonical_directions(X, Y, known), told * len(known) / (len(known) + TRUSTED_PAIRS)


def _canonical_directions(X: Floats, Y: Floats, known: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Canonical variables, weighted by their correlations over the pairs, each cell's brought to length 1."""
    paired = X[known[:, 0]], Y[known[:, 1]]
    rank = min(int(np.linalg.matrix_rank(part - part.mean(axis=0))) for part in paired)
    z_x, z_y = cca(X, Y, pairs=known, n_components=max(1, min(16, rank)), regularization=1.0)
    correlation = (z_x[known[:, 0]] * z_y[known[:, 1]]).mean(axis=0)
    return _directions(z_x * correlation), _directions(z_y * correlation)


def _directions(values: Floats) -> Floats:
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _with_known(
    coupling: sp.csr_matrix | None, free: Sequence[NDArray[np.intp]], known: NDArray[np.intp], shape: tuple[int, int]
) -> sp.csr_matrix:
    """The coupling of all cells: the free ones' scaled to the mass they hold, and one over n_x for each known pair."""
    mass = np.full(len(known), 1 / shape[0], dtype=np.float32)
    parts = [sp.coo_matrix((mass, (known[:, 0], known[:, 1])), shape=shape)]
    if coupling is not None:
        inner = coupling.tocoo()
        share = np.float32(len(free[0]) / shape[0])
        parts.append(sp.coo_matrix((inner.data * share, (free[0][inner.row], free[1][inner.col])), shape=shape))
    return sum(parts[1:], start=parts[0]).tocsr()


# Cells, landmarks, and the way between them --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cells:
    """Cells of one modality that have no partner yet."""

    values: Floats
    view: Floats
    """What known pairs say of them, (cells, canonical variables)."""


@dataclass(frozen=True)
class _Scene:
    """Landmarks of both modalities, and the problem of matching them."""

    sides: tuple[Landmarks, Landmarks]
    problem: FusedProblem
    """With distances averaged over metrics and neighbourhood sizes."""
    singles: Sequence[FusedProblem]
    """With those of each metric and size; none where only the average is needed."""

    @classmethod
    def of(
        cls,
        cells: Sequence[_Cells],
        n: int,
        rng: np.random.Generator,
        *,
        n_neighbors: int | None,
        trust: float,
        slack: float | None,
        singles: bool = False,
        names: tuple[str, str] | None = None,
    ) -> Self:
        """Landmarks, distances along their graphs, and what the pairs say of matching them."""
        a, b = (Landmarks.of(part.values, n, rng) for part in cells)
        sizes = neighborhood_sizes(min(len(a.points), len(b.points)), n_neighbors, 8 if singles else 4)
        metrics = metrics_for(min(part.values.shape[1] for part in cells))
        distances = [
            hop_distances(side.points, side.weight, sizes, metrics=metrics, name=None if names is None else names[k])
            for k, side in enumerate((a, b))
        ]
        kept = [list(parts) for parts in distances] if singles else distances
        views = [_directions(side.mean(part.view)) for side, part in zip((a, b), cells, strict=True)]
        linear = 1 - views[0] @ views[1].T if views[0].shape[1] else None
        A, B = (mean_geometry(parts, side.weight) for parts, side in zip(kept, (a, b), strict=True))
        mean = FusedProblem(A, B, a.weight, b.weight, linear, trust if linear is not None else 0.0, slack)
        each = zip(*kept, strict=True) if singles else ()
        alone = [replace(mean, A=mean_geometry([A], a.weight), B=mean_geometry([B], b.weight)) for A, B in each]
        return cls((a, b), mean, alone)

    def spread(self, T: Floats, coarse: _Scene) -> Floats:
        """A coupling of a coarser scene's landmarks, interpolated to these."""
        ratio = T / np.outer(coarse.problem.p, coarse.problem.q)
        from_a, from_b = (mixture(fine.points, few.points) for fine, few in zip(self.sides, coarse.sides, strict=True))
        return np.outer(self.problem.p, self.problem.q) * (from_b @ (from_a @ ratio).T).T

    def matches(self, T: Floats, n_matches: int, tick: Callable[[], object]) -> sp.csr_matrix:
        """The best matches of each cell of either side, from a coupling of landmarks; values sum to at most 1."""
        ratio = T / np.outer(self.problem.p, self.problem.q)
        a, b = (side.mixture for side in self.sides)
        best = best_matches(ratio, n_matches, a, b, tick)
        best.data /= np.float32(a.shape[0] * b.shape[0])
        return best


# Where to start ------------------------------------------------------------------------------------------------------


def _search(scene: _Scene, bar: tqdm) -> tuple[Plan, tuple[float, ...]]:
    """The best plan for the scene; and the objectives, in units of its own, of unlike ones that are nearly as good.

    Each neighbourhood size, and their average, proposes the best two unlike ends of its starts; the average judges them.
    """
    judge = scene.problem
    proposals: list[Floats] = []
    for problem in (judge, *scene.singles):
        ends = sorted((problem.descend(T, WARM, n_iter=5) for T in _starts(problem)), key=lambda plan: plan.objective)
        proposals += _unlike([plan.coupling for plan in ends], overlap=0.9)[:2]
        bar.update()
    finalists = _unlike(sorted(proposals, key=judge.objective), overlap=0.8)[:5]
    ends = sorted((judge.descend(T, LUKEWARM, n_iter=25) for T in finalists), key=lambda plan: plan.objective)
    bar.update()
    good = [plan for plan in ends if plan.objective <= NEARLY * ends[0].objective]
    unlike = _unlike([plan.coupling for plan in good], overlap=0.5)[1:]
    rivals = (plan.objective / ends[0].objective for plan in good if any(plan.coupling is T for T in unlike))
    return ends[0], tuple(rivals)


def _starts(problem: FusedProblem) -> Iterator[Floats]:
    """Couplings to descend from: knowing nothing; diffusion components laid onto each other; what the pairs say alone."""
    p, q = problem.p, problem.q
    yield np.outer(p, q)
    ranks_a, ranks_b = diffusion_ranks(problem.A, p), diffusion_ranks(problem.B, q)
    importance = np.array([1, 0.5], dtype=np.float32)
    for order, flip in product(([0, 1], [1, 0]), product((False, True), repeat=2)):
        turned = np.where(flip, 1 - ranks_b[:, order], ranks_b[:, order])
        cost = ((ranks_a[:, None] - turned) ** 2 * importance).sum(axis=2)
        yield ot.sinkhorn(p, q, cost, np.float32(0.02), numItermax=50, warn=False)
    if problem.linear is not None:
        yield ot.sinkhorn(p, q, problem.linear, np.float32(0.1), numItermax=50, warn=False)


def _unlike(couplings: Sequence[Floats], *, overlap: float) -> list[Floats]:
    """Those that share less than the overlap with each one before them."""
    chosen: list[Floats] = []
    for T in couplings:
        if all(np.minimum(T, other).sum() < overlap for other in chosen):
            chosen.append(T)
    return chosen


# What the user is told -----------------------------------------------------------------------------------------------


def _announce(names: tuple[str, str], n_cells: Sequence[int], n_landmarks: int) -> None:
    n = min(n_landmarks, max(n_cells))
    if n**2 * max(n_cells) < 1e8:  # done in a second or two
        logger.info("matching %d cells of %r with %d of %r", n_cells[0], names[0], n_cells[1], names[1])
        return
    gigabytes = 4 * (30 * n**2 + 2 * CHUNK * max(n_cells) + n * max(n_cells)) / 1e9
    msg = "matching %d cells of %r with %d of %r on %s: %.1g operations an iteration, about %.1f GB"
    where = f"{n} landmarks of each" if n < max(n_cells) else "all of them"
    logger.info(msg, n_cells[0], names[0], n_cells[1], names[1], where, 4.0 * n**3, gigabytes)


def _warn_of_rivals(names: tuple[str, str], rivals: Sequence[float]) -> None:
    if rivals:
        msg = (
            "%d unlike ways of matching %r with %r are nearly as good as the one chosen: geometry alone cannot tell them "
            "apart, for example a shape and its mirror image. Look at the result with care; some known pairs decide it"
        )
        logger.warning(msg, len(rivals), *names)
