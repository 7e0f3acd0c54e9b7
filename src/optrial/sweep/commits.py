"""Transactions of the store that the driver makes: progress, failures, and halves of a stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from optrial.attempts import Attempts
from optrial.engine import provenance
from optrial.executors import Arrays, Commit
from optrial.plan import pack
from optrial.records import Record, Segment, Store, WeightFiles
from optrial.spec import FINAL, RunFacts, StackId, Status
from optrial.sweep.needs import Needs

__all__ = ["Commits"]


class Commits:
    """Stores what happens to stacks, each time in one transaction.

    Args:
        store: the store.
        attempts: work under way that has stored nothing yet.
        needs: knows the engines of runs.
        weights: where trained weights go, if the study saves any.
    """

    def __init__(
        self, store: Store, attempts: Attempts, needs: Needs, weights: WeightFiles | None
    ) -> None:
        self._store = store
        self._attempts = attempts
        self._needs = needs
        self._weights = weights

    @property
    def saves_weights(self) -> bool:
        """True if trained weights are saved."""
        return self._weights is not None

    def progress(
        self, stack: StackId, commit: Commit, upcoming: StackId | None
    ) -> Sequence[Segment]:
        """Store the progress of a stack; return what was stored of its runs.

        Args:
            stack: the stack.
            commit: its progress.
            upcoming: the stack that begins next, if this one ends.
        """
        segments = [
            replace(segment, facts=segment.facts | self._saved(segment.run_id, commit.weights))
            for segment in commit.segments
        ]
        begins_next = commit.checkpoint is None and upcoming is not None
        attempt = self._attempts.stored(str(stack), str(upcoming) if begins_next else None)
        self._store.commit(segments, stack, commit.checkpoint, attempt)
        return segments

    def _saved(self, run_id: str, weights: Mapping[str, Arrays]) -> RunFacts:
        """Write the weights of a run to the disk, if it saves any; return their hash."""
        if self._weights is None or run_id not in weights:
            return RunFacts()
        return RunFacts(weights_sha256=self._weights.write(run_id, weights[run_id]))

    def failure(
        self, stack: StackId, record: Record, reason: str, facts: RunFacts
    ) -> Sequence[Segment]:
        """Store that a run cannot be trained further; it keeps what it has.

        Args:
            stack: the stack of the run.
            record: the run.
            reason: why it failed.
            facts: facts to add to its record.

        Returns:
            What was stored; nothing if the run has ended otherwise.
        """
        (latest,) = self._store.runs_of([record.run_id])
        if latest.status in FINAL:
            return ()
        failed = Segment(
            run_id=latest.run_id,
            step=latest.step,
            curves={},
            status=Status.ERROR,
            reason=reason,
            facts=provenance() | latest.facts | facts,
        )
        attempt = self._attempts.stored(str(stack))
        self._store.commit([failed], stack, self._store.checkpoint(stack), attempt)
        return [failed]

    def restack(
        self, stack: StackId, latest: Sequence[Record], engine: str
    ) -> dict[StackId, list[str]]:
        """Store the runs of a stack as runs of its halves, which start again.

        Runs that diverged start again too, because it depends on the time whether they were stored
        before the stack failed. Only in a stack that ended once, which a repair trains again,
        everything that ended stays as it is.

        Args:
            stack: the stack.
            latest: its runs, as they are stored.
            engine: engine of the new stacks.

        Returns:
            Run ids by new stack.
        """
        kept = FINAL if any(record.status is Status.DONE for record in latest) else ()
        specs = [record.spec for record in latest if record.status not in kept]
        stacks: dict[StackId, list[str]] = {}
        for half in pack(specs, (len(specs) + 1) // 2):
            threads = self._needs.engines(half).threads(half)
            threads = min(threads, stack.threads or threads)
            stacks[StackId.of(engine, half, threads)] = [spec.run_id for spec in half]
        self._store.restack(stacks)
        return stacks
