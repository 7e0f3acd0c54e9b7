"""From a plan to the runs of the store, each with its stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from optrial.attempts import CHOOSING, Attempts
from optrial.callbacks import Callback
from optrial.config import Parallel
from optrial.data import Dataset
from optrial.engine import Choice, limited_threads
from optrial.executors import check_executor, divided, share_of_worker
from optrial.garbage import collecting_no_garbage
from optrial.plan import Plan, make_plan
from optrial.records import PlannedRun, Progress, Store
from optrial.spec import ENDED, RunSpec, StackId, Status
from optrial.supervision import supervised
from optrial.sweep.needs import Needs

__all__ = ["Planner", "continued", "planned_runs"]

_TASK = "trying a few steps to choose how to train"


def planned_runs(plan: Plan, stack_of: Mapping[str, StackId]) -> list[PlannedRun]:
    """Return the runs of a plan as the store keeps them.

    Args:
        plan: the plan.
        stack_of: stack of each run, by run id.
    """
    with collecting_no_garbage():
        return [
            PlannedRun(
                run_id=run.run_id,
                problem=plan.problems[run.run_id],
                spec=run,
                setting=plan.settings[run.run_id],
                phase=plan.phases[run.run_id],
                stack=stack_of[run.run_id],
            )
            for run in plan.runs
        ]


def continued(plan: Plan, datasets: Mapping[str, Dataset], store: Store) -> Plan:
    """Extend the plan using the results recorded so far."""
    if plan.studies.shared.tune is None:
        return plan
    selections = {name: study.selection for name, study in plan.studies.by_name.items()}
    scores = {
        record.run_id: selection.score(record.final(selection.metric))
        for record in store.runs(everything=True)
        if record.status in ENDED and (selection := selections.get(record.problem))
    }
    return make_plan(plan.studies, datasets, scores, plan.code)


class Planner:
    """Stores plans: each new run gets a stack, which it keeps.

    Args:
        store: the store.
        needs: memory that runs need.
        callback: called with notes on the choice.
        parallel: where stacks are trained, and how many at once.
        attempts: the work under way, as a folder remembers it. On a server, where several processes
            plan one after the other, it is read from the store each time.
    """

    def __init__(
        self,
        store: Store,
        needs: Needs,
        callback: Callback,
        parallel: Parallel,
        attempts: Attempts,
    ) -> None:
        self._store = store
        self._needs = needs
        self._callback = callback
        self._parallel = parallel
        self._attempts = attempts
        self._notes: set[str] = set()  # those given, once for all waves

    def stored(self, plan: Plan) -> dict[str, Progress] | None:
        """Return all runs stored if a plan is the current one, else None."""
        run_ids = [run.run_id for run in plan.runs]
        if not self._store.has_plan(plan.hash, plan.studies.as_dict(), run_ids):
            return None
        return self._store.progress()

    def save(self, plan: Plan) -> dict[str, Progress]:
        """Make a plan the current one, with stacks for its new runs; return all runs stored."""
        if self._store.on_server:
            self._attempts = Attempts(self._store.attempt(), self._store.set_attempt)
        known = self._store.progress()
        with supervised(_TASK):
            planned = self._planned(plan, known)
        self._store.save_plan(plan.hash, plan.studies.as_dict(), planned)
        if self._store.on_server:  # leases name the stacks under way
            self._attempts.forget()
        return known | {
            run.run_id: Progress(run.run_id, run.stack, Status.PLANNED, 0)
            for run in planned
            if run.run_id not in known
        }

    def forget_attempts(self) -> None:
        """Make the store forget the choice under way, because this process does not die in it."""
        self._attempts.forget()

    def _planned(self, plan: Plan, known: Mapping[str, Progress]) -> list[PlannedRun]:
        """Return the plan's runs with their stacks; runs that are not known get new stacks.

        Raises:
            EngineError: the executor cannot train them.
        """
        stack_of = {run_id: run.stack for run_id, run in known.items()}
        new = [run for run in plan.runs if run.run_id not in stack_of]
        if new:
            check_executor(self._parallel)
            self._callback.on_prepare(_TASK)
            self._attempts.begin(CHOOSING)
        groups: dict[tuple[str, str], list[RunSpec]] = {}
        for run in new:
            groups.setdefault((plan.problems[run.run_id], run.dataset_sha256), []).append(run)
        for specs in groups.values():
            choices = self._choices(specs)
            notes = dict.fromkeys(note for choice in choices for note in choice.notes)
            for note in [note for note in notes if note not in self._notes]:
                self._callback.on_message(note)
            self._notes.update(notes)
            for part in divided(choices, self._needs.engines(specs), self._parallel):
                stack = StackId.of(*part)
                stack_of |= dict.fromkeys((run.run_id for run in part.runs), stack)
        return planned_runs(plan, stack_of)

    def _choices(self, specs: Sequence[RunSpec]) -> Sequence[Choice]:
        """Return how to train new runs; one by one if choosing killed the last process."""
        engines, death = self._needs.engines(specs), self._attempts.dead.get(CHOOSING)
        if death and death.suspected(self._needs.memory(specs[:1]), engines.memory_limit):
            return [engines.one_by_one(specs, "the last process died while it timed steps")]
        share = share_of_worker(specs, engines, self._parallel)
        if share is None:
            return engines.choose(specs)
        with limited_threads(share.threads):
            return engines.within(share.width).choose(specs)
