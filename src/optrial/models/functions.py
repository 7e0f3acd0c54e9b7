"""A function of two variables as a model, so that studies can train optimizers on it."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from torch import Tensor, nn

from optrial.errors import Problem, StudyError
from optrial.functions import (
    FUNCTIONS,
    Function,
    FunctionName,
    condition_problem,
    get_function,
)
from optrial.models.initialization import Initialization

__all__ = ["FunctionArguments", "FunctionModel", "function_model"]

Coordinate = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class FunctionArguments(BaseModel):
    """Arguments of a function as a model.

    Attributes:
        function: its name in `optrial.functions.FUNCTIONS`.
        start: the point at which training starts; by default the function's own.
        spread: standard deviation of the starting point over seeds, in each variable.
        condition: condition number, for the quadratics; by default the function's own.
        initialization: draws no weights here, as there are none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    function: FunctionName = "ill_conditioned"
    start: tuple[Coordinate, Coordinate] | None = None
    spread: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = 0.0
    condition: Annotated[float, Field(strict=True)] | None = None
    initialization: Initialization = Initialization()

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        """Write out the function's own start and condition number, so that records hold them."""
        name = given.get("function", cls.model_fields["function"].default)
        function = FUNCTIONS.get(str(name))
        own = {"start": function.start, "condition": function.condition} if function else {}
        return own | {key: value for key, value in given.items() if value is not None}

    @field_validator("condition")
    @classmethod
    def _check_condition(cls, condition: float | None, info: ValidationInfo) -> float | None:
        name = info.data.get("function")  # absent where it is wrong itself
        if name and condition is not None and (reason := condition_problem(name, condition)):
            raise ValueError(reason)
        return condition


class FunctionModel(nn.Module):
    """A function whose two variables are the parameter, `point`, (2,).

    Its inputs are displacements of that point, (batch, 2): zeros for the function itself, Gaussian
    noise for a stochastic one. Its outputs are values, (batch, 1), whose mean is the loss.
    """

    def __init__(self, function: Function, start: Tensor) -> None:
        super().__init__()
        self.function = function
        self.point = nn.Parameter(start)
        function.value(*start)  # finds its array library now, before a compiler traces that

    def forward(self, displacements: Tensor) -> Tensor:
        """Return the function's value, (batch, 1), at each displaced point."""
        points = self.point + displacements
        value: Tensor = self.function.value(points[..., :1], points[..., 1:])
        return value


def function_model(
    arguments: FunctionArguments, input_shape: tuple[int, ...], classes: int
) -> FunctionModel:
    """Build a function as a model; torch's generator draws the start if that has a spread.

    Raises:
        StudyError: samples of the data are not displacements in two variables.
    """
    del classes  # the data has none
    if input_shape != (2,):
        message = f"'function' takes displacements of shape (2,), not samples of {input_shape}."
        raise StudyError([Problem("kind", message)], "the model")
    start = torch.tensor(arguments.start, dtype=torch.get_default_dtype())
    if arguments.spread:
        start += arguments.spread * torch.randn(2)
    return FunctionModel(get_function(arguments.function, arguments.condition), start)
