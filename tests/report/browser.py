"""What tests do with a page in a browser."""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Keys(StrEnum):
    """Keys as WebDriver sends them."""

    ENTER = "\ue007"
    ARROW_RIGHT = "\ue014"
    ARROW_DOWN = "\ue015"


def show(chrome: Any, width: int, scheme: str, height: int = 900) -> None:
    """Set the size of the window and the theme of the reader."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", features)


def visit(page: Any, address: str) -> None:
    """Open a page; return after its first frame, in which the charts are drawn."""
    page.get(address)
    script = "requestAnimationFrame(() => requestAnimationFrame(arguments[arguments.length - 1]))"
    page.execute_async_script(script)


def find(page: Any, selector: str) -> list[Any]:
    return list(page.find_elements("css selector", selector))
