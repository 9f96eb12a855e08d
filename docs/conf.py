"""Sphinx configuration: ``sphinx-build --fail-on-warning docs docs/_build``."""

import aioca
import aioca.types

# Where Sphinx looks for the comments on its attributes
aioca.types.AugmentedValue.__module__ = "aioca._values.augmented"

project = "aioca"
author = copyright = "the aioca developers"
version = release = aioca.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"aioca {release}"
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
autodoc_typehints = "none"  # the docstrings say it in words
autodoc_inherit_docstrings = False  # numpy's, of what ca_array has from it
autodoc_member_order = "bysource"
default_role = "py:obj"
