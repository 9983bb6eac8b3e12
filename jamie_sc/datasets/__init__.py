"""Simulated data, and the data sets of the papers."""

from ._available import available
from ._bmmc_cite import bmmc_cite
from ._fetch import fetch
from ._patchseq_motor import patchseq_motor
from ._scgem import scgem
from ._simulated import simulated

__all__ = ["available", "bmmc_cite", "fetch", "patchseq_motor", "scgem", "simulated"]
