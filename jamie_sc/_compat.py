"""What differs between the versions of mudata that we support (0.3.9 to 0.4)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import mudata
from mudata import MuData

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from anndata import AnnData


@contextmanager
def no_pull(mdata: MuData | None = None) -> Iterator[None]:
    """Context in which `MuData.update` leaves the modalities' obs columns where they are.

    Updating or copying a MuData there fails where the index of its obs or var has another name than the modalities' have
    (mudata 0.3.10: "cannot join with no overlapping index names"), so `mdata` has theirs for as long.
    """
    quiet = mudata.settings.override if hasattr(mudata, "settings") else mudata.set_options  # 0.4, 0.3
    frames = [] if mdata is None else [mdata.obs, mdata.var]
    before = [frame.index.name for frame in frames]
    with quiet(pull_on_update=False):
        for frame, axis in zip(frames, ("obs_names", "var_names"), strict=False):
            names = {getattr(mod, axis).name for mod in mdata.mod.values()} if mdata is not None else set()
            frame.index.name = names.pop() if len(names) == 1 else None
        try:
            yield
        finally:
            for frame, name in zip(frames, before, strict=True):
                frame.index.name = name


def copy_of(mdata: MuData) -> MuData:
    """A copy in which the modalities' obs columns are left where they are."""
    with no_pull(mdata):
        return mdata.copy()


def make_mudata(mods: Mapping[str, AnnData]) -> MuData:
    """A MuData of these modalities: cells joined by name, obs columns left in the modalities."""
    with no_pull():
        return MuData(dict(mods))
