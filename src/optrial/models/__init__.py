"""Models by name or from user code, with their losses, metrics and optimizers.

Also initialisation schemes, layers that can be stacked, and trials of user code before any run.
"""

from optrial.models.arguments import input_dtype
from optrial.models.catalogue import (
    MODELS,
    build_model,
    check_input_shape,
    check_model,
    resolve_model,
)
from optrial.models.cost import (
    SampleCost,
    activation_count,
    call_count,
    linear_rows,
    output_count,
    sample_cost,
)
from optrial.models.curvature import (
    backward_twice,
    drawn_signs,
    hessian_products,
    twice_differentiable,
)
from optrial.models.draws import seeded_draws
from optrial.models.layers.dropout import (
    KeyedDropout,
    drop_threshold,
    keep_mask,
    key_dropout,
    set_mask_key,
)
from optrial.models.layers.stackable import make_stackable
from optrial.models.mlp import ACTIVATIONS
from optrial.models.objective.combined import Objective, Units, build_objective, widened
from optrial.models.objective.losses import BALANCED, LOSSES, check_loss, outputs_per_value
from optrial.models.objective.metrics import check_metric, finished, needs_whole_split
from optrial.models.optimizer import (
    backward,
    build_optimizer,
    clip_gradients,
    forget_gradients,
    known_values,
    needs_closure,
    requires_closure,
    set_values,
    step_optimizer,
)
from optrial.models.parameters import (
    as_complex,
    as_real,
    check_parameters,
    foreign_types,
    freeze,
    freeze_unused,
    place_model,
    trained_parameters,
)
from optrial.models.precision import mixed_precision
from optrial.models.roles import (
    ROLES,
    RoleOfParameter,
    matching,
    roles_of_parameters,
    selector_problem,
)
from optrial.models.summary import Layer, ModelSummary, summarize
from optrial.models.trial.code import second_derivative_problem, try_batch, try_code, varying
from optrial.models.trial.optimizer import TrialOptimizer, gradients_of, try_optimizer
from optrial.models.trial.problem import TrialProblem
from optrial.models.trial.settings import (
    Snapshot,
    apply_settings,
    float32_products,
    kept_process,
    settings,
)
from optrial.models.trial.suspicions import output_note
from optrial.models.trial.whole_split import needing_whole_split

__all__ = [
    "ACTIVATIONS",
    "BALANCED",
    "LOSSES",
    "MODELS",
    "ROLES",
    "KeyedDropout",
    "Layer",
    "ModelSummary",
    "Objective",
    "RoleOfParameter",
    "SampleCost",
    "Snapshot",
    "TrialOptimizer",
    "TrialProblem",
    "Units",
    "activation_count",
    "apply_settings",
    "as_complex",
    "as_real",
    "backward",
    "backward_twice",
    "build_model",
    "build_objective",
    "build_optimizer",
    "call_count",
    "check_input_shape",
    "check_loss",
    "check_metric",
    "check_model",
    "check_parameters",
    "clip_gradients",
    "drawn_signs",
    "drop_threshold",
    "finished",
    "float32_products",
    "foreign_types",
    "forget_gradients",
    "freeze",
    "freeze_unused",
    "gradients_of",
    "hessian_products",
    "input_dtype",
    "keep_mask",
    "kept_process",
    "key_dropout",
    "known_values",
    "linear_rows",
    "make_stackable",
    "matching",
    "mixed_precision",
    "needing_whole_split",
    "needs_closure",
    "needs_whole_split",
    "output_count",
    "output_note",
    "outputs_per_value",
    "place_model",
    "requires_closure",
    "resolve_model",
    "roles_of_parameters",
    "sample_cost",
    "second_derivative_problem",
    "seeded_draws",
    "selector_problem",
    "set_mask_key",
    "set_values",
    "settings",
    "step_optimizer",
    "summarize",
    "trained_parameters",
    "try_batch",
    "try_code",
    "try_optimizer",
    "twice_differentiable",
    "varying",
    "widened",
]
