"""How Sphinx makes the site from the pages, each of which stays where it stands: the source folder is the repository's.

`cargo xtask docs` runs it, in an environment that has the package, since the reference is made from its docstrings.
"""

from farexec import __version__

project = "farexec"
copyright = "the farexec developers"
release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**", "bench/README.md", "shim/README.md"]
exclude_patterns = ["docs/conf.py"]
myst_heading_anchors = 3

autodoc_member_order = "alphabetical"
autodoc_typehints = "signature"

html_theme = "furo"
html_title = "farexec"
