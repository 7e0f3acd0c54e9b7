"""Data flows one way: who may import whom, no cycles, and what must load without torch."""

from __future__ import annotations

import ast
import functools
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import optrial

PACKAGE = Path(optrial.__file__).parent

ALLOWED = {
    "__init__": {
        *("callbacks", "certifying", "comparing", "errors", "report", "results", "study"),
    },  # lazily
    "passwords": set(),
    "errors": {"passwords"},
    "array_headers": set(),
    "child": set(),
    "descriptors": set(),
    "files": set(),
    "garbage": set(),
    "spec": {"errors"},
    "code": {"errors"},
    "memory": set(),
    "interruption": set(),
    "attempts": {"memory"},
    "pace": set(),
    "watching": {"code"},
    "user_output": {"code", "errors"},
    "supervision": {"callbacks", "code", "models", "user_output", "watching"},
    "keyed": set(),
    "lines": set(),
    "keys": set(),
    "callbacks": {"records", "spec"},  # only for type checkers
    "style": {"errors", "files"},
    "markup": {"errors"},
    "target_kinds": set(),
    "input_parts": set(),
    "functions": {"rules", "errors"},
    "config": {"spec", "errors"},
    "data": {
        *("array_headers", "code", "files", "input_parts", "keyed", "memory", "target_kinds"),
        "errors",
    },
    "models": {
        *("code", "descriptors", "functions", "input_parts", "interruption", "keyed", "memory"),
        *("spec", "target_kinds", "errors"),
    },
    "rules": {"errors", "keyed"},
    "plan": {
        *("code", "functions", "spec", "target_kinds", "config", "data"),
        *("garbage", "markup", "memory", "models", "rules", "errors"),
    },
    "records": {"array_headers", "files", "garbage", "passwords", "spec", "errors"},
    "changes": {"plan", "records", "spec", "errors"},
    "joined": {"config", "records", "spec", "errors"},
    "engine": {
        "__init__",
        "garbage",
        "input_parts",
        "spec",
        "plan",
        "data",
        "models",
        "rules",
        "records",
        "replay",
        "code",
        "keyed",
        "memory",
        "files",
        "errors",
    },
    "trackers": {"callbacks", "config", "files", "passwords", "records", "spec", "errors"},
    "executors": {
        *("child", "code", "config", "data", "descriptors", "engine", "errors"),
        *("interruption", "memory", "models", "pace", "plan", "records", "spec", "user_output"),
        "watching",
    },
    "sweep": {
        *("attempts", "callbacks", "code", "config", "data", "engine", "errors", "executors"),
        *("garbage", "interruption", "memory", "models", "plan", "records", "spec"),
        *("supervision", "user_output"),
    },
    "analysis": {"files", "lines", "markup", "rules", "spec", "records", "errors"},
    "timing": {"analysis", "files", "errors"},
    "timing.steps": {"engine", "spec", "errors"},
    "timing.memory": {"data", "engine", "models", "spec", "rules"},
    "timing.measure": {
        *("timing", "timing.steps", "timing.memory"),
        *("analysis", "data", "engine", "plan", "spec", "errors"),
    },
    "report": {
        *("analysis", "callbacks", "files", "lines", "markup", "rules", "spec", "style"),
        *("records", "timing", "errors"),
    },
    "timing.markdown": {"markup", "timing"},
    "timing.figure": {"style", "timing"},
    "lr_range": {"data", "engine", "plan", "report", "rules", "spec", "style", "errors"},
    "recipes": {"config", "errors"},
    "results": {
        *(
            "analysis",
            "code",
            "config",
            "files",
            "joined",
            "markup",
            "spec",
            "records",
            "report",
            "saved",
            "style",
        ),
        "timing",
        "errors",
    },
    "current_page": {"__init__", "analysis", "records", "results", "errors"},
    "finished": {
        *("__init__", "config", "data", "recipes", "records", "results", "spec", "errors"),
    },
    "user_objects": {"code", "config", "data", "rules", "errors"},
    "comparing": {
        *("callbacks", "config", "keys", "results", "rules", "study", "user_objects", "errors"),
    },
    "study": {
        *(
            "analysis",
            "callbacks",
            "changes",
            "code",
            "config",
            "data",
            "keys",
            "markup",
            "models",
            "plan",
            "sweep",
        ),
        *("records", "report", "results", "recipes", "timing", "timing.measure", "trackers"),
        "lr_range",
        *("user_objects", "user_output", "supervision", "spec", "interruption", "passwords"),
        "errors",
    },
    "saved": {
        *("code", "config", "data", "engine", "spec", "models", "plan", "records"),
        *("input_parts", "supervision", "errors"),
    },
    "listings": {"config", "data", "spec", "models", "recipes", "rules"},
    "replay": {"rules"},
    "certifying": {
        *("child", "code", "lines", "models", "replay", "rules", "supervision", "user_output"),
        *("watching", "errors"),
    },
    "certifying.page": {"certifying", "report"},
    "testing": {"certifying", "rules"},
    "explain": {"files", "keyed", "rules", "functions", "report", "spec", "style", "errors"},
    "cli": None,  # whatever it needs
    "__main__": {"cli"},
}
WITHOUT_TORCH = [
    *(
        "config",
        "data",
        "records",
        "rules",
        "explain.files",
        "finished",
        "analysis",
        "timing",
        "report",
        "results",
        "cli",
    ),
]


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" and parts[:-1] else parts), path


def unit_of(module: str) -> str:
    """The entry of the table for a module: its own if there is one, else that of its package."""
    return module if module in ALLOWED else module.partition(".")[0]


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Every module of optrial that is imported, by statement or by name."""
    names = defines_getattr(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "optrial":
            yield (node.module or "").removeprefix("optrial").removeprefix(".") or "__init__"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "optrial":
                    yield alias.name.removeprefix("optrial").removeprefix(".") or "__init__"
        elif isinstance(node, ast.Call) and is_import_module(node.func):
            for argument in node.args:
                if isinstance(argument, ast.Constant) and argument.value.startswith("optrial."):
                    yield argument.value.removeprefix("optrial.")
        elif isinstance(node, ast.Dict) and names:
            for value in node.values:
                if isinstance(value, ast.Constant) and str(value.value).startswith("optrial."):
                    yield value.value.removeprefix("optrial.")


def is_import_module(function: ast.expr) -> bool:
    """Whether a call is one of `import_module`, by whatever path it is named."""
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return "import_module" in name


def defines_getattr(tree: ast.AST) -> bool:
    """Whether a module loads names lazily; then its tables of module names are imports too."""
    return any(
        isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in ast.walk(tree)
    )


LAZY = {
    ("executors.start", "executors.on_ray"),
    ("results", "analysis.audit"),
    ("results", "analysis.audit.report"),
    ("results", "config"),
    ("results", "report.notebook"),
    ("results", "report.paper"),
    ("results", "timing"),
    ("results.answers", "analysis.audit.context"),
    ("results.answers", "analysis.recommendation"),
    ("results.weights", "saved"),
    ("results", "joined"),
    ("results", "report.study_page"),
}
"""Imports inside a function: of a module that loads much, which its importer works without."""


@functools.cache
def sources() -> dict[str, ast.Module]:
    """The modules of the package, parsed."""
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in modules()}


@functools.cache
def imported_by(module: str) -> frozenset[str]:
    """The modules of optrial that one of them imports."""
    return frozenset(imports_of(sources()[module]))


def test_every_unit_is_in_the_table() -> None:
    assert {unit_of(module) for module in sources()} == set(ALLOWED)


def test_units_import_only_what_the_table_allows() -> None:
    beyond = {}
    for module in sources():
        unit = unit_of(module)
        allowed = ALLOWED[unit]
        if allowed is not None:
            beyond[module] = {unit_of(target) for target in imported_by(module)} - allowed - {unit}
    assert len(beyond) > 400
    assert {module: targets for module, targets in beyond.items() if targets} == {}


def test_no_module_is_in_a_cycle() -> None:
    graph = {
        module: {target for target in imported_by(module) if target in sources()} - {module}
        for module in sources()
        if module != "__init__"
    }
    # A package's `__init__` re-exports its modules, which must not import it back.
    graphlib.TopologicalSorter(graph).prepare()


def test_optrial_is_imported_at_the_top() -> None:
    inside = {
        (module, target)
        for module, tree in sources().items()
        if unit_of(module) not in ("cli", "__init__")
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.Lambda)
        for target in imports_of(function)
    }
    assert inside == LAZY


def loaded_by(code: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after `code`."""
    script = f"import sys\n{code}\nprint(*{{m.partition('.')[0] for m in sys.modules}})"
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(answer.stdout.split())


def test_units_load_without_torch() -> None:
    imports = (f"import optrial.{unit}; print(*sys.modules)" for unit in WITHOUT_TORCH)
    script = "\n".join(["import sys", *imports])
    command = [sys.executable, "-c", script]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = zip(WITHOUT_TORCH, answer.stdout.splitlines(), strict=True)
    assert [unit for unit, names in loaded if "torch" in names.split()] == []


def test_import_and_help_are_light() -> None:
    heavy = {"torch", "pandas", "numpy", "sklearn", "sqlalchemy", "pydantic"}
    assert not heavy & loaded_by("import optrial")
    run_help = (
        "import contextlib, io\n"
        "from optrial import cli\n"
        "sys.argv = ['optrial', '--help']\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    cli.main()"
    )
    assert not heavy & loaded_by(run_help)


def test_results_load_without_what_single_commands_need() -> None:
    heavy = {"torch", "pandas", "sklearn", "jinja2", "ruamel", "matplotlib"}
    assert not heavy & loaded_by("import optrial.results, optrial.report.print_tables")
    code = "print(*(m for m in ('scipy.stats', 'scipy.special') if m in sys.modules))"
    assert not {"scipy.stats", "scipy.special"} & loaded_by(f"import optrial.results\n{code}")


def test_studies_load_without_what_some_data_and_engines_need() -> None:
    code = "import optrial.study\nprint(*(m for m in sys.modules if m == 'scipy.special'))"
    assert not {"pooch", "requests", "scipy.special"} & loaded_by(code)
