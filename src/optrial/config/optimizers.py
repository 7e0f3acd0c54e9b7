"""The entries of `optimizers`, and their groups of parameters."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictBool,
    StrictStr,
    model_validator,
)

from optrial.config.axis import Axis, AxisField, GroupAxisField
from optrial.config.short_forms import ShortForm, each_named, one_or_several
from optrial.errors import cut, shown

__all__ = ["GroupEntry", "ModifierEntry", "OptimizerEntry", "other_keys"]


def _schedules(raw: Any) -> tuple[Any, ...]:
    """Read one schedule or a list of them: mappings, unchecked."""
    schedules = tuple(raw) if isinstance(raw, list | tuple) else (raw,)
    if not schedules or not all(isinstance(item, dict) for item in schedules):
        raise ValueError("must be a name or {kind: name, ...}, or a list of these")
    return schedules


def _one_or_all(raw: tuple[Any, ...]) -> Any:
    return list(raw) if len(raw) > 1 else raw[0]


Schedules = Annotated[
    tuple[Any, ...],
    PlainValidator(_schedules),
    PlainSerializer(_one_or_all),
    one_or_several("kind"),
]


class Clip(BaseModel):
    """Gradient clipping: by the global norm, by the value of each coordinate, or both."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    norm: AxisField | None = None
    value: AxisField | None = None

    @model_validator(mode="after")
    def _one_at_least(self) -> Clip:
        if self.norm is None and self.value is None:
            raise ValueError("give a number, or {norm: number}, {value: number} or both")
        return self


class Sam(BaseModel):
    """Sharpness-aware minimization: the gradient is taken at a distance `rho` uphill."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    rho: AxisField


class Averaging(BaseModel):
    """Average of the weights at which an optimizer is evaluated: `ema` or `tail`."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    ema: AxisField | None = None
    tail: AxisField | None = None

    @model_validator(mode="after")
    def _one(self) -> Averaging:
        if (self.ema is None) == (self.tail is None):
            raise ValueError("give {ema: 0.999}, a decay rate, or {tail: 0.25}, a share of steps")
        return self


def _sam(raw: Any) -> Any:
    return raw if isinstance(raw, dict | Sam) else {"rho": raw}


def _clip(raw: Any) -> Any:
    return raw if isinstance(raw, dict | Clip) else {"norm": raw}


class ModifierEntry(BaseModel):
    """A modifier of a rule's steps, by name, with its hyperparameters as further keys.

    `rule` names the other rule of `grafting`.
    """

    model_config = ConfigDict(frozen=True, extra="allow", arbitrary_types_allowed=True)
    __pydantic_extra__: dict[str, AxisField] = Field(init=False)

    name: StrictStr
    rule: StrictStr | None = None

    @property
    def code(self) -> str:
        """The name in the records of runs: "agc", or "grafting(sgd)"."""
        return f"{self.name}({self.rule})" if self.rule is not None else self.name

    @property
    def hyperparameters(self) -> dict[str, Axis]:
        """The hyperparameters that were given, by the names of runs: "agc.clip"."""
        return {f"{self.name}.{n}": axis for n, axis in (self.__pydantic_extra__ or {}).items()}


def _modifiers(raw: Any) -> Any:
    if not isinstance(raw, list | tuple) or not all(
        isinstance(item, dict | ModifierEntry) for item in raw
    ):
        raise ValueError(
            "must be a list of modifiers, such as [agc, {name: lookahead, every: 10}], or [] for "
            "none"
        )
    for item in raw:
        if isinstance(item, dict) and "name" not in item and len(item) == 1:
            raise ValueError(
                f"write {{name: {next(iter(item))}, ...}}, with hyperparameters beside"
            )
    return raw


OptimizerKey = Literal["rule", "torch", "rule_factory"]


class _Optimizer(BaseModel):
    """Keys that entries and their groups share."""

    model_config = ConfigDict(frozen=True, extra="allow", arbitrary_types_allowed=True)

    rule: StrictStr | None = None
    torch: StrictStr | None = None
    rule_factory: StrictStr | None = None
    name: StrictStr | None = Field(default=None, min_length=1)
    decay: Literal["l2", "decoupled"] | None = None
    schedule: Schedules | None = None
    modify: (
        Annotated[tuple[ModifierEntry, ...], BeforeValidator(_modifiers), each_named("name")] | None
    ) = None

    @property
    def code(self) -> str:
        """The name of the rule, or ``module:name``."""
        return self.rule or self.torch or self.rule_factory or ""

    @property
    def hyperparameters(self) -> dict[str, Axis]:
        """The hyperparameters that were given, by name; those of modifiers as "agc.clip"."""
        given = dict(self.__pydantic_extra__ or {})
        for modifier in self.modify or ():
            given |= modifier.hyperparameters
        return given

    @property
    def modifiers(self) -> tuple[str, ...]:
        """The names of the modifiers, in their order."""
        return tuple(modifier.code for modifier in self.modify or ())


def _selectors(raw: Any) -> Any:
    """Read one selector or a list of them."""
    selectors = [raw] if isinstance(raw, str) else raw
    texts = isinstance(selectors, list | tuple) and all(isinstance(s, str) for s in selectors)
    if not selectors or not texts or not all(map(str.strip, selectors)):
        raise ValueError(
            "must be a role such as bias, a name of parameters such as 'blocks.*.attn.*', or a "
            f"list of these; got {shown(raw)}"
        )
    return tuple(selectors)


def _plain_selectors(selectors: tuple[str, ...]) -> Any:
    return list(selectors) if len(selectors) > 1 else selectors[0]


def _group_name(name: str) -> str:
    if any(character.isspace() or character == "=" for character in name):
        raise ValueError(f"{shown(name)} must have neither spaces nor '='; settings have both")
    return name


class GroupEntry(_Optimizer):
    """Parameters of the model whose update differs from that of the others.

    `match` selects them, by roles and by names with wildcards. At most one of `rule`, `torch` and
    `rule_factory` is given, for a rule other than the entry's. `freeze` leaves the initial values
    unchanged. Every further key is a hyperparameter. A hyperparameter or weight decay may be
    ``{times: 0.5}``, which multiplies the entry's.
    """

    __pydantic_extra__: dict[str, GroupAxisField] = Field(init=False)

    match: Annotated[tuple[str, ...], PlainValidator(_selectors), PlainSerializer(_plain_selectors)]
    name: Annotated[StrictStr, Field(min_length=1), AfterValidator(_group_name)] | None = None
    weight_decay: GroupAxisField | None = None
    freeze: StrictBool = False

    @model_validator(mode="before")
    @classmethod
    def _of_the_entry(cls, raw: Any) -> Any:
        for key in ("clip", "sam", "adaptive_sam", "average", "closure", "create_graph", "groups"):
            if isinstance(raw, dict) and key in raw:
                raise ValueError(f"{key} is for all groups together; move it to the entry")
        return raw

    @model_validator(mode="after")
    def _at_most_one_kind(self) -> GroupEntry:
        if sum(raw is not None for raw in (self.rule, self.torch, self.rule_factory)) > 1:
            raise ValueError("give at most one of rule, torch and rule_factory")
        return self

    @property
    def kind(self) -> OptimizerKey | None:
        """The key that names the optimizer; None for the entry's."""
        if self.rule is not None:
            return "rule"
        if self.torch is not None:
            return "torch"
        return "rule_factory" if self.rule_factory is not None else None

    @property
    def label(self) -> str:
        """The name in every table: `name`, or the selectors."""
        return self.name or "+".join(self.match)

    @property
    def values(self) -> dict[str, Axis]:
        """The hyperparameters that were given, and the weight decay."""
        decay = {} if self.weight_decay is None else {"weight_decay": self.weight_decay}
        return self.hyperparameters | decay


def _groups(raw: Any) -> Any:
    if not isinstance(raw, list | tuple) or not all(
        isinstance(group, dict | GroupEntry) for group in raw
    ):
        raise ValueError("must be a list of groups, such as [{match: bias, weight_decay: 0}]")
    if not raw:
        raise ValueError("must have at least one group; leave the key out for none")
    return raw


class OptimizerEntry(_Optimizer):
    """A rule or a user-defined optimizer, with its settings.

    Exactly one of `rule` (a name of the catalogue), `torch` (``module:Class`` of a
    `torch.optim.Optimizer`) and `rule_factory` (``module:function`` that returns a rule) is given.
    `closure` passes `step` a function that computes the loss and its gradients again;
    `create_graph` lets those gradients be differentiated. Both go with `torch`.
    `groups` are parameters with other values; the first group that matches holds. `modify` lists
    modifiers of the steps of a rule, in their order.
    `average` is an average of the weights at which the model is evaluated.
    `sam` and `adaptive_sam` take the gradient uphill, at the cost of a second one.
    Every further key is a hyperparameter.
    """

    __pydantic_extra__: dict[str, AxisField] = Field(init=False)

    weight_decay: AxisField | None = None
    clip: Annotated[Clip, ShortForm(_clip)] | None = None
    sam: Annotated[Sam, ShortForm(_sam)] | None = None
    adaptive_sam: Annotated[Sam, ShortForm(_sam)] | None = None
    average: Averaging | None = None
    closure: StrictBool = False
    create_graph: StrictBool = False
    groups: Annotated[tuple[GroupEntry, ...], BeforeValidator(_groups)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _keys(cls, raw: Any) -> Any:
        if isinstance(raw, str):
            written = f"{{rule: {cut(raw)}}}"
            raise ValueError(f"must be a mapping; write {written}, with its learning rate")
        return raw

    @model_validator(mode="after")
    def _one_kind(self) -> OptimizerEntry:
        if sum(raw is not None for raw in (self.rule, self.torch, self.rule_factory)) != 1:
            raise ValueError("give one of rule, torch and rule_factory")
        if self.sam is not None and self.adaptive_sam is not None:
            raise ValueError("give one of sam and adaptive_sam")
        return self

    @property
    def kind(self) -> OptimizerKey:
        """The key that names the optimizer."""
        if self.rule is not None:
            return "rule"
        return "torch" if self.torch is not None else "rule_factory"

    @property
    def label(self) -> str:
        """The name in every table: `name`, or that of the rule, class or function."""
        return self.name or self.code.rpartition(":")[2]

    @property
    def parts(self) -> tuple[OptimizerEntry | GroupEntry, ...]:
        """The entry and its groups."""
        return (self, *(self.groups or ()))


def other_keys(entry: type[OptimizerEntry | GroupEntry]) -> list[str]:
    """Return the keys beside an optimizer's name that are no hyperparameters."""
    return [key for key in entry.model_fields if key not in get_args(OptimizerKey)]
