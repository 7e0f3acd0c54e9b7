"""User code at work: its output is collected, hangs are reported, the process is restored."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from optrial.callbacks import Callbacks
from optrial.code import Trust
from optrial.models import kept_process
from optrial.user_output import UserOutput, collected
from optrial.watching import Watch

__all__ = ["imported", "supervised", "watched"]


@contextmanager
def supervised(task: str, tell: Callable[[str], object] | None = None) -> Iterator[UserOutput]:
    """Run user code in this context, other than training; the process is as before afterwards.

    Args:
        task: the work, such as "loading the data".
        tell: called with messages about it, perhaps from another thread; by default they go to the
            logger ``optrial``, or where those of an outer context go.
    """
    with watched(task, tell) as output, kept_process():
        yield output


@contextmanager
def watched(task: str, tell: Callable[[str], object] | None = None) -> Iterator[UserOutput]:
    """Run user code that may change the process, such as the import of a module.

    Arguments are those of `supervised`.
    """
    with (
        collected(tell or Callbacks().on_message) as output,
        Watch(output.tell) as watch,
        watch.busy(task),
    ):
        yield output


def imported(names: Iterable[str], trust: Trust) -> dict[str, str]:
    """Import the code that names lead to, as far as it is trusted.

    Args:
        names: names of the form ``module:attribute``.
        trust: what may run.

    Returns:
        why other code must not run, by name.
    """
    with watched("importing code") as output:
        apart = copy.copy(trust)  # what it asks and tells is not output of user code
        apart.ask = trust.ask and output.around(trust.ask)
        apart.tell = output.around(trust.tell)
        return apart.refusals(names)
