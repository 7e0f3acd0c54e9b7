"""Self-contained HTML pages from the templates beside this file: no network, both themes."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any
from xml.etree import ElementTree

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from optrial.report.style import css_tokens

__all__ = ["embedded_json", "mathml", "render_page"]

FORMULA_ELEMENTS = re.compile(
    "m(ath|frac|[ino]|over|padded|root|row|space|sqrt|style|su[bp]|subsup|table|t[dr]|text|under|"
    "underover)"
)


def render_page(template: str, **values: Any) -> str:
    """Return the page that a template makes of `values`, every one of them escaped."""
    page = _environment().get_template(template)
    return page.render(tokens=Markup(css_tokens()), mathml=mathml, **values)


def mathml(latex: str) -> Markup:
    r"""Return lines of LaTeX, the body of an ``aligned``, as one displayed MathML formula.

    What cannot be converted, or would become anything but MathML, is shown as its source.
    """
    from latex2mathml.converter import convert  # reads a large table  # noqa: PLC0415

    # The converter knows `split`, which is the same; and it shows the backslash of an escaped
    # underscore.
    lines = latex.replace(r"\_", "_").replace("<", r"\lt ").replace(">", r"\gt ")
    try:
        formula = convert(rf"\begin{{split}}{lines}\end{{split}}", display="block")
        is_formula = all(map(_is_formula, ElementTree.XML(formula).iter()))
    except Exception:  # noqa: BLE001  # the converter's dozen errors have no base in common
        is_formula = False
    return Markup(formula) if is_formula else Markup("<pre>{}</pre>").format(latex)


def embedded_json(value: Any) -> Markup:
    """Return a value as JSON for a ``<script type="application/json">``, which it cannot end."""
    return Markup(json.dumps(value, allow_nan=False).replace("<", r"\u003c"))


def _is_formula(element: ElementTree.Element) -> bool:
    """Return whether an element is MathML without links and scripts."""
    name = element.tag.rpartition("}")[2]
    active = [key for key in element.attrib if key.startswith("on") or key.endswith("href")]
    return FORMULA_ELEMENTS.fullmatch(name) is not None and not active


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("optrial", "report/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
