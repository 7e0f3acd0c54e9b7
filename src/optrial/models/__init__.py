"""Model name -> `torch.nn.Module`; initialisation schemes; dropout that is keyed by the step."""

from optrial.models.catalogue import (
    MODELS,
    ModelEntry,
    build_model,
    check_input_shape,
    check_model,
    resolve_model,
)
from optrial.models.draws import seeded_draws
from optrial.models.dropout import (
    KeyedDropout,
    drop_threshold,
    keep_mask,
    key_dropout,
    set_mask_key,
)
from optrial.models.initialization import INITIALIZATIONS, Initialization
from optrial.models.means import needing_whole_split
from optrial.models.metrics import check_metric, needs_whole_split
from optrial.models.mlp import ACTIVATIONS, MLPArguments
from optrial.models.objective import LOSSES, Objective, build_objective, check_loss, widened
from optrial.models.optimizer import (
    backward,
    build_optimizer,
    clip_gradients,
    forget_gradients,
    needs_closure,
    step_optimizer,
)
from optrial.models.optimizer_trial import (
    Tried,
    TriedOptimizer,
    TriedProblem,
    gradients_of,
    try_optimizer,
)
from optrial.models.precision import as_complex, as_real, foreign_types, place_model
from optrial.models.sizes import (
    SampleCost,
    activation_count,
    call_count,
    output_count,
    sample_cost,
)
from optrial.models.stackable import make_stackable
from optrial.models.trained import freeze_unused, trained_parameters
from optrial.models.trial import try_batch, try_code

__all__ = [
    "ACTIVATIONS",
    "INITIALIZATIONS",
    "LOSSES",
    "MODELS",
    "Initialization",
    "KeyedDropout",
    "MLPArguments",
    "ModelEntry",
    "Objective",
    "SampleCost",
    "Tried",
    "TriedOptimizer",
    "TriedProblem",
    "activation_count",
    "as_complex",
    "as_real",
    "backward",
    "build_model",
    "build_objective",
    "build_optimizer",
    "call_count",
    "check_input_shape",
    "check_loss",
    "check_metric",
    "check_model",
    "clip_gradients",
    "drop_threshold",
    "foreign_types",
    "forget_gradients",
    "freeze_unused",
    "gradients_of",
    "keep_mask",
    "key_dropout",
    "make_stackable",
    "needing_whole_split",
    "needs_closure",
    "needs_whole_split",
    "output_count",
    "place_model",
    "resolve_model",
    "sample_cost",
    "seeded_draws",
    "set_mask_key",
    "step_optimizer",
    "trained_parameters",
    "try_batch",
    "try_code",
    "try_optimizer",
    "widened",
]
