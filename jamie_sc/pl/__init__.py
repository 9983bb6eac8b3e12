"""Plots: each takes `ax` and `show`, returns the axes when `show=False`, and never saves."""

from ._embedding import embedding
from ._history import history

__all__ = ["embedding", "history"]
