"""Alignment of two matrices of cells: the papers' baselines, and correspondence inferred without pairs.

Arrays in, arrays out; what a function needs is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._cca import cca
    from ._distances import distances
    from ._gromov_wasserstein import gromov_wasserstein
    from ._linear_manifold_alignment import linear_manifold_alignment
    from ._mmd_ma import mmd_ma
    from ._nonlinear_manifold_alignment import nonlinear_manifold_alignment
    from ._solution import Solution
    from ._unioncom import unioncom

__all__ = [
    "Solution",
    "cca",
    "distances",
    "gromov_wasserstein",
    "linear_manifold_alignment",
    "mmd_ma",
    "nonlinear_manifold_alignment",
    "unioncom",
]

_MODULES = {
    "Solution": "._solution",
    "cca": "._cca",
    "distances": "._distances",
    "gromov_wasserstein": "._gromov_wasserstein",
    "linear_manifold_alignment": "._linear_manifold_alignment",
    "mmd_ma": "._mmd_ma",
    "nonlinear_manifold_alignment": "._nonlinear_manifold_alignment",
    "unioncom": "._unioncom",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_MODULES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
