"""Photograph the report that docs/tutorial.md makes: python docs/figures/make_report.py

Trains the tutorial's second study in a temporary folder and writes report.png beside this file.
Needs Chromium or Chrome.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

import optrial

HERE = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = (1100, 1320)
COLOURS = 64


def main() -> None:
    """Train, open the report in a headless browser, and save a screenshot."""
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    page = (HERE.parent / "tutorial.md").read_text(encoding="utf-8")
    (study,) = re.findall(r"^```yaml\n(# fair\.yaml\n.*?)^```", page, re.DOTALL | re.MULTILINE)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "fair.yaml")
        file.write_text(study, encoding="utf-8")
        with optrial.Study.from_file(file).run(Path(folder, "fair")) as results:
            report = results.report(Path(folder, "report.html"))
        subprocess.run(
            [
                *(browser, "--headless", "--no-sandbox", "--hide-scrollbars"),
                f"--window-size={SIZE[0]},{SIZE[1]}",
                f"--screenshot={folder}/report.png",
                report.as_uri(),
            ],
            check=True,
            capture_output=True,
        )
        with Image.open(Path(folder, "report.png")) as image:
            image.quantize(COLOURS).save(HERE / "report.png", optimize=True)


if __name__ == "__main__":
    main()
