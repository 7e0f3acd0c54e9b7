"""The results of a study: runs, curves and summaries as pandas frames, audit and report."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optrial.analysis.view import StudyView
from optrial.errors import StoreError, counted, suggest
from optrial.files import write_whole
from optrial.markup import html_block
from optrial.records import Store, Verification, place_of, shown_location, verify
from optrial.results.answers import Answers
from optrial.results.plots import Plots, writing
from optrial.results.reading import compared_on
from optrial.results.tables import Tables
from optrial.spec import Direction

if TYPE_CHECKING:
    from optrial.analysis.audit import AuditReport
    from optrial.analysis.audit.finding import Remedy
    from optrial.timing import StudyTiming

__all__ = ["Results", "load"]


class Results(Answers, Tables, Plots):
    """The stored results of a study.

    Every call reads the store again, so that results of a study that is still training stay
    current. Results hold a connection to the store; close them, or use them as a context manager:

        with optrial.load("studies/digits") as results:
            print(results.summary())

    Args:
        store: the study's records.
        folder: folder of the study, with its weights and measured times.
        parts: results of each study, if several are joined.
    """

    def __repr__(self) -> str:
        try:
            view = self.view()
            statuses = Counter(str(record.status) for record in view.records)
        except StoreError as error:
            return f"<Results: {error}>"
        counts = ", ".join(f"{count} {status}" for status, count in statuses.items())
        runs = counted(len(view.records), "run")
        return f"<Results {view.name!r}: {runs} ({counts}) in {self.store.shown}>"

    def _repr_html_(self) -> str:
        from optrial.report.notebook import results_html  # for notebooks alone  # noqa: PLC0415

        try:
            return results_html(self.view(), self.store.shown)
        except StoreError as error:
            return html_block(str(error))

    def audit(self) -> AuditReport:
        """Check whether the runs support the comparison; see `optrial.analysis.audit`."""
        from optrial.analysis.audit import audit  # loads every rule  # noqa: PLC0415

        report, study = audit(self.view()), self.study
        place = str(self.folder) if study.get("name") == "study" else ""
        findings = (
            replace(f, remedy=_with_keywords(f.remedy, study, place)) for f in report.findings
        )
        return replace(report, findings=tuple(findings))

    def report(
        self,
        path: str | Path,
        metric: str | None = None,
        better: Direction | None = None,
        view: StudyView | None = None,
        findings: AuditReport | None = None,
    ) -> Path:
        """Write one self-contained HTML page, replacing an earlier one, and return its path.

        The page includes the times that `optrial timing` wrote into the study's folder, or into
        the first one of joined studies that has any.

        Args:
            path: path of the file.
            metric: see `view`.
            better: see `view`.
            view: the view of these results, if it is at hand; otherwise the store is read.
            findings: the audit of that view, if it is at hand.

        Raises:
            StoreError: the file cannot be written, or ``timing.json`` cannot be read.
        """
        from optrial.analysis.audit import audit  # loads every rule  # noqa: PLC0415
        from optrial.report.study_page import study_page  # loads Jinja  # noqa: PLC0415

        timing, view = self._timing(), view or self.view()
        page = study_page(compared_on(view, metric, better), findings or audit(view), timing)
        with writing(Path(path)):
            write_whole(Path(path), page)
        return Path(path)

    def export(
        self,
        folder: str | Path,
        metric: str | None = None,
        better: Direction | None = None,
        *,
        overwrite: bool = False,
    ) -> list[Path]:
        """Write the study as for a paper: text, tables, figures and references; return the paths.

        ``study.md`` and ``study.tex`` hold all of it. ``methods.tex``, ``results.tex`` and the
        folder ``tables`` are there to be included by a paper, as are the figures, as PDF, SVG and
        PNG, and ``references.bib``, the papers of the rules.

        Args:
            folder: folder to write, created if it is missing.
            metric: see `view`.
            better: see `view`.
            overwrite: whether the files of an earlier export are replaced.

        Raises:
            StoreError: the study has no result yet, the direction of the metric is unknown, the
                folder holds such files already, or a file cannot be written.
        """
        from optrial.analysis.audit import audit  # loads every rule  # noqa: PLC0415
        from optrial.report.paper import Paper  # loads every figure  # noqa: PLC0415

        view, place = self.ordered_view(metric, better), Path(folder)
        paper = Paper(view, audit(view))
        existing = [name for name in Paper.FILES if (place / name).exists()]
        if existing and not overwrite:
            raise StoreError(
                f"'{place}' has a file {existing[0]}, perhaps of an earlier export; choose another "
                "folder, or replace its files: --overwrite (overwrite=True in Python)."
            )
        with writing(place):
            return paper.write(place)

    def _timing(self) -> StudyTiming | None:
        """Return the times that were measured of each optimizer alone, if any were."""
        for part in self.parts:
            if timing := part._timing():
                where = f"Measured on the study {timing.study}, one of the joined studies."
                return replace(timing, notes=(*timing.notes, where))
        timed = self.folder / "timing.json"
        if self.parts or not timed.exists():
            return None
        from optrial.timing import read_timing  # loads pydantic  # noqa: PLC0415

        return read_timing(timed)

    def verify(self, *, repair: bool = False) -> list[Verification]:
        """Check everything stored, and the weights, against checksums; one result per study.

        See `optrial.records.verify`, which documents `repair`.

        Raises:
            StoreError: nothing can be read, or the store cannot be written.
        """
        if self.parts:
            return [result for part in self.parts for result in part.verify(repair=repair)]
        assert isinstance(self.store, Store)  # only joined results have another reader
        self.store.close()  # a repair replaces the file; the next call opens it again
        return [verify(self.store.location, repair=repair)]


def _with_keywords(remedy: Remedy, study: Mapping[str, Any], place: str) -> Remedy:
    """Return a remedy with its settings as keyword arguments: whole values of top-level keys.

    Args:
        remedy: the remedy.
        study: keys of the study.
        place: folder of a study without a name, which a changed study would not find.
    """
    if not remedy.settings or remedy.studies:
        return remedy
    from optrial.analysis.audit.report import without_none  # noqa: PLC0415
    from optrial.config import override  # loads pydantic  # noqa: PLC0415

    changed = override(study, remedy.assignments)
    keys = dict.fromkeys(re.split(r"[.\[]", path)[0] for path in remedy.settings)
    keywords = {key: without_none(changed[key]) for key in keys}
    for entry in keywords.get("optimizers", ()):
        for default in ("closure", "create_graph"):  # stored of every entry
            if entry.get(default) is False:
                del entry[default]
    return replace(remedy, keywords=keywords, folder=remedy.folder or place)


def load(location: str | Path | Sequence[str | Path]) -> Results:
    """Open the results of a study, or those of several studies as one study of several problems.

    Args:
        location: the study's folder, its name in the folder ``studies``, or a ``postgresql://``
            URL; or a list of locations, of studies of different problems; see
            `optrial.joined.JoinedStore`.

    Raises:
        StoreError: no study is stored there, none of its runs is planned yet, or the studies
            cannot be joined.
    """
    if isinstance(location, str | Path):
        place = place_of(location)
        _check_name(place)
        with ExitStack() as on_failure:
            store = on_failure.enter_context(Store.open(place))
            if not store.plan_hash():
                raise StoreError(
                    f"{store.shown} has no runs yet: its study is still being planned, or was "
                    "interrupted before it was planned. Train it: optrial run STUDY --out "
                    f"{shown_location(place)}"
                )
            on_failure.pop_all()
        return Results(store, Path(shown_location(place)))
    places = [place_of(place) for place in location]
    if not places or len(set(places)) < len(places):
        raise StoreError("name one folder, or several different ones.")
    with ExitStack() as on_failure:
        parts = [on_failure.enter_context(load(place)) for place in places]
        if len(parts) == 1:
            results = parts[0]
        else:
            stores = {place: part.store for place, part in zip(places, parts, strict=True)}
            from optrial.joined import JoinedStore  # loads pydantic  # noqa: PLC0415

            results = Results(JoinedStore(stores), parts=parts)
        on_failure.pop_all()
    return results


def _check_name(place: str) -> None:
    """Refuse a name that no study in ``studies`` has, with the likely one.

    Raises:
        StoreError: it has none.
    """
    names = sorted(file.parent.name for file in Path("studies").glob("*/study.db"))
    if names and Path(place).name == place and not Path(place).exists():
        raise StoreError(f"no study is stored in '{place}'. {suggest(place, names)}")
