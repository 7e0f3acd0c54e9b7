"""Formulas of pages: LaTeX to MathML."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from latex2mathml.converter import convert
from markupsafe import Markup

__all__ = ["mathml"]

FORMULA_ELEMENTS = re.compile(
    "m(ath|frac|[ino]|over|padded|root|row|space|sqrt|style|su[bp]|subsup|table|t[dr]|text|under|"
    "underover)"
)


def mathml(latex: str) -> Markup:
    r"""Return lines of LaTeX, the body of an ``aligned``, as one displayed MathML formula.

    What cannot be converted, or would become anything but MathML, is shown as its source.
    """
    # The converter knows `split`, which is the same; and it shows the backslash of an escaped
    # underscore.
    lines = latex.replace(r"\_", "_").replace("<", r"\lt ").replace(">", r"\gt ")
    try:
        formula = convert(rf"\begin{{split}}{lines}\end{{split}}", display="block")
        is_formula = all(map(_is_formula, ElementTree.XML(formula).iter()))
    except Exception:  # noqa: BLE001  # the converter's dozen errors have no base in common
        is_formula = False
    return Markup(formula) if is_formula else Markup("<pre>{}</pre>").format(latex)


def _is_formula(element: ElementTree.Element) -> bool:
    """Return whether an element is MathML without links and scripts."""
    name = element.tag.rpartition("}")[2]
    active = [key for key in element.attrib if key.startswith("on") or key.endswith("href")]
    return FORMULA_ELEMENTS.fullmatch(name) is not None and not active
