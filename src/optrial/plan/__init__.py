"""Study -> run specs with content-hash ids; refuses every bad name and value at once."""

from optrial.plan.check import (
    check_study,
    code_in,
    targets_wanted,
    tokenizer_in,
    validation_wanted,
)
from optrial.plan.dataset import dataset_of, datasets_of
from optrial.plan.estimate import Estimate, estimate, step_work, training_work
from optrial.plan.evaluation import EVALUATED_AT_ONCE, KEPT_OUTPUTS, MOST_SAMPLES
from optrial.plan.expand import Plan, make_plan
from optrial.plan.fields import evaluated_splits
from optrial.plan.model_memory import PlannedModel, StepMemory, planned_models
from optrial.plan.optimizers import gradients_per_step, rule_of
from optrial.plan.planned_groups import PlannedParameter, planned_groups
from optrial.plan.protocol import check_size
from optrial.plan.stacks import arrange, balanced_stacks, grids_of, pack, stacks_of
from optrial.plan.tuning import Outline, outline, tuning_seeds

__all__ = [
    "EVALUATED_AT_ONCE",
    "KEPT_OUTPUTS",
    "MOST_SAMPLES",
    "Estimate",
    "Outline",
    "Plan",
    "PlannedModel",
    "PlannedParameter",
    "StepMemory",
    "arrange",
    "balanced_stacks",
    "check_size",
    "check_study",
    "code_in",
    "dataset_of",
    "datasets_of",
    "estimate",
    "evaluated_splits",
    "gradients_per_step",
    "grids_of",
    "make_plan",
    "outline",
    "pack",
    "planned_groups",
    "planned_models",
    "rule_of",
    "stacks_of",
    "step_work",
    "targets_wanted",
    "tokenizer_in",
    "training_work",
    "tuning_seeds",
    "validation_wanted",
]
