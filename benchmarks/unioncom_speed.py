"""Our equation 8 against the PyPI package `unioncom`: the same distances, the same iterations, in one run.

python benchmarks/unioncom_speed.py [--cells 1000] [--iterations 100] [--repeats 3]   # OMP_NUM_THREADS=1 for one thread

Not named unioncom.py: that would hide the package from every script of this folder.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import types
import warnings
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.spatial.distance import cdist

import jamie_sc as jsc
from jamie_sc.align._unioncom import unioncom

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def published(K_x: NDArray, K_y: NDArray, iterations: int) -> NDArray:
    """`Prime_Dual` as it is; what it misses today is put in its place."""
    if not hasattr(np, "int"):
        setattr(np, "int", int)  # noqa: B010 - it is older than NumPy 1.24
    sys.modules.setdefault("torchvision", types.SimpleNamespace(models=None))  # imported, not used and not required
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from unioncom.UnionCom import UnionCom

        method = UnionCom(epoch_pd=iterations, log_pd=iterations + 2)  # its log would cost it three more products
        method.device = torch.device("cpu")
        return method.Prime_Dual([K_x, K_y], dx=1, dy=1)


def ours(K_x: NDArray, K_y: NDArray, iterations: int) -> NDArray:
    return unioncom(K_x, K_y, max_iter=iterations, tol=0, progress=False).coupling


def distances(n_cells: int) -> list[NDArray]:
    """Euclidean distances in each modality, its values brought to the range from 0 to 1 as UnionCom does."""
    mdata = jsc.datasets.simulated(n_cells=n_cells)
    values = [np.asarray(mdata[name].X) for name in mdata.mod]
    values = [(x - x.min()) / np.ptp(x) for x in values]
    return [cdist(x, x) for x in values]


def seconds(solve: Callable[..., NDArray], *args: object) -> tuple[float, NDArray]:
    start = perf_counter()
    coupling = solve(*args)
    return perf_counter() - start, coupling


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, in turns; the fastest counts")
    args = parser.parse_args()
    K_x, K_y = distances(args.cells)
    for solve in (ours, published):  # imports and first calls
        solve(K_x[:50, :50], K_y[:50, :50], 2)
    times = np.empty((args.repeats, 2))
    for row in times:
        row[0], F = seconds(ours, K_x, K_y, args.iterations)
        row[1], expected = seconds(published, K_x, K_y, args.iterations)
    fast, slow = times.min(axis=0)
    print(
        "| cells | iterations | threads | unioncom 0.4, s | jamie_sc, s | ratio | largest difference of F | largest F |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    difference = np.abs(F - expected).max()
    print(
        f"| {args.cells} | {args.iterations} | {torch.get_num_threads()} | {slow:.1f} | {fast:.1f} | {slow / fast:.1f} "
        f"| {difference:.1e} | {F.max():.1e} |"
    )


if __name__ == "__main__":
    main()
