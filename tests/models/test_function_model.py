from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch.func import functional_call, grad, vmap

from optrial.errors import StudyError, problems_of
from optrial.functions import FUNCTIONS
from optrial.models import build_model
from optrial.models.functions import FunctionArguments, FunctionModel
from tests.tolerance import GRADIENT_FLOAT64


def build(**arguments: object) -> FunctionModel:
    return FunctionArguments.model_validate(arguments).build((2,), 1)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_and_gradient_are_the_functions(name: str) -> None:
    function, model = FUNCTIONS[name], build(function=name).double()
    assert model.point.tolist() == pytest.approx(function.start)
    with torch.no_grad():
        model.point.copy_(torch.tensor(function.start))
    outputs = model(torch.zeros(3, 2, dtype=torch.float64))
    assert outputs.shape == (3, 1)
    outputs.mean().backward()
    expected = torch.stack(function.gradient(*model.point.detach()))
    torch.testing.assert_close(
        model.point.grad, expected, rtol=GRADIENT_FLOAT64, atol=GRADIENT_FLOAT64
    )


def test_inputs_displace_the_point() -> None:
    model = build(function="himmelblau", start=[3.0, 2.0])
    outputs = model(torch.tensor([[0.0, 0.0], [-3.0, -2.0]]))
    assert outputs.flatten().tolist() == [0.0, 170.0]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_stack_of_points_is_each_alone(name: str) -> None:
    model = build(function=name).double()
    points = model.point.detach() + torch.randn(5, 2, dtype=torch.float64)
    noise = torch.randn(4, 2, dtype=torch.float64)

    def loss(point: torch.Tensor) -> torch.Tensor:
        return functional_call(model, {"point": point}, (noise,)).mean()

    stacked = vmap(grad(loss))(points)
    alone = torch.stack([grad(loss)(point) for point in points])
    torch.testing.assert_close(stacked, alone, rtol=GRADIENT_FLOAT64, atol=GRADIENT_FLOAT64)


def test_rastrigin_is_traced_without_warnings() -> None:
    model = build(function="rastrigin")
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(compiled(torch.zeros(1, 2)), model(torch.zeros(1, 2)))


def test_spread_draws_the_start_from_torchs_generator() -> None:
    torch.manual_seed(3)
    first = build(spread=0.5).point.tolist()
    torch.manual_seed(3)
    assert build(spread=0.5).point.tolist() == first
    assert build(spread=0.5).point.tolist() != first
    state = torch.get_rng_state()
    build()
    assert torch.equal(state, torch.get_rng_state())


def test_arguments_are_written_out() -> None:
    arguments = FunctionArguments.model_validate({"function": "saddle"})
    assert arguments.start == FUNCTIONS["saddle"].start
    assert arguments.condition is None
    assert FunctionArguments().condition == FUNCTIONS["ill_conditioned"].condition
    assert FunctionArguments.model_validate(FunctionArguments().model_dump(mode="json"))


@pytest.mark.parametrize(
    ("arguments", "path", "message"),
    [
        ({"function": "beel"}, "function", "not one of the choices"),
        ({"function": ["beale"]}, "function", "not one of the choices"),
        ({"function": "beale", "condition": 3.0}, "condition", "takes no condition number"),
        ({"condition": 0.5}, "condition", "1 or more"),
        ({"start": [1.0]}, "start[1]", "missing"),
        ({"start": [1.0, float("nan")]}, "start[1]", "finite"),
        ({"spread": -1.0}, "spread", "greater than or equal to 0"),
        ({"stard": [1.0, 1.0]}, "stard", "Did you mean 'start'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], path: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        FunctionArguments.model_validate(arguments)
    (problem,) = problems_of(caught.value, FunctionArguments.model_fields)
    assert problem.path == path
    assert message in problem.message


def test_data_that_are_no_displacements_are_refused() -> None:
    with pytest.raises(StudyError, match=r"shape \(2,\), not samples of \(1, 28, 28\)"):
        build_model("function", {}, input_shape=(1, 28, 28), classes=10, seed=0)
