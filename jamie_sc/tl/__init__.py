"""Integrate modalities, impute the missing ones, map new cells, measure how well it worked, and see what it rests on."""

from ._evaluate import evaluate
from ._explain import explain
from ._feature_impact import feature_impact
from ._impute import impute
from ._integrate import integrate
from ._map_query import map_query
from ._match_cells import match_cells

__all__ = ["evaluate", "explain", "feature_impact", "impute", "integrate", "map_query", "match_cells"]
