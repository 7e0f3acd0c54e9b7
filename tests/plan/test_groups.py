"""Groups of parameters: selection, settings, ids and what is refused before any run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from optrial.errors import StudyError
from optrial.models import roles_of_parameters
from optrial.plan import Plan, pack, planned_groups
from optrial.spec import ParameterGroup, RunSpec
from optrial.study import Study
from tests.conftest import Command
from tests.small import MOONS, small_keys, small_plan

MODEL = {"kind": "mlp", "hidden": [8, 6]}


def planned(*groups: Mapping[str, Any], **changes: Any) -> Plan:
    entry = {"rule": "adamw", "lr": 0.01, "weight_decay": 0.1, "groups": list(groups)}
    keys: dict[str, Any] = {
        "problem": {"dataset": dict(MOONS), "model": MODEL},
        "optimizers": [entry | changes.pop("entry", {})],
    }
    plan, _ = small_plan(**keys | changes)
    return plan


def held(plan: Plan) -> list[tuple[str, ...]]:
    return [group.parameters for group in plan.runs[0].groups]


def problems(*groups: Mapping[str, Any], **changes: Any) -> list[str]:
    with pytest.raises(StudyError) as error:
        planned(*groups, **changes)
    return list(map(str, error.value.problems))


class Small(nn.Module):
    """A tied head, a norm, an attention layer, convolutions and a vector of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 9, bias=False)
        self.table = nn.Embedding(9, 4)
        self.head.weight = self.table.weight
        self.conv = nn.Conv1d(4, 4, 3, padding=1)
        self.norm = nn.LayerNorm(4)
        self.attn = nn.MultiheadAttention(4, 2, batch_first=True)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        x = self.table(inputs.long())
        x = self.norm(self.conv(x.mT).mT)
        return self.head(self.scale * self.attn(x, x, x)[0])


def test_roles() -> None:
    roles = {n: p.roles for n, p in roles_of_parameters(Small(), (5,)).items()}
    assert roles == {
        "scale": ("vectors",),
        "head.weight": ("embedding", "head", "matrices"),
        "conv.weight": ("convolutions",),
        "conv.bias": ("bias", "vectors"),
        "norm.weight": ("norm", "vectors"),
        "norm.bias": ("norm", "bias", "vectors"),
        "attn.in_proj_weight": ("matrices",),
        "attn.in_proj_bias": ("bias", "vectors"),
        "attn.out_proj.weight": ("matrices",),
        "attn.out_proj.bias": ("bias", "vectors"),
    }


def test_the_last_linear_layer_is_the_last_that_is_called() -> None:
    class HeadFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(3, 2)
            self.body = nn.Linear(2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.body(x))

    roles = {n: p.roles for n, p in roles_of_parameters(HeadFirst(), (2,)).items()}
    assert [name for name, has in roles.items() if "head" in has] == ["out.weight", "out.bias"]


def test_the_first_group_that_matches_holds() -> None:
    plan = planned(
        {"match": ["head", "1.*"], "lr": 0.1},
        {"match": "bias", "weight_decay": 0},
        {"match": "*.weight", "lr": {"times": 0.5}},
    )
    assert held(plan) == [
        ("1.weight", "1.bias", "7.weight", "7.bias"),
        ("4.bias",),
        ("4.weight",),
    ]


def test_axes_of_groups_span_the_grid_and_name_settings() -> None:
    plan = planned(
        {"match": "head", "lr": [0.1, 0.2]},
        {"match": "bias", "name": "b", "lr": {"times": [0.5, 2]}, "weight_decay": {"times": 0.5}},
        entry={"lr": [0.01, 0.02]},
    )
    settings = [plan.settings[run.run_id] for run in plan.runs]
    assert len(settings) == 8
    assert settings[0] == "lr=0.01 head.lr=0.1 b.lr.times=0.5"
    assert settings[-1] == "lr=0.02 head.lr=0.2 b.lr.times=2"
    run = plan.runs[-1]
    rest, head, bias = run.parts(["1.weight", "1.bias", "7.weight"])
    assert [part.hyperparameters["lr"] for part in (rest, head, bias)] == [0.02, 0.2, 0.04]
    assert [part.weight_decay for part in (rest, head, bias)] == [0.1, 0.1, 0.05]
    assert run.all_hyperparameters["b.weight_decay.times"] == 0.5


def test_ids_know_groups_and_only_them() -> None:
    plain = planned(entry={"groups": None}).runs[0]
    by_role = planned({"match": "bias", "weight_decay": 0}).runs[0]
    by_name = planned({"match": ["*.bias"], "name": "bias", "weight_decay": 0}).runs[0]
    assert plain.groups == ()
    assert len({plain.run_id, by_role.run_id}) == 2
    assert by_role == by_name
    assert by_role.run_id == by_name.run_id
    assert RunSpec.from_dict(by_role.as_dict()) == by_role


def test_a_stack_freezes_the_same_parameters() -> None:
    plan = planned(
        entry={"groups": None},
        optimizers=[
            {"rule": "sgd", "groups": [{"match": "head", "freeze": True}]},
            {"rule": "adam", "groups": [{"match": "head", "freeze": True}]},
            {"rule": "lion", "groups": [{"match": "head", "lr": 0.1}]},
            {"rule": "adamw"},
        ],
    )
    stacks = [{run.optimizer for run in stack} for stack in pack(plan.runs, 8)]
    assert stacks == [{"adam", "sgd"}, {"adamw", "lion"}] or stacks == [
        {"adamw", "lion"},
        {"adam", "sgd"},
    ]


def test_a_plan_lists_the_group_of_each_parameter() -> None:
    plan = planned(
        {"match": "head", "rule": "lion", "lr": [0.1, 0.2]}, {"match": "1.bias", "freeze": True}
    )
    data = small_plan()[1]
    rows = {row.name: row for row in planned_groups(plan, data)}
    assert [(row.group, row.rule) for row in rows.values()] == [
        *(("", "adamw"), ("1.bias", ""), ("", "adamw"), ("", "adamw")),
        *(("head", "lion"), ("head", "lion")),
    ]
    assert rows["7.weight"].values["lr"] == (0.1, 0.2)
    assert rows["7.weight"].roles == ("head", "matrices")


BIAS = {"match": "bias", "weight_decay": 0}
BAD: list[tuple[list[dict[str, Any]], dict[str, Any], str, str]] = [
    ([], {}, "optimizers[0].groups", "at least one group"),
    ([{"match": []}], {}, "optimizers[0].groups[0].match", "got []"),
    ([{"match": " ", "lr": 1}], {}, "optimizers[0].groups[0].match", "a role such as bias"),
    ([{"lr": 0.1}], {}, "optimizers[0].groups[0].match", "is required"),
    ([{"match": 3, "lr": 1}], {}, "optimizers[0].groups[0].match", "got 3"),
    ([{"match": "biases", "lr": 1}], {}, "optimizers[0].groups[0].match", "Did you mean 'bias'"),
    (
        [{"match": ["bias", "norm"], "lr": 1}],
        {},
        "optimizers[0].groups[0].match[1]",
        "no parameter of the model has the role 'norm'; roles in this model: head, bias, vectors, "
        "matrices; parameters: 1.weight, 1.bias",
    ),
    (
        [{"match": "blocks.*", "lr": 1}],
        {},
        "optimizers[0].groups[0].match",
        "no name of a parameter matches 'blocks.*'",
    ),
    ([{"match": "4", "lr": 1}], {}, "optimizers[0].groups[0].match", "write '4.*'"),
    ([BIAS, {"match": "1.bias", "lr": 1}], {}, "optimizers[0].groups[1]", "bias matches its"),
    ([{"match": "bias"}], {}, "optimizers[0].groups[0]", "has no effect"),
    ([{"match": "bias", "lr": 0.01}], {}, "optimizers[0].groups[0]", "has no effect"),
    ([{"match": "bias", "lr": {"times": 1}}], {}, "optimizers[0].groups[0]", "has no effect"),
    ([BIAS, BIAS | {"lr": 1}], {}, "optimizers[0].groups[1].name", "already the name"),
    ([BIAS | {"name": "a b"}], {}, "optimizers[0].groups[0].name", "neither spaces"),
    ([BIAS | {"lr": -1}], {}, "optimizers[0].groups[0].lr", "-1: must be"),
    ([BIAS | {"learning_rate": 1}], {}, "optimizers[0].groups[0].learning_rate", "is not a hyper"),
    ([BIAS | {"rule": "adamm"}], {}, "optimizers[0].groups[0].rule", "Did you mean 'adam'"),
    ([BIAS | {"rule": "adam", "torch": "a:B"}], {}, "optimizers[0].groups[0]", "at most one of"),
    ([BIAS | {"torch": "torch.optim:SGd"}], {}, "optimizers[0].groups[0].torch", "SGd"),
    ([BIAS | {"clip": 1}], {}, "optimizers[0].groups[0]", "clip is for all groups together"),
    ([BIAS | {"schedule": "cosin"}], {}, "optimizers[0].groups[0].schedule.kind", "cosin"),
    ([BIAS | {"freeze": True}], {}, "optimizers[0].groups[0].weight_decay", "beside freeze"),
    ([{"match": "*", "freeze": True}], {}, "optimizers[0].groups", "freeze every parameter"),
    ([{"match": "*", "lr": 1}], {}, "optimizers[0].lr", "no parameter takes it"),
    (
        [{"match": "bias", "beta1": {"times": 0.5}}],
        {},
        "optimizers[0].groups[0].beta1.times",
        "without an upper bound",
    ),
    ([{"match": "bias", "lr": {"times": 0}}], {}, "optimizers[0].groups[0].lr", "above 0"),
    (
        [{"match": "bias", "lr": {"times": 2, "log": [1, 2]}}],
        {},
        "optimizers[0].groups[0].lr",
        "times goes alone",
    ),
    (
        [{"match": "bias", "lr": {"times": {"times": 2}}}],
        {},
        "optimizers[0].groups[0].lr",
        "times goes alone",
    ),
    (
        [{"match": "head", "rule": "momentum", "momentum": {"times": 2}}],
        {},
        "optimizers[0].groups[0].momentum.times",
        "of the entry, which sets none",
    ),
    (
        [{"match": "head", "lr": {"log": [0.1, 1]}}],
        {},
        "optimizers[0].groups[0].lr",
        "a grid needs a number of values",
    ),
    ([BIAS], {"rule": "prodigy"}, "optimizers[0].groups[0]", "prodigy adapts one step size"),
    ([BIAS], {"lr": {"times": 0.5}}, "optimizers[0].lr", "applies to a group"),
    (
        [{"match": "head", "torch": "torch.optim:LBFGS"}],
        {},
        "optimizers[0].groups[0].torch",
        "needs a closure",
    ),
]


@pytest.mark.parametrize(("groups", "entry", "path", "says"), BAD)
def test_refused_before_any_run(
    groups: list[dict[str, Any]], entry: dict[str, Any], path: str, says: str
) -> None:
    found = problems(*groups, entry=entry)
    assert len(found) == 1, found
    assert found[0].startswith(f"{path}: "), found
    assert says in found[0]
    assert "\n" not in found[0]


def test_numpy_takes_no_class_of_torch() -> None:
    group = {"match": "head", "torch": "torch.optim:SGD"}
    assert "numpy has no torch optimizers" in problems(group, engine="numpy")[0]


def test_a_group_may_keep_parameters_from_a_later_one() -> None:
    plan = planned({"match": "head"}, {"match": "*", "lr": 0.1}, entry={"weight_decay": 0})
    assert plan.runs[0].groups[0] == ParameterGroup("head", ("7.weight", "7.bias"))


def test_a_rule_of_matrices_without_any_is_noted() -> None:
    problem = {"dataset": dict(MOONS), "model": "logistic"}
    plan, _ = small_plan(problem=problem, optimizers=[{"rule": "muon"}])
    assert "muon updates all parameters as AdamW does" in " ".join(plan.notes)
    entry = {"rule": "muon", "groups": [{"match": "matrices", "rule": "muon"}]}
    plan, _ = small_plan(problem=problem, optimizers=[entry])
    assert plan.notes == ()
    assert plan.runs[0].as_vectors == ()


def test_the_command_lists_groups(optrial: Command, tmp_path: Path) -> None:
    keys = small_keys(
        optimizers=[{"rule": "sgd", "lr": 0.1, "groups": [{"match": "bias", "freeze": True}]}]
    )
    (tmp_path / "s.yaml").write_text(json.dumps(keys))
    answer = optrial("plan", "s.yaml", "--groups")
    assert answer.status == 0
    assert "frozen" in answer.out
    assert answer.out.startswith("parameter\t")
    both = optrial("plan", "s.yaml", "--groups", "--set", "problem.model.hidden=[[8], [4]]").out
    assert "\nsgd hidden=[4]\nparameter\t" in both
    wrong = optrial("plan", "s.yaml", "--set", "optimizers.sgd.groups[0].match=norms")
    assert wrong.status == 2
    assert "optimizers[0].groups[0].match: 'norms' is neither a role" in wrong.err
    assert "Traceback" not in wrong.err


def test_objects_of_a_program_may_be_in_groups() -> None:
    study = Study(
        **small_keys(optimizers=[])
        | {
            "optimizers": [
                {"torch": torch.optim.Adam, "groups": [{"match": "head", "torch": torch.optim.SGD}]}
            ]
        }
    )
    rules = {p.name: p.rule for p in study.parameter_groups()}
    assert rules["1.weight"] == "torch.optim.adam:Adam"
    assert rules["4.weight"] == "torch.optim.sgd:SGD"
