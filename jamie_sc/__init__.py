"""Joint embedding and cross-modal imputation of multimodal single-cell data in MuData."""

from importlib.metadata import version

__version__ = version("jamie_sc")
