"""Tables of a study for a paper: results, pairs, settings, optimizers, targets, ranks and setup."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from optrial.analysis.contenders import Contender, OptimizerRuns, hyperparameters
from optrial.analysis.statistics import Comparison, Comparisons, Statistic, p_text, without_value
from optrial.analysis.statistics.wording import difference_numbers
from optrial.analysis.summary import SettingSummary
from optrial.analysis.target_results import TargetResult, target_results
from optrial.analysis.view import ProblemView, StudyView
from optrial.errors import capital, counted
from optrial.markup import Citation, Passage
from optrial.report.cuts import shown_settings
from optrial.report.paper.bibliography import keys_of
from optrial.report.paper.setup import (
    named_values,
    number,
    optimizer_options,
    rule_title,
    setup_of,
)
from optrial.report.print_tables import MOST_ROWS, PrintTable, Row, settings_table
from optrial.report.tables import runs_text, spread_cell, target_cells
from optrial.spec import RunSpec, Status, setting_text

__all__ = [
    "optimizers_table",
    "pairs_table",
    "ranks_table",
    "result_table",
    "study_tables",
]

NOTHING = "—"


def study_tables(view: StudyView) -> Iterator[PrintTable]:
    """Yield the tables of a study that have rows, the results first."""
    several = len(view.problems) > 1
    for problem in view.problems:
        where = f"-{problem.name}" if several else ""
        yield from filter(None, (result_table(problem, where), pairs_table(problem, where)))
        for count, result in enumerate(target_results(view, problem), 1):
            yield _target_table(problem, result, f"target-{count}{where}", several)
    if ranks := ranks_table(view):
        yield ranks
    for problem in view.problems:
        where = f"-{problem.name}" if several else ""
        yield optimizers_table(problem, where)
        yield _settings_table(problem, where)
        yield _setup_table(view, problem, where)


def result_table(problem: ProblemView, where: str = "") -> PrintTable:
    """Return what is compared, best first: values, differences to the leader and p-values.

    The leader and the optimizers that are undecided against it are bold, unless all are.

    Args:
        problem: one problem of a study.
        where: end of the table's name.
    """
    comparisons, directions = problem.comparisons, problem.directions
    summaries = {summary.setting_id: summary for summary in problem.summaries}
    contenders = {contender.name: contender for contender in problem.contenders}
    groups = comparisons.groups if comparisons else ()
    leading = groups[0] if groups else ()
    leader = leading[0] if leading else ""
    distinct = bool(leading) and len(leading) < len(contenders)
    rows = []
    for name in comparisons.order if comparisons else contenders:
        contender = contenders[name]
        summary = summaries[contender.setting_id]
        pair = problem.pair(name, leader) if leader and name != leader else None
        rows.append(
            Row(
                [
                    contender.optimizer,
                    setting_text(contender.setting),
                    str(contender.count(Status.DONE)),
                    spread_cell(summary, problem.metric, directions),
                    *(_difference_cells(pair) if pair else (NOTHING, NOTHING)),
                ],
                bold=distinct and name in leading,
                notes=list(_result_notes(contender, summary, pair)),
            )
        )
    heading = directions.heading(problem.metric)
    columns = ["optimizer", "setting", "finished runs", heading]
    columns += [f"difference to {leader}" if leader else "difference", _p_heading(comparisons)]
    about = [_how_chosen(problem), *_result_caption(problem, leader, distinct)]
    title = f"{capital(directions.title(problem.metric))} on {problem.name}"
    return PrintTable(f"results{where}", title, columns, rows, 2, " ".join(about))


def _p_heading(comparisons: Comparisons | None) -> str:
    """Return the heading of the column of p-values."""
    adjusted = (
        comparisons is not None and comparisons.pairs and comparisons.pairs[0].comparisons > 1
    )
    return "adjusted p" if adjusted else "p"


def _difference_cells(pair: Comparison) -> tuple[str, str]:
    """Return the difference with its interval, and the adjusted p-value."""
    if not pair.pairs or pair.all_diverged:
        return NOTHING, NOTHING
    p_value = p_text(pair.adjusted_p_value).removeprefix("p ").removeprefix("= ")
    if pair.statistic == Statistic.SIGN:
        return NOTHING, p_value
    shown, low, high = (text.replace("-", "−") for text in difference_numbers(pair))
    return f"{shown} [{low}, {high}]" if low else shown, p_value


def _result_notes(
    contender: Contender, summary: SettingSummary, pair: Comparison | None
) -> Iterator[str]:
    """Yield footnotes on runs that failed, and on what the comparison leaves out."""
    if any(status != Status.DONE for status in summary.statuses):
        yield runs_text(summary)
    if pair is None:
        return
    if pair.all_diverged:
        yield "not compared"
    elif pair.statistic == Statistic.SIGN:
        yield "runs diverged: compared by the signs of the differences, without an interval"
    if not pair.pairs:
        yield f"no {pair.unit} in common with the leader"
    elif pair.unpaired:
        yield f"{counted(pair.pairs, pair.unit)} in common with the leader"
    yield from (note for note in without_value(pair) if f" of {contender.name} " in note)


def _runs_of(problem: ProblemView) -> str:
    return "seeds" if problem.pairing == "seed" else "the runs of all folds"


def _how_chosen(problem: ProblemView) -> str:
    if problem.untrained:
        return "Every setting with its initial weights."
    if not problem.chooses:
        return "Every setting is compared, as nothing selects among them."
    if any(len(optimizer.tried) > 1 for optimizer in problem.optimizers):
        return "Each optimizer at its chosen setting, best first."
    return "Each optimizer at its only setting, best first."


def _result_caption(problem: ProblemView, leader: str, distinct: bool) -> Iterator[str]:
    """Yield the sentences on numbers and type."""
    comparisons, directions = problem.comparisons, problem.directions
    yield f"Mean ± standard deviation over {_runs_of(problem)}."
    if comparisons is None or not leader:
        yield problem.not_compared or "Nothing is compared."
        return
    family = comparisons.pairs[0].comparisons
    points = " in points," * directions.percent(problem.metric)
    adjusted = f", both adjusted for {counted(family, 'comparison')}" if family > 1 else ""
    level = f"{100 * comparisons.pairs[0].difference.level:g} %"
    yield f"Differences to {leader},{points} with {level} intervals, and p-values{adjusted}."
    yield f"{capital(str(directions.better(problem.metric)))} is better."
    if distinct:
        undecided = " and the optimizers that are undecided against it"
        yield f"Bold: {leader}{undecided * (len(comparisons.groups[0]) > 1)}."
    else:
        yield "No row is bold, as no difference to the leader is shown."


def pairs_table(problem: ProblemView, where: str = "") -> PrintTable | None:
    """Return all pairs of three or more optimizers with their verdicts; of many, the leader's."""
    pairs = problem.pairs
    if len(pairs) < 2:
        return None
    shown = pairs if len(pairs) <= MOST_ROWS else [p for p in pairs if p.first == pairs[0].first]
    rows = [
        Row(
            [
                pair.first,
                pair.second,
                str(pair.verdict).partition(",")[0],
                *_difference_cells(pair),
            ],
            notes=[f"{name}: every run diverged" for name in pair.all_diverged],
        )
        for pair in shown
    ]
    family = pairs[0].comparisons
    points = " in points" * problem.directions.percent(problem.metric)
    caption = (
        f"First minus second{points}, with intervals and p-values adjusted for "
        f"{counted(family, 'comparison')}; the verdict is on the first."
    )
    if len(shown) < len(pairs):
        caption += f" The {len(shown)} pairs of {pairs[0].first} of {len(pairs)}."
    title = f"Paired differences of {problem.directions.title(problem.metric)} on {problem.name}"
    columns = ["first", "second", "verdict", "difference", _p_heading(problem.comparisons)]
    return PrintTable(f"pairs{where}", title, columns, rows, 3, caption)


def ranks_table(view: StudyView) -> PrintTable | None:
    """Return average ranks over problems; None for a study that has none."""
    ranks = view.ranks
    if ranks is None:
        return None
    best = set(ranks.groups[0]) if ranks.groups else set()
    distinct = len(best) < len(ranks.order)
    averages = zip(ranks.order, ranks.average_ranks, strict=True)
    rows = [Row([name, f"{rank:.2f}"], bold=distinct and name in best) for name, rank in averages]
    p_value = p_text(ranks.friedman.permutation_p_value)
    caption = (
        f"Rank 1 is best. Friedman's test of equal ranks: {p_value}; ranks that differ by less "
        f"than {ranks.critical_difference:.2f} are undecided."
    )
    title = f"Average ranks over {ranks.problems} problems"
    return PrintTable("ranks", title, ["optimizer", "average rank"], rows, 1, caption)


def optimizers_table(problem: ProblemView, where: str = "") -> PrintTable:
    """Return the rule, the tried values, the chosen setting and the other options of each entry."""
    rows = []
    for optimizer in problem.optimizers:
        spec = optimizer.spec
        chosen = optimizer.chosen
        rows.append(
            Row(
                [
                    optimizer.name,
                    _rule_cell(spec),
                    "; ".join(_tried(optimizer)) or "one setting",
                    setting_text(chosen.setting) if chosen else "",
                    ", ".join(_fixed(optimizer)),
                ]
            )
        )
    columns = ["optimizer", "rule", "tried", "chosen", "other hyperparameters"]
    title = f"Optimizers and their settings on {problem.name}"
    widths = (0, 0.2, 0.22, 0, 0.2)
    return PrintTable(f"optimizers{where}", title, columns, rows, len(columns), widths=widths)


def _rule_cell(spec: RunSpec) -> str | Passage:
    keys = keys_of(spec)
    return (rule_title(spec), Citation(keys)) if keys else rule_title(spec)


def _tried(optimizer: OptimizerRuns) -> Iterator[str]:
    """Yield each hyperparameter with the values that were tried."""
    for name, values in optimizer.tuned.items():
        if len(values) <= 6:
            yield f"{name} {', '.join(map(number, values))}"
        else:
            yield f"{name} {len(values)} values, {number(values[0])} to {number(values[-1])}"


def _fixed(optimizer: OptimizerRuns) -> Iterator[str]:
    """Yield the hyperparameters that did not vary, and the options of the entry."""
    values = hyperparameters(optimizer.reported[0])
    options = {"weight_decay", "clip_norm", "clip_value"}
    options |= {name for group in optimizer.spec.groups for name in group.shown}
    fixed = {k: v for k, v in values.items() if k not in optimizer.tuned and k not in options}
    yield from named_values(fixed)
    yield from optimizer_options(optimizer.spec, optimizer.tuned)


def _settings_table(problem: ProblemView, where: str) -> PrintTable:
    shown = shown_settings(problem)
    summaries = [summary for summary in problem.summaries if summary.setting_id in shown]
    table = settings_table(f"Settings on {problem.name}", summaries, problem.directions)
    caption = f"Final values, mean ± standard deviation over {_runs_of(problem)}."
    if any(summary.best for summary in summaries):
        by = problem.directions.title(problem.select) if problem.select else ""
        caption += f" A star marks the chosen setting of each optimizer{f', by {by}' * bool(by)}."
    if len(summaries) < len(problem.summaries):
        left = f"{len(summaries):,} of {len(problem.summaries):,}"
        caption += f" The best settings of each optimizer, {left}."
    distinct = not all(summary.best for summary in summaries)
    rows = [
        Row(row.cells, bold=distinct and summary.best)
        for row, summary in zip(table.rows, summaries, strict=True)
    ]
    return PrintTable(f"settings{where}", table.title, table.columns, rows, 2, caption)


def _target_table(
    problem: ProblemView, result: TargetResult, name: str, several: bool
) -> PrintTable:
    columns = ["optimizer", "reached it", "median steps", "95 % interval"]
    title = f"Steps to {result.target}" + (f" on {problem.name}" if several else "")
    caption = "Medians over seeds are Kaplan-Meier estimates, which count runs that did not arrive."
    return PrintTable(name, title, columns, [Row(c) for c in target_cells(result)], 1, caption)


def _setup_table(view: StudyView, problem: ProblemView, where: str) -> PrintTable:
    setup: Mapping[str, str] = setup_of(view, problem)
    rows = [Row([key, value]) for key, value in setup.items()]
    return PrintTable(
        f"setup{where}", f"Setup on {problem.name}", ["", ""], rows, 2, widths=(0, 0.6)
    )
