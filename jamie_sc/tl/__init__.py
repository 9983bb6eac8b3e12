"""Integrate modalities, impute the missing ones, map new cells, and measure how well it worked."""

from ._evaluate import evaluate
from ._impute import impute
from ._integrate import integrate
from ._map_query import map_query
from ._match_cells import match_cells

__all__ = ["evaluate", "impute", "integrate", "map_query", "match_cells"]
