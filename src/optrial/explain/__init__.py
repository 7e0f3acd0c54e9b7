"""Explanations of update rules, and their paths on functions of two variables.

From the catalogue of `optrial.rules` and the functions of `optrial.functions` to text, pages and
figures. `optrial.explain.files`, which writes figures, needs Matplotlib; nothing here needs torch.
"""

from optrial.explain.comparison import compare, explain
from optrial.explain.landscape import landscape_rows, make_landscape
from optrial.explain.page import explanation_html, explanation_markdown
from optrial.explain.text import explanation_text

__all__ = [
    "compare",
    "explain",
    "explanation_html",
    "explanation_markdown",
    "explanation_text",
    "landscape_rows",
    "make_landscape",
]
