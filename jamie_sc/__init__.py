"""Joint embedding and cross-modal imputation of multimodal single-cell data in MuData."""

from importlib.metadata import version

from . import align, datasets, get, metrics, models, pl, pp, tl
from ._settings import settings

__all__ = ["align", "datasets", "get", "metrics", "models", "pl", "pp", "settings", "tl"]
__version__ = version("jamie_sc")
