"""Scores of an embedding, a matching or an imputation: arrays in, numbers out."""

from __future__ import annotations

from ._auroc import auroc
from ._foscttm import foscttm
from ._js_distance import js_distance
from ._label_transfer_accuracy import label_transfer_accuracy
from ._matching_score import matching_score
from ._pearson import pearson
from ._sign_test import SignTest, sign_test

__all__ = [
    "SignTest",
    "auroc",
    "foscttm",
    "js_distance",
    "label_transfer_accuracy",
    "matching_score",
    "pearson",
    "sign_test",
]
