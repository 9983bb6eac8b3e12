"""Configuration of the documentation: sphinx-build -W --keep-going -b html docs docs/_build/html."""

from __future__ import annotations

import os
import shutil
import warnings
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

import numpy as np
from numpy.typing import ArrayLike
from sphinx.util.logging import getLogger
from sphinx_autodoc_typehints import format_annotation

import jamie_sc

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config
    from sphinx.environment import BuildEnvironment

HERE = Path(__file__).parent
warnings.filterwarnings("ignore", module="sphinx_autodoc_typehints")  # it calls what Sphinx 10 will not have

# Sphinx reads only what lies below this folder, and the notebooks are in tutorials/, where the tests run them. What an
# earlier build left of names and notebooks that are gone must not stay.
for folder in ("api", "notebooks"):
    shutil.rmtree(HERE / folder, ignore_errors=True)
shutil.copytree(HERE.parent / "tutorials", HERE / "notebooks", ignore=shutil.ignore_patterns(".*"))

project = "jamie_sc"
author = "The jamie_sc developers"
copyright = f"2026, {author}"
version = release = jamie_sc.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_autodoc_typehints",
    "sphinx_copybutton",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
default_role = "literal"
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(collections|os|pathlib|typing)\..*|Ellipsis"),
    ("py:.*", r"jamie_sc\.models\.(Conditions|FittedModality|Model|_calibration\.Calibration)"),
    ("py:.*", r"(anndata|matplotlib|mudata|numpy|pandas|scanpy|scipy|shap|sklearn|torch)\..*"),
]

# The lists of the API are those of __all__: _templates/autosummary/module.rst.
autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_custom_sections = ["Returns"]  # prose and lists of slots, not one name and its type
typehints_defaults = "braces"
always_use_bars_union = True
typehints_document_rtype_none = False
suppress_warnings = [
    "config.cache",  # of the functions below, which cannot be pickled
    "sphinx_autodoc_typehints.forward_reference",  # of what a dataclass inherits: it reads hints in the heir's module
]

nb_execution_mode = "off"  # notebooks keep the outputs that they were saved with
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

html_theme = "sphinx_book_theme"
html_title = "jamie_sc"
html_theme_options = {"navbar_persistent": []}

if os.environ.get("READTHEDOCS"):  # links to other packages need the network; a build elsewhere does without
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "anndata": ("https://anndata.readthedocs.io/en/stable", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
        "mudata": ("https://mudata.readthedocs.io/stable", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "python": ("https://docs.python.org/3", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
        "shap": ("https://shap.readthedocs.io/en/stable", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
    }


def typehints_fixup_module_name(module: str) -> str:
    """Where a class is documented: its module without the private parts."""
    return ".".join(takewhile(lambda part: not part.startswith("_") and part != "core", module.split(".")))


def typehints_formatter(annotation: Any, config: Config) -> str | None:
    """Arrays by their short names, which are unions and generics."""
    if get_origin(annotation) is np.ndarray:
        return format_annotation(np.ndarray, config)
    members, of_array_like = get_args(annotation), set(get_args(ArrayLike))
    if not of_array_like <= set(members):
        return None
    rest = [format_annotation(member, config) for member in members if member not in of_array_like]
    return " | ".join([":data:`~numpy.typing.ArrayLike`", *rest])


def prose_as_written(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep napoleon from reading a type before the first colon of a sentence, in Returns and in attributes."""
    lines[:] = [line for line in lines if line.strip() != ":"]  # put under Returns by sphinx_autodoc_typehints
    if what in ("attribute", "property"):
        lines[:0] = ["..", ""]  # an empty comment


def every_public_name_has_a_page(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of the names in `__all__` that no page documents."""
    for part in jamie_sc.__all__:
        for name in getattr(getattr(jamie_sc, part), "__all__", []):
            if f"jamie_sc.{part}.{name}" not in env.domains.python_domain.objects:
                getLogger(__name__).warning("no page documents jamie_sc.%s.%s", part, name)


def setup(app: Sphinx) -> None:
    """Change docstrings after sphinx_autodoc_typehints, which has the same priority, and before napoleon, at 500."""
    app.connect("autodoc-process-docstring", prose_as_written, priority=499)
    app.connect("env-check-consistency", every_public_name_has_a_page)
