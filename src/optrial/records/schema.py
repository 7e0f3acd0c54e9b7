"""The tables of a store, the same in SQLite and PostgreSQL.

    plans 1--n plan_runs n--1 runs 1--1 outcomes
                                   1--n curves         checkpoints, leases (by stack)

Plans, runs and parts of curves are appended, never edited. A run's outcome is replaced whenever the
run is committed, and so are checkpoints, the stack of an unfinished run that moves to another one,
and the rows of `meta`. The waves of a study that tunes are plans with one hash; each plan contains
all runs of the plan before it. Leases say which process trains a stack; only stores on a server
have any.

Every column holds plain values. The column ``checksum`` of a row is the checksum of its other
columns; see `optrial.records.rows`. Rows that are lost are missed too: a plan knows how many runs
it has, every run has an outcome from the moment it is planned, and the outcome knows how many
points each of its curves has. Order is the order in which rows were stored; times are for people,
except the ends of leases, which the clock of the server decides.
"""

from __future__ import annotations

import sqlalchemy as sql

__all__ = [
    "VERSION",
    "checkpoints",
    "curves",
    "leases",
    "meta",
    "metadata",
    "outcomes",
    "plan_runs",
    "plans",
    "runs",
]

VERSION = 5
"""Raise it whenever an older optrial could not read a store written by this one."""

metadata = sql.MetaData()


def _checksum() -> sql.Column[int]:
    return sql.Column("checksum", sql.BigInteger, nullable=False)


meta = sql.Table(
    "meta",
    metadata,
    # version, plan (current), writer, attempt, page, finished
    sql.Column("key", sql.Text, primary_key=True),
    sql.Column("value", sql.Text, nullable=False),
    _checksum(),
)

plans = sql.Table(
    "plans",
    metadata,
    sql.Column("id", sql.Integer, primary_key=True, autoincrement=False),  # 1, 2, ...
    sql.Column("hash", sql.Text, nullable=False),
    sql.Column("study", sql.Text, nullable=False),  # JSON
    sql.Column("runs", sql.Integer, nullable=False),  # number of runs in this plan
    sql.Column("known", sql.Integer, nullable=False),  # number of runs in this and earlier plans
    sql.Column("ended", sql.Integer, nullable=False),  # number of runs that had ended before it
    sql.Column("saved_at", sql.Text, nullable=False),
    _checksum(),
)

runs = sql.Table(
    "runs",
    metadata,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("run_id", sql.Text, unique=True, nullable=False),
    sql.Column("spec", sql.Text, nullable=False),  # JSON
    sql.Column("stack", sql.Text, nullable=False, index=True),
    _checksum(),
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
    _checksum(),
    sql.Index("plans_by_run", "run_id", "plan_id"),
)

outcomes = sql.Table(
    "outcomes",
    metadata,
    sql.Column("run_id", sql.ForeignKey(runs.c.run_id), primary_key=True),
    sql.Column("status", sql.Text, nullable=False),
    sql.Column("step", sql.BigInteger, nullable=False),
    sql.Column("reason", sql.Text, nullable=False),
    sql.Column("facts", sql.Text, nullable=False),  # JSON
    # JSON: {metric: [step, value, points]}, the end of every curve so far and its length. Records
    # are listed, and overlapping or missing parts detected, without reading a curve.
    sql.Column("latest", sql.Text, nullable=False),
    sql.Column("saved_at", sql.Text, nullable=False),
    _checksum(),
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
    _checksum(),
    sql.UniqueConstraint("run_id", "metric", "first_step"),
)

checkpoints = sql.Table(
    "checkpoints",
    metadata,
    sql.Column("stack", sql.Text, primary_key=True),
    sql.Column("part", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("data", sql.LargeBinary, nullable=False),
    _checksum(),
)

leases = sql.Table(
    "leases",
    metadata,
    sql.Column("stack", sql.Text, primary_key=True),
    sql.Column("token", sql.Text, nullable=False),  # of the claim; empty if the stack is free
    sql.Column("worker", sql.Text, nullable=False),  # the process that holds the lease, for people
    sql.Column("until", sql.DateTime(timezone=True)),  # by the server's clock
    sql.Column("commits", sql.Integer, nullable=False),  # number of commits under this lease
    # Number of leases in a row that ended before anything was stored.
    sql.Column("deaths", sql.Integer, nullable=False),
)
