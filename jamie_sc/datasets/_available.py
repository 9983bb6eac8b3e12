"""A table of the data sets."""

from __future__ import annotations

import pandas as pd

from ._manifest import manifest_names, read_manifest


def available() -> pd.DataFrame:
    """List the data sets of the papers.

    Returns
    -------
    A row for each data set, indexed by its name: `description`, `modalities`, `cells`, `has_checksum` (False: see
    `trust_unverified` of :func:`fetch`), `role` in the papers, `licence`, `citation` and `source`.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> table = jsc.datasets.available()
    >>> table.loc["patchseq_motor", "modalities"]
    'rna, ephys'
    """
    manifests = [read_manifest(name) for name in manifest_names()]
    rows = {
        manifest.name: {
            "description": manifest.description,
            "modalities": ", ".join(manifest.modalities),
            "cells": manifest.n_cells,
            "has_checksum": manifest.has_checksum,
            "role": manifest.role_in_paper,
            "licence": manifest.licence,
            "citation": manifest.citation,
            "source": manifest.source,
        }
        for manifest in manifests
    }
    return pd.DataFrame.from_dict(rows, orient="index").astype({"cells": "Int64"}).rename_axis("name")
