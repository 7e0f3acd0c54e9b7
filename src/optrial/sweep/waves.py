"""A study from its plan to its last run: plan, train, and plan the next wave from the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack

from optrial.attempts import Attempts
from optrial.callbacks import Callback, Callbacks
from optrial.code import changed_code
from optrial.config import Parallel
from optrial.data import Dataset
from optrial.engine import Engines, return_freed_memory
from optrial.interruption import Stop
from optrial.plan import Plan
from optrial.records import Store, WeightFiles
from optrial.spec import RunSpec
from optrial.sweep.commits import Commits
from optrial.sweep.driver import Driver
from optrial.sweep.needs import Needs
from optrial.sweep.planning import Planner, continued
from optrial.sweep.reports import Reports
from optrial.user_output import collected

__all__ = ["sweep"]

_CHANGED = (
    "holds or reads something that its use changes, such as a counter or a list: its runs may "
    "depend on those before them, and are other runs the next time; create that inside the function"
)


def sweep(
    plan: Plan,
    datasets: Mapping[str, Dataset],
    store: Store,
    stop: Stop,
    *,
    device: str = "auto",
    checkpoint_seconds: float = 1.0,
    callback: Callback | None = None,
    weights: WeightFiles | None = None,
    parallel: Parallel = Parallel(),  # noqa: B008  a frozen value
) -> None:
    """Train every run of `plan` that `store` does not hold yet.

    Where the plan's study tunes, what is recorded decides what is tried next: wave follows wave
    until each optimizer's setting is chosen and its runs for the report are trained too.

    A run that is done or diverged is left as it is. One that was interrupted or failed goes on
    from its checkpoint, to the same bits as if it had never stopped. `stop` ends the sweep, with a
    checkpoint, after a tenth of a second's worth of steps at most, or after the step or evaluation
    under way where that takes longer.

    Args:
        plan: the runs; of a study that tunes, as many as are known.
        datasets: the dataset of each problem, by name of the problem.
        store: where they are recorded. Other processes are kept out of a folder meanwhile; on a
            server, they may train other stacks of the same plan, and the sweep ends when all are
            trained.
        stop: ends the sweep when it is set; `at_once` is false while runs train.
        device: "auto", "cpu" or "cuda".
        checkpoint_seconds: seconds of training that a crash loses at most. Commits are rarer where
            they would take over 3 % of the time, and in long trainings, which lose up to 0.2 % of
            their time so far. 0 commits at every pause, `math.inf` at the end alone.
        callback: called as training goes on; see `optrial.Callback`.
        weights: where trained weights go, if the plan's runs are to save any.
        parallel: where stacks are trained, and how many at once.

    Raises:
        StoreBusyError: another process is training into the folder, or another plan into the
            server.
        EngineError: the engine or device cannot train this plan.
    """
    hooks = callback or Callbacks()
    with _writing(store, parallel, hooks, stop), ExitStack() as on_exit:
        return_freed_memory()  # of the loading, which takes several times as much as the data
        output = on_exit.enter_context(collected(hooks.on_message))
        callback = output.around(hooks)
        needs = _needs(plan, datasets, device)
        attempts = _attempts(store)
        planner = Planner(store, needs, callback, parallel, attempts)

        def forget_attempts() -> None:  # because this process does not die in them
            planner.forget_attempts()
            attempts.forget()

        on_exit.callback(forget_attempts)
        stop.when_asked = forget_attempts
        driver = Driver(
            store=store,
            needs=needs,
            attempts=attempts,
            commits=Commits(store, attempts, needs, weights),
            reports=Reports(callback),
            output=output,
            stop=stop,
            parallel=parallel,
            checkpoint_seconds=checkpoint_seconds,
            timeout=plan.studies.shared.timeout,
        )
        on_exit.enter_context(driver)
        plan = _trained(plan, datasets, store, stop, planner, driver)
        for name in changed_code(plan.code):
            callback.on_message(f"'{name}' {_CHANGED}")


def _needs(plan: Plan, datasets: Mapping[str, Dataset], device: str) -> Needs:
    """Return the engines of every version of the datasets."""
    versions = [version for dataset in datasets.values() for version in dataset.versions]
    precision = plan.runs[0].precision
    return Needs({data.sha256: Engines(data, precision, device) for data in versions})


def _trained(
    plan: Plan,
    datasets: Mapping[str, Dataset],
    store: Store,
    stop: Stop,
    planner: Planner,
    driver: Driver,
) -> Plan:
    """Train wave after wave, until the plan grows no more or `stop` is set; return the plan."""
    trained: Sequence[RunSpec] = ()
    while not stop.is_set():
        plan = continued(plan, datasets, store)
        if plan.runs == trained:
            break
        known = planner.stored(plan)
        if known is None:
            with store.planning():
                plan = continued(plan, datasets, store)  # with what others recorded meanwhile
                known = planner.save(plan)
        driver.train(plan, known)
        trained = plan.runs
    return plan


def _writing(
    store: Store, parallel: Parallel, callback: Callback, stop: Stop
) -> AbstractContextManager[None]:
    """Let this process write to a store: alone into a folder, as one of several on a server."""
    if not store.on_server:
        return store.lock()
    return store.share(
        heartbeat_interval=parallel.heartbeat_interval,
        grace_period=parallel.grace_period,
        tell=callback.on_message,
        stopping=stop.is_set,
    )


def _attempts(store: Store) -> Attempts:
    """Return the stacks under way, which a folder remembers; on a server, leases do."""
    if store.on_server:
        return Attempts("", lambda text: None)  # noqa: ARG005
    return Attempts(store.attempt(), store.set_attempt)
