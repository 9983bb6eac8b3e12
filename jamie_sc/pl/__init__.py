"""Plots: each takes `ax` and `show`, returns the axes when `show=False`, and never saves."""

from ._alignment_scores import alignment_scores
from ._embedding import embedding
from ._history import history

__all__ = ["alignment_scores", "embedding", "history"]
