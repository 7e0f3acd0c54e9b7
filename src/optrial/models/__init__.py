"""Model name -> `torch.nn.Module`; initialisation schemes; dropout that is keyed by the step."""

from optrial.models.catalogue import (
    MODELS,
    ModelEntry,
    build_model,
    check_model,
    resolve_model,
)
from optrial.models.dropout import (
    KeyedDropout,
    drop_threshold,
    keep_mask,
    key_dropout,
    mask_key,
    set_mask_key,
)
from optrial.models.initialization import INITIALIZATIONS, Initialization
from optrial.models.mlp import ACTIVATIONS, MLPArguments

__all__ = [
    "ACTIVATIONS",
    "INITIALIZATIONS",
    "MODELS",
    "Initialization",
    "KeyedDropout",
    "MLPArguments",
    "ModelEntry",
    "build_model",
    "check_model",
    "drop_threshold",
    "keep_mask",
    "key_dropout",
    "mask_key",
    "resolve_model",
    "set_mask_key",
]
