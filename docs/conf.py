"""The documents as a site: `make docs` builds it into build/docs, strictly."""

project = "projector"
copyright = "the projector authors"
extensions = ["myst_parser", "sphinx_copybutton"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "projector"
html_static_path: list[str] = []
html_theme_options = {"source_directory": "docs/"}
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True
nitpicky = True
exclude_patterns = ["images"]
