"""Sphinx's settings. The examples run at build, and a warning is an error:

    pip install -e ".[docs]" && python -m sphinx -W docs docs/_build/html
"""
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import gallery  # noqa: E402

project, author, copyright = "graphc", "the graphc authors", "the graphc authors, Apache-2.0"
extensions = ["myst_parser", "sphinx_gallery.gen_gallery"]
html_theme, html_title = "furo", "graphc"
html_static_path, html_css_files = ["_static"], ["wide.css"]
exclude_patterns = ["_build"]
default_role = "code"                                   # `x` in a docstring is code, as everywhere in graphc
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]

sphinx_gallery_conf = {
    "examples_dirs": str(gallery.STAGE),
    "gallery_dirs": "examples",
    "within_subsection_order": "FileNameSortKey",
    "filename_pattern": r"[/\\]\d\d_",
    "image_scrapers": ("matplotlib", "gallery"),
    "run_stale_examples": True,                         # graphc changes more often than they do
    "abort_on_example_error": True,
    "capture_repr": (),
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,
}

gallery.stage()
