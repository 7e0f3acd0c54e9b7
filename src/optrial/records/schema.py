"""The tables of a store, the same in SQLite and PostgreSQL.

    plans 1--n plan_runs n--1 runs 1--n outcomes
                                   1--n curves         checkpoints (by stack)

Rows are appended, never edited: the plan with the highest id is the current plan, the outcome with
the highest id is the run's record. The waves of a study that tunes are plans with one hash; each
plan contains all runs of the plan before it. There are two exceptions: checkpoints and the name of
the writer are replaced, and the results of unfinished runs are deleted when the runs move to
another stack.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sql

from optrial.records.encoding import Facts, Spec, Stack, StrictJSON

__all__ = [
    "VERSION",
    "checkpoints",
    "curves",
    "meta",
    "metadata",
    "outcomes",
    "plan_runs",
    "plans",
    "runs",
]

VERSION = 3
"""Raise it whenever an older optrial could not read a store written by this one."""

metadata = sql.MetaData()


def _now() -> datetime:
    """Return the time in UTC; SQLite's own clock has a resolution of one second."""
    return datetime.now(UTC).replace(tzinfo=None)


meta = sql.Table(
    "meta",
    metadata,
    sql.Column("key", sql.Text, primary_key=True),
    sql.Column("value", sql.Text, nullable=False),
)

plans = sql.Table(
    "plans",
    metadata,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("hash", sql.Text, nullable=False),
    sql.Column("study", StrictJSON, nullable=False),
    sql.Column("saved_at", sql.DateTime, default=_now, nullable=False),
)

runs = sql.Table(
    "runs",
    metadata,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("run_id", sql.Text, unique=True, nullable=False),
    sql.Column("spec", Spec, nullable=False),
    sql.Column("stack", Stack, nullable=False),
)

plan_runs = sql.Table(
    "plan_runs",
    metadata,
    sql.Column("plan_id", sql.ForeignKey(plans.c.id), primary_key=True),
    sql.Column("run_id", sql.ForeignKey(runs.c.run_id), primary_key=True),
    sql.Column("position", sql.Integer, nullable=False),
    # The problem's name, the display name and the phase of a run depend on the plan.
    sql.Column("problem", sql.Text, nullable=False),
    sql.Column("setting", sql.Text, nullable=False),
    sql.Column("phase", sql.Text, nullable=False),
    sql.Index("plans_by_run", "run_id", "plan_id"),
)

outcomes = sql.Table(
    "outcomes",
    metadata,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("run_id", sql.ForeignKey(runs.c.run_id), nullable=False),
    sql.Column("status", sql.Text, nullable=False),
    sql.Column("step", sql.BigInteger, nullable=False),
    sql.Column("reason", sql.Text, nullable=False),
    sql.Column("facts", Facts, nullable=False),
    # {metric: [step, value]}, the end of every curve so far. Records are listed, and overlapping
    # chunks detected, without reading a curve.
    sql.Column("latest", StrictJSON, nullable=False),
    sql.Column("saved_at", sql.DateTime, default=_now, nullable=False),
    sql.Index("outcomes_by_run", "run_id", "id"),
)

curves = sql.Table(
    "curves",
    metadata,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("run_id", sql.ForeignKey(runs.c.run_id), nullable=False),
    sql.Column("metric", sql.Text, nullable=False),
    sql.Column("first_step", sql.BigInteger, nullable=False),
    sql.Column("count", sql.BigInteger, nullable=False),
    sql.Column("dtype", sql.Text, nullable=False),
    sql.Column("steps_blob", sql.LargeBinary, nullable=False),
    sql.Column("values_blob", sql.LargeBinary, nullable=False),
    sql.UniqueConstraint("run_id", "metric", "first_step"),
)

checkpoints = sql.Table(
    "checkpoints",
    metadata,
    sql.Column("stack", Stack, primary_key=True),
    sql.Column("part", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("data", sql.LargeBinary, nullable=False),
)
