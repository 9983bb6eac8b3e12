"""What differs between the versions of mudata that we support (0.3.9 to 0.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mudata
from mudata import MuData

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from anndata import AnnData


def no_pull() -> AbstractContextManager[object]:
    """Context in which `MuData.update` leaves the modalities' obs columns where they are."""
    if hasattr(mudata, "settings"):  # 0.4
        return mudata.settings.override(pull_on_update=False)
    return mudata.set_options(pull_on_update=False)


def copy_of(mdata: MuData) -> MuData:
    """A copy in which the modalities' obs columns are left where they are."""
    with no_pull():
        return mdata.copy()


def make_mudata(mods: Mapping[str, AnnData]) -> MuData:
    """A MuData of these modalities: cells joined by name, obs columns left in the modalities."""
    with no_pull():
        return MuData(dict(mods))
