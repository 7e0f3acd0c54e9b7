"""The code that a study may run, decided and shown before any of it is imported."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from optrial.code.errors import RefusedError
from optrial.code.names import is_passed, load_code
from optrial.code.origin import Origin, home_module, origin_of
from optrial.errors import Problem, StudyError

__all__ = ["Trust", "as_trust"]

_VARIABLE = "OPTRIAL_TRUST"
_CLASSES = {("torch.optim.optimizer", "Optimizer"), ("torch.nn.modules.module", "Module")}
_FUNCTIONS = ("torch.nn.functional", "torch._C._nn")


def _log(text: str) -> None:
    logging.getLogger("optrial").warning(text)


@dataclass
class Trust:
    """The places and packages whose code a study may run.

    Code in `folders` runs without asking, and so do the optimizer classes, the modules and the
    functions of `torch.nn.functional` of installed packages. Anything else must be trusted by name,
    or by the answer to a question. The standard library is never called; see `load_code`.

    Attributes:
        places: trusted folders, files and modules, beside those of ``OPTRIAL_TRUST``.
        folders: folders of the study's own code.
        anywhere: whether all folders are; for names that a Python program gives.
        ask: asks the user to trust something; without it, the answer is no.
        tell: called with a line that names the code, before it is imported.
    """

    places: Sequence[str] = ()
    folders: Sequence[Path] = ()
    anywhere: bool = False
    ask: Callable[[str], bool] | None = None
    tell: Callable[[str], None] = _log
    _answers: dict[str, bool] = field(default_factory=dict, init=False)
    _told: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        from_environment = filter(None, os.environ.get(_VARIABLE, "").split(os.pathsep))
        self.places = [*map(str, self.places), *from_environment]
        self.folders = [Path.cwd(), *self.folders]

    def check_places(self) -> None:
        """Raise an error for a place that is neither a folder, a file nor a module.

        Raises:
            StudyError: there is such a place.
        """
        unknown = [
            Problem("--trust", f"'{place}' is neither a folder, a file nor a module; correct it.")
            for place in self.places
            if not _path(place).exists() and origin_of(place).kind == "missing"
        ]
        if unknown:
            raise StudyError(unknown, "the command")

    def refusals(self, names: Iterable[str]) -> dict[str, str]:
        """Import the code that may run, and return why other code must not.

        Args:
            names: names of the form ``module:attribute``.

        Returns:
            name -> the problem and the way out, in one sentence.
        """
        origins = {name: origin_of(name.partition(":")[0]) for name in names if not is_passed(name)}
        refusals = {name: reason for name, o in origins.items() if (reason := self._place(name, o))}
        allowed = {name: origin for name, origin in origins.items() if name not in refusals}
        worth = [_shown(*item) for item in allowed.items() if _is_worth_telling(*item)]
        if news := [shown for shown in worth if shown not in self._told]:
            self._told.update(news)
            self.tell(f"runs code of: {', '.join(news)}")
        for name, origin in allowed.items():
            if reason := self._object(name, origin):
                refusals[name] = reason
        return refusals

    def _place(self, name: str, origin: Origin) -> str | None:
        """Return why a module must not be imported, or None."""
        if origin.kind != "file" or origin.file is None or self.anywhere or origin.loaded:
            return None
        file = origin.file.resolve()
        if any(file.is_relative_to(folder.resolve()) for folder in self.folders):
            return None
        module = name.partition(":")[0]
        if self._trusts(module, file) or self._answer(f"run code of {file} for '{name}'?"):
            return None
        return (
            f"'{name}' is code of {file}, outside the working folder; if you trust it: "
            f"{_way_out(module)}."
        )

    def _object(self, name: str, origin: Origin) -> str | None:
        """Return why what a name leads to must not be called, or None."""
        try:
            thing = load_code(name)
        except RefusedError as error:
            return f"{error}."
        except ImportError:
            return None  # checks of the study report it
        home = home_module(thing) or (name.partition(":")[0] if origin.kind == "installed" else "")
        source = origin_of(home) if home else origin
        if not callable(thing) or source.kind != "installed" or _is_harmless(thing, home):
            return None
        package = home.partition(".")[0]
        file = source.file.resolve() if source.file else Path(package)
        module = name.partition(":")[0]
        if self._trusts(home, file) or self._trusts(module, file):
            return None
        if self._answer(f"call '{name}', code of the installed package {package}?"):
            return None
        return (
            f"'{name}' is code of the installed package {package}; only optimizer classes and "
            "modules run without asking; call it in your own function, or if you trust it: "
            f"{_way_out(package)}."
        )

    def _trusts(self, module: str, file: Path) -> bool:
        parts = module.split(".")
        names = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
        folders = (_path(place).resolve() for place in self.places)
        return bool(names & set(self.places)) or any(map(file.is_relative_to, folders))

    def _answer(self, question: str) -> bool:
        if question not in self._answers:
            self._answers[question] = self.ask is not None and self.ask(question)
        return self._answers[question]


def as_trust(places: Iterable[str | Path] | Trust) -> Trust:
    """Return what is trusted, from folders, files and modules.

    Raises:
        StudyError: there is no such place.
    """
    if isinstance(places, Trust):
        return places
    trust = Trust(list(map(str, places)))
    trust.check_places()
    return trust


def _path(place: str) -> Path:
    return Path(os.path.expanduser(place))  # noqa: PTH111  that of Path raises without a home


def _way_out(module: str) -> str:
    top = module.partition(".")[0]
    return f"--trust {top} (or set {_VARIABLE}={top})"


def _is_harmless(thing: object, home: str) -> bool:
    """Return whether an object of a package is what a study may call unasked."""
    if isinstance(thing, type):
        return any((base.__module__, base.__qualname__) in _CLASSES for base in thing.__mro__)
    return home in _FUNCTIONS or (home_module(thing) is None and _is_harmless(type(thing), home))


def _is_worth_telling(name: str, origin: Origin) -> bool:
    """Return whether code is more than that of PyTorch, which runs in any case."""
    return origin.kind in ("file", "installed") and not name.startswith("torch.")


def _shown(name: str, origin: Origin) -> str:
    """Return a file and its hash, or a package."""
    attribute = name.partition(":")[2]
    if origin.kind == "installed" or origin.file is None or not origin.file.is_file():
        return name
    file = origin.file.resolve()
    here = Path.cwd()
    path = file.relative_to(here) if file.is_relative_to(here) else file
    return f"{path}:{attribute} (sha256 {sha256(file.read_bytes()).hexdigest()[:12]})"
