"""Functions of two variables as models, so that studies can compare optimizers on them."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field, ValidationInfo, field_validator, model_validator
from torch import Tensor, nn

from optrial.errors import Problem
from optrial.functions import FUNCTIONS, Function, FunctionName, condition_problem, get_function
from optrial.models.arguments import ModelArguments, Shape
from optrial.models.initialization import Initialization

__all__ = ["FunctionArguments", "FunctionModel"]

Coordinate = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class FunctionModel(nn.Module):
    """A function whose two variables are the parameter `point`, (2,).

    Inputs are displacements of that point, (batch, 2): zeros for the function itself, Gaussian
    noise for a stochastic one. Outputs are values, (batch, 1); the loss is their mean.
    """

    def __init__(self, function: Function, start: Tensor) -> None:
        super().__init__()
        self.function = function
        self.point = nn.Parameter(start)
        function.value(*start)  # finds its array library now, before a compiler traces it

    def forward(self, displacements: Tensor) -> Tensor:
        """Return the function's value, (batch, 1), at each displaced point."""
        points = self.point + displacements
        value: Tensor = self.function.value(points[..., :1], points[..., 1:])
        return value


class FunctionArguments(ModelArguments):
    """Arguments of a function as a model.

    Attributes:
        function: name in `optrial.functions.FUNCTIONS`.
        start: the point where training starts; the default depends on the function.
        spread: standard deviation of the starting point over seeds, in each variable.
        condition: condition number of a quadratic; the default depends on the function.
        initialization: has no effect, because there are no weights to draw.
    """

    function: FunctionName = "ill_conditioned"
    start: tuple[Coordinate, Coordinate] | None = None
    spread: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = 0.0
    condition: Annotated[float, Field(strict=True)] | None = None
    initialization: Initialization = Initialization()

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, arguments: Any) -> Any:
        """Write out the default start and condition number, so that records hold them."""
        name = arguments.get("function", cls.model_fields["function"].default)
        function = FUNCTIONS.get(str(name))
        defaults = {"start": function.start, "condition": function.condition} if function else {}
        return defaults | {key: value for key, value in arguments.items() if value is not None}

    @field_validator("condition")
    @classmethod
    def _check_condition(cls, condition: float | None, info: ValidationInfo) -> float | None:
        name = info.data.get("function")  # absent if it is wrong itself
        if name and condition is not None and (reason := condition_problem(name, condition)):
            raise ValueError(reason)
        return condition

    def check_input(self, input_shape: Shape) -> list[Problem]:
        """Return why samples of a shape are not displacements in two variables."""
        if input_shape == (2,):
            return []
        message = f"'function' takes displacements of shape (2,), not samples of {input_shape}."
        return [Problem("kind", message)]

    def build(self, input_shape: Shape, classes: int) -> FunctionModel:
        """Build the model; torch's generator draws the starting point if it has a spread."""
        del input_shape, classes
        start = torch.tensor(self.start, dtype=torch.get_default_dtype())
        if self.spread:
            start += self.spread * torch.randn(2)
        return FunctionModel(get_function(self.function, self.condition), start)
