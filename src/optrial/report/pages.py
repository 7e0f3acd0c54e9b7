"""Self-contained HTML pages from the templates beside this file: no network, both themes."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from optrial.lines import unbroken
from optrial.style import css_tokens

__all__ = ["embedded_json", "render_page"]


def render_page(template: str, **values: Any) -> str:
    """Return the page that a template makes of `values`, every one of them escaped."""
    page = _environment().get_template(template)
    return page.render(tokens=Markup(css_tokens()), **values)


def embedded_json(value: Any) -> Markup:
    """Return a value as JSON for a ``<script type="application/json">``, which it cannot end."""
    return Markup(json.dumps(value, allow_nan=False).replace("<", r"\u003c"))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("optrial", "report/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = unbroken
    return environment
