"""Tidy frames and AnnData objects from what `jamie_sc.tl` wrote; nothing is written here."""

from ._correspondence import correspondence
from ._feature_impact import feature_impact
from ._history import history
from ._imputed import imputed
from ._shap import shap

__all__ = ["correspondence", "feature_impact", "history", "imputed", "shap"]
