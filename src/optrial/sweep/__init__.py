"""Trains what a plan has and a store lacks: the driver, which joins executors and store.

Plan, then train, then plan the next wave from the results:

    waves -> planning           plan -> runs with their stacks
          -> driver             stacks -> executor -> updates -> store and hooks
             -> queue           the stacks left to train, each claimed before its training
             -> remedies        a failure or a death -> train again, halve, or give up
             -> commits         updates -> transactions of the store
             -> reports         updates -> hooks
"""

from optrial.sweep.planning import continued, planned_runs
from optrial.sweep.waves import sweep

__all__ = ["continued", "planned_runs", "sweep"]
