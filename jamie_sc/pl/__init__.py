"""Plots: each takes `ax` and `show`, returns the axes when `show=False`, and never saves."""

from ._alignment_scores import alignment_scores
from ._cell import cell
from ._embedding import embedding
from ._feature_impact import feature_impact
from ._feature_scores import feature_scores
from ._history import history
from ._js_distance import js_distance
from ._measured_vs_imputed import measured_vs_imputed
from ._shap_beeswarm import shap_beeswarm
from ._shap_waterfall import shap_waterfall

__all__ = [
    "alignment_scores",
    "cell",
    "embedding",
    "feature_impact",
    "feature_scores",
    "history",
    "js_distance",
    "measured_vs_imputed",
    "shap_beeswarm",
    "shap_waterfall",
]
