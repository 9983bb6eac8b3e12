"""Manifold alignment by maximum mean discrepancy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from scipy.sparse.linalg import eigsh
from scipy.spatial.distance import pdist

from .._logging import logger
from ._inputs import centre, check_n_components, check_not_negative, check_positive, read_matrices, with_signs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ._inputs import Latents, Matrix

MAX_SCALED = 5000  # cells of which distances are taken to find their median


class _Problem(NamedTuple):
    """What stays fixed while the maps are learned."""

    kernels: tuple[torch.Tensor, torch.Tensor]
    widths: tuple[float, ...]  # denominators of the Gaussian kernels
    weights: dict[str, float]


def mmd_ma(
    X: Matrix,
    Y: Matrix,
    *,
    n_components: int = 5,
    kernel: Literal["cosine", "linear"] = "cosine",
    distortion_weight: float = 0.01,
    penalty_weight: float = 0.01,
    bandwidths: Sequence[float] = (0.1, 0.5, 1.0, 2.0),
    n_steps: int = 500,
    learning_rate: float = 0.1,
    n_starts: int = 5,
    rng: int | np.random.Generator | None = 0,
) -> Latents:
    r"""MMD-MA (Liu et al. 2019; Singh et al. 2020): bring two clouds of cells to overlap, without any pair known.

    Each modality keeps its own shape as far as it can while the two distributions of cells become alike. Nothing tells a
    data set from its mirror image but its shape, so a symmetric one may come out mirrored; several random starts are made
    and the one of lowest loss is returned. The losses are logged (``jamie_sc.settings.verbosity = "info"``).

    Parameters
    ----------
    X
        Values of the first modality (n_x cells x p features), dense, or sparse and made dense here.
    Y
        Values of the second modality (n_y cells x q features). The cells need not be the same.
    n_components
        Width of the latents.
    kernel
        Similarity of two cells of one modality, from features centred on their means: `"cosine"` of the angle between
        them, or `"linear"`, their inner product.
    distortion_weight
        Weight of the distortion, :math:`\lambda_1`.
    penalty_weight
        Weight of the penalty that keeps the latents from collapsing, :math:`\lambda_2`.
    bandwidths
        Variances of the Gaussian kernels that compare the two clouds, as multiples of the median squared distance between
        the latents of cells.
    n_steps
        Steps of the optimiser (Adam) in each start.
    learning_rate
        Learning rate of the optimiser.
    n_starts
        Random starts.
    rng
        Seed, or a generator to draw it from. The same seed gives the same numbers again; no global random state is
        touched.

    Returns
    -------
    Latents of X (n_x x `n_components`) and of Y (n_y x `n_components`), float32.

    Raises
    ------
    ValueError
        If a matrix holds NaN, is constant, has too few cells, or varies in fewer than `n_components` dimensions.

    See Also
    --------
    jamie_sc.align.cca, jamie_sc.align.nonlinear_manifold_alignment : for cells some of which are known to be the same.

    Notes
    -----
    With kernel matrices :math:`K_x`, :math:`K_y`, scaled to a mean diagonal of 1, and latents :math:`Z_x = K_x \alpha_x`,
    :math:`Z_y = K_y \alpha_y`, the loss is

    .. math::
        \mathrm{MMD}^2(Z_x, Z_y)
        + \lambda_1 \sum_{u \in \{x, y\}} \frac{\lVert K_u - Z_u Z_u^\top \rVert_F^2}{\lVert K_u \rVert_F^2}
        + \lambda_2 \sum_{u \in \{x, y\}} \frac{\lVert \alpha_u^\top K_u \alpha_u - I \rVert_F^2}{d},

    .. math::
        \mathrm{MMD}^2(Z_x, Z_y) = \operatorname{mean}_{i, i'} k(z^x_i, z^x_{i'})
        + \operatorname{mean}_{j, j'} k(z^y_j, z^y_{j'}) - 2 \operatorname{mean}_{i, j} k(z^x_i, z^y_j),

    where :math:`d` is `n_components` and :math:`k(z, z') = \exp(-\lVert z - z' \rVert^2 / 2 b s)`, averaged over the
    `bandwidths` :math:`b`; :math:`s` is the median squared distance. Dividing by :math:`\lVert K \rVert^2` and :math:`d`,
    which the papers do not, makes one choice of weights fit data of any size. A start is the best latent of each modality
    alone (the first principal components of its kernel matrix), turned at random: it makes the penalty 0 and the
    distortion as small as it can be.

    Time and memory grow with the square of the cells: a start takes one or two minutes for 1,200 cells in each modality on
    one thread, and 10,000 cells need several GB and more than an hour.

    Examples
    --------
    >>> import numpy as np
    >>> import jamie_sc as jsc
    >>> X = np.random.default_rng(0).exponential(size=(50, 3))
    >>> Z_x, Z_y = jsc.align.mmd_ma(X, X[:, ::-1], n_components=2, n_steps=100)
    >>> Z_x.shape, Z_y.shape
    ((50, 2), (50, 2))
    """
    matrices = read_matrices(X, Y)
    _check(kernel, bandwidths, n_steps=n_steps, n_starts=n_starts, learning_rate=learning_rate)
    weights = {"mmd": 1.0, "distortion": distortion_weight, "penalty": penalty_weight}
    check_not_negative(distortion_weight=distortion_weight, penalty_weight=penalty_weight)
    most = [min(len(values) - 1, values.shape[1]) for values in matrices]
    check_n_components(n_components, min(most), f"X can vary in {most[0]} dimensions and Y in {most[1]}")

    kernels = [_kernel_matrix(values, kernel, name) for values, name in zip(matrices, "XY", strict=True)]
    starts = [_principal(K, n_components, name) for K, name in zip(kernels, "XY", strict=True)]
    scale = _median_distance([K @ a for K, a in zip(kernels, starts, strict=True)])
    problem = _Problem(
        kernels=(_tensor(kernels[0]), _tensor(kernels[1])),
        widths=tuple(2 * b * scale for b in bandwidths),
        weights=weights,
    )
    generator = np.random.default_rng(rng)
    best_loss, best = np.inf, None
    for number in range(1, n_starts + 1):
        turned = [a @ _rotation(n_components, generator) for a in starts]
        loss, latents = _descend(problem, turned, n_steps, learning_rate)
        logger.info("mmd_ma: start %d of %d, loss %.5f", number, n_starts, loss)
        if loss < best_loss:
            best_loss, best = loss, latents
    if best is None:
        msg = f"The loss became NaN in all {n_starts} starts. Lower learning_rate, which is {learning_rate}."
        raise FloatingPointError(msg)
    return best


def _check(kernel: str, bandwidths: Sequence[float], **positive: float) -> None:
    if kernel not in ("cosine", "linear"):
        msg = f"kernel is 'cosine' or 'linear', not {kernel!r}."
        raise ValueError(msg)
    check_positive(**positive)
    if len(bandwidths) == 0 or not min(bandwidths) > 0:
        msg = f"bandwidths is {bandwidths!r}: give one multiple of the median squared distance or several, all above 0."
        raise ValueError(msg)


def _tensor(values: NDArray[np.float64]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def _kernel_matrix(values: NDArray[np.float64], kernel: str, name: str) -> NDArray[np.float64]:
    """Similarities of the cells of one modality, of mean diagonal 1 (cells x cells)."""
    centred = centre(values)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    if norms.max() == 0:
        msg = f"All cells of {name} are alike: there is nothing to align."
        raise ValueError(msg)
    if kernel == "cosine":
        centred = centred / np.where(norms > 0, norms, 1)
    return centred @ centred.T / np.mean(np.sum(centred**2, axis=1))


def _principal(K: NDArray[np.float64], k: int, name: str) -> NDArray[np.float64]:
    """The alpha of least distortion, whose penalty is 0 (cells x k)."""
    start = np.random.default_rng(0).standard_normal(len(K))  # of the solver; decides nothing but the last digits
    values, vectors = eigsh(K, k=k, which="LA", v0=start)
    if values.min() <= 1e-6 * values.max():
        rank = int(np.count_nonzero(values > 1e-6 * values.max()))
        msg = f"n_components is {k}, but {name} varies in {rank} dimensions only: ask for at most so many."
        raise ValueError(msg)
    return with_signs(vectors) / np.sqrt(values)


def _rotation(k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random orthogonal matrix, mirror images included."""
    q, r = np.linalg.qr(rng.standard_normal((k, k)))
    return q * np.sign(np.diag(r))


def _median_distance(latents: list[NDArray[np.float64]]) -> float:
    """Median squared distance between cells of both modalities, from evenly chosen cells where there are many."""
    cells = np.vstack(latents)
    return float(np.median(pdist(cells[:: max(1, len(cells) // MAX_SCALED)], "sqeuclidean")))


def _descend(
    problem: _Problem, start: Sequence[NDArray[np.float64]], n_steps: int, learning_rate: float
) -> tuple[float, Latents]:
    """Minimise the loss from one start: the last loss and the latents."""
    sizes = [len(K) for K in problem.kernels]
    scaled = [_tensor(a * n).requires_grad_() for a, n in zip(start, sizes, strict=True)]  # of the size of 1, for Adam
    optimizer = torch.optim.Adam(scaled, lr=learning_rate)

    def evaluate() -> tuple[torch.Tensor, list[torch.Tensor]]:
        alphas = [a / n for a, n in zip(scaled, sizes, strict=True)]
        latents = [K @ a for K, a in zip(problem.kernels, alphas, strict=True)]
        terms = _terms(problem, alphas, latents)
        return sum((problem.weights[name] * term for name, term in terms.items()), torch.zeros(())), latents

    for _ in range(n_steps):
        optimizer.zero_grad()
        evaluate()[0].backward()
        optimizer.step()
    with torch.no_grad():
        loss, (z_x, z_y) = evaluate()
    return float(loss), (z_x.numpy(), z_y.numpy())


def _terms(problem: _Problem, alphas: list[torch.Tensor], latents: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """The three terms of the loss, unweighted."""
    modalities = list(zip(problem.kernels, alphas, latents, strict=True))
    return {
        "mmd": _mmd(latents[0], latents[1], problem.widths),
        "distortion": torch.stack([_distortion(K, z) for K, _, z in modalities]).sum(),
        "penalty": torch.stack([_penalty(a, z) for _, a, z in modalities]).sum(),
    }


def _mmd(z_x: torch.Tensor, z_y: torch.Tensor, widths: Sequence[float]) -> torch.Tensor:
    """Squared maximum mean discrepancy under the mean of Gaussian kernels (Gretton et al. 2012, the biased estimate)."""
    within = _mean_kernel(z_x, z_x, widths) + _mean_kernel(z_y, z_y, widths)
    return within - 2 * _mean_kernel(z_x, z_y, widths)


def _mean_kernel(a: torch.Tensor, b: torch.Tensor, widths: Sequence[float]) -> torch.Tensor:
    """Mean over all pairs of rows, and over the widths, of exp(-squared distance / width)."""
    distances = ((a**2).sum(dim=1)[:, None] + (b**2).sum(dim=1) - 2 * a @ b.T).clamp_min(0)
    return torch.stack([torch.exp(distances * (-1 / width)).mean() for width in widths]).mean()


def _distortion(K: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """||K - z z^T||^2 / ||K||^2, multiplied out, so that no second matrix of cells x cells is made."""
    norm = (K**2).sum()
    return 1 + (((z.T @ z) ** 2).sum() - 2 * (z * (K @ z)).sum()) / norm


def _penalty(alpha: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """||alpha^T K alpha - I||^2 over the dimensions."""
    return ((alpha.T @ z - torch.eye(z.shape[1], dtype=z.dtype)) ** 2).sum() / z.shape[1]
