"""Files with explanations and landscapes: pages of all rules, pictures, animated pages."""

from __future__ import annotations

from pathlib import Path

from optrial.errors import OptrialError, Problem, StudyError
from optrial.explain.animation import write_animation
from optrial.explain.comparison import explain
from optrial.explain.figure import landscape_figure
from optrial.explain.landscape import Landscape
from optrial.explain.page import modifier_markdown, picture_of, rule_markdown
from optrial.explain.picture import landscape_page
from optrial.files import make_folder, write_whole
from optrial.rules import MODIFIERS, RULES
from optrial.style import FIGURE_FORMATS, save_figure, unknown_suffix

__all__ = ["check_format", "write_landscape", "write_rule_docs"]


def write_rule_docs(folder: Path) -> None:
    """Write NAME.md and NAME.png for every rule into `folder`, NAME.md for modifiers, an index.md.

    Raises:
        OptrialError: a file cannot be written.
    """
    try:
        make_folder(folder)
        for rule in RULES.values():
            picture = picture_of(rule)
            save_figure(landscape_figure(picture), folder / f"{rule.name}.png")
            text = rule_markdown(explain(rule), picture, f"{rule.name}.png")
            write_whole(folder / f"{rule.name}.md", text)
        for modifier in MODIFIERS.values():
            write_whole(folder / f"{modifier.name}.md", modifier_markdown(modifier))
        entries = "".join(f"- [{r.title}]({r.name}.md) (`{r.name}`)\n" for r in RULES.values())
        changes = "".join(f"- [{m.title}]({m.name}.md) (`{m.name}`)\n" for m in MODIFIERS.values())
        text = f"# Update rules\n\n{entries}\n## Modifiers\n\n{changes}"
        write_whole(folder / "index.md", text)
    except OSError as error:
        raise OptrialError(f"{error.filename} cannot be written: {error.strerror}.") from error


def write_landscape(landscape: Landscape, file: Path) -> None:
    """Write a landscape as an animated page or picture, or as a figure, by the suffix of the file.

    Raises:
        StudyError: the suffix is not .html, .gif, .png, .pdf or .svg.
        OptrialError: the file cannot be written.
    """
    suffix = check_format(file)
    try:
        if suffix == "html":
            write_whole(file, landscape_page(landscape))
        elif suffix == "gif":
            write_animation(landscape, file)
        else:
            save_figure(landscape_figure(landscape), file)
    except OSError as error:
        raise OptrialError(f"{file} cannot be written: {error.strerror}.") from error


def check_format(file: Path) -> str:
    """Return the suffix of a file, without its dot.

    Raises:
        StudyError: `write_landscape` cannot write this format.
    """
    suffix = file.suffix.removeprefix(".").lower()
    if suffix not in (formats := ("html", "gif", *FIGURE_FORMATS)):
        raise StudyError([Problem("--out", unknown_suffix(suffix, formats))], str(file))
    return suffix
