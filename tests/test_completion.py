"""Shell completion: it installs for bash, zsh and fish, and answers their protocols."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FILES = {
    "bash": ".bash_completions/optrial.sh",
    "zsh": ".zfunc/_optrial",
    "fish": ".config/fish/completions/optrial.fish",
}


def optrial(*arguments: str, **environment: str) -> str:
    """Return what the program prints."""
    done = subprocess.run(
        [sys.executable, "-m", "optrial", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize(("shell", "file"), FILES.items())
def test_it_installs(shell: str, file: str, tmp_path: Path) -> None:
    # A test has no shell above it that could be found.
    chosen = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "HOME": str(tmp_path)}
    printed = optrial("--install-completion", shell, **chosen)
    assert f"{shell} completion installed in {tmp_path / file}" in printed
    script = (tmp_path / file).read_text(encoding="utf-8")
    assert f"_OPTRIAL_COMPLETE=complete_{shell}" in script
    assert "python" not in script


@pytest.mark.one_in(5)
@pytest.mark.parametrize("shell", FILES)
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("optrial explain adama", {"adamax"}),
        ("optrial sh", {"show"}),
        ("optrial run --eng", {"--engine"}),
        ("optrial run --device c", {"cpu", "cuda"}),
    ],
)
def test_it_answers(shell: str, line: str, expected: set[str]) -> None:
    printed = optrial(
        **{"_OPTRIAL_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
        **{"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_TYPER_COMPLETE_ARGS": line},
    )
    pattern = r'(?:\(\(|\n)"([^":]+)"' if shell == "zsh" else r"(?m)^([^\s:]+)"
    assert set(re.findall(pattern, printed)) == expected


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_with_what_was_installed(tmp_path: Path) -> None:
    chosen = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "HOME": str(tmp_path)}
    optrial("--install-completion", "bash", **chosen)
    program = tmp_path / "optrial"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m optrial "$@"\n')
    program.chmod(0o755)
    lines = (
        f"source '{tmp_path / FILES['bash']}'",
        "COMP_WORDS=(optrial recipe quick) COMP_CWORD=2",
        f"_optrial_completion '{program}'",
        'echo "${COMPREPLY[@]}"',
    )
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["quickstart"]
