"""Everything that determines the numbers of one run, and its content-hash id."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from itertools import repeat
from operator import attrgetter, call
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from optrial.errors import counted
from optrial.spec.groups import OptimizerKind, ParameterGroup, Part
from optrial.spec.metrics import Direction, Selection

__all__ = [
    "Average",
    "EarlyStopping",
    "Fold",
    "Phase",
    "ProbeSettings",
    "RunSpec",
    "Rung",
    "StackId",
    "setting_text",
    "three_digits",
]

Phase = Literal["tune", "report"]
"""A run of phase `tune` helps to choose a setting; one of phase `report` is a result."""

_FORMAT = 1
"""Part of every id. Raise it when the same fields come to mean other numbers."""

_STACK = re.compile(
    r"(?P<engine>[^-]+)-(?P<digest>[^-]+)(-(?P<threads>[1-9][0-9]{0,8}))?", re.ASCII
)

_LONG_NUMBER = re.compile(r"(?<![\w.])\d+\.\d{3,}(?:e[-+]?\d+)?(?![\w.])")

_OF_A_PHASE = (
    *("seed", "evaluate_on", "evaluate_start", "save", "select", "batch_metrics", "probes"),
)
"""Fields in which runs with one setting differ: between seeds, and between the two phases."""

_OF_AN_OPTIMIZER = (
    *("optimizer", "optimizer_kind", "rule", "hyperparameters", "weight_decay", "decay"),
    *("schedule", "clip_norm", "clip_value", "zero_grad", "closure", "create_graph"),
    *("groups", "as_vectors", "modify"),
)
"""Fields that an entry of `optimizers` sets."""


class ProbeSettings(NamedTuple):
    """The probes of a run.

    Attributes:
        measure: names of the probes.
        every: steps between two measurements.
        per_layer: whether each layer is measured as well as the whole model.
    """

    measure: tuple[str, ...]
    every: int
    per_layer: bool


class Average(NamedTuple):
    """Average of the weights at which a run is evaluated.

    Attributes:
        kind: "ema" for an exponential average, "tail" for the mean over the last steps.
        value: decay rate of the average per step, or the share of the steps.
    """

    kind: Literal["ema", "tail"]
    value: float


class EarlyStopping(NamedTuple):
    """When a run ends before its budget.

    Attributes:
        patience: evaluations in a row without improvement after which it ends.
        metric: name of the metric, on the validation split.
        better: which values of it are better.
        min_delta: improvement over the best value that does not count.
    """

    patience: int
    metric: str
    better: Direction
    min_delta: float


class Fold(NamedTuple):
    """Division of the samples that a run is trained and tested on.

    Folds may differ in size, and with it in steps, so the ids of a setting are those of its run on
    the first fold.

    Attributes:
        place: place among all folds, from 0; the folds of a repetition follow each other.
        total: number of folds of all repetitions.
        setting_id: `RunSpec.setting_id` on the first fold.
        protocol_id: `RunSpec.protocol_id` on the first fold.
    """

    place: int
    total: int
    setting_id: str
    protocol_id: str


class Rung(NamedTuple):
    """Part of the budget on which a trial of successive halving is trained.

    The trials of the last rung, which are trained on the whole budget, have none.

    Attributes:
        place: place among all rungs, from 0; each has a longer budget than that before it.
        total: number of rungs, the last included.
        setting_id: `RunSpec.setting_id` with the whole budget.
    """

    place: int
    total: int
    setting_id: str


class _WithoutSeed:
    """Values, texts and hashes of every field but the seed, shared by the seeds of a setting.

    Attributes:
        run: one of the runs.
        often_used: values of its fields `_OFTEN_USED`.
    """

    def __init__(self, run: RunSpec) -> None:
        self.run = run
        self.often_used = _often_used(run)

    @cached_property
    def text(self) -> str:
        return json.dumps(self.run.as_dict() | {"seed": None}, sort_keys=True)

    @cached_property
    def setting_id(self) -> str:
        other = self.run.rung or self.run.fold
        return other.setting_id if other else self._digest_without(*_OF_A_PHASE)

    @cached_property
    def protocol_id(self) -> str:
        fold = self.run.fold
        own = (*_OF_AN_OPTIMIZER, *_OF_A_PHASE, "rung")
        return fold.protocol_id if fold else self._digest_without(*own)

    def _digest_without(self, *names: str) -> str:
        """Return the hash of the fields of an id but some."""
        values = {name: value for name, value in self.identifying.items() if name not in names}
        return _digest(json.dumps(values, sort_keys=True))

    @cached_property
    def structure(self) -> str:
        run = self.run
        if not (run.groups or run.as_vectors or run.modify):
            return ""
        names = dict.fromkeys(name for group in run.groups for name in group.parameters)
        kinds = [
            [p.optimizer_kind, p.rule, p.decay, p.parameters, *([p.modify] if p.modify else [])]
            for p in run.parts(names)
        ]
        return json.dumps(
            [kinds, run.frozen, run.as_vectors, *([run.modify] if run.modify else [])]
        )

    @cached_property
    def json(self) -> str:
        values = {name: value for name, value in self.run.as_dict().items() if name != "seed"}
        return json.dumps(values, allow_nan=False)

    @cached_property
    def identifying(self) -> dict[str, Any]:
        """Fields of an id: those without a default or with another value."""
        values = self.run.as_dict()
        for field in fields(self.run):
            if field.default is not MISSING and values[field.name] == field.default:
                del values[field.name]
        return values

    @cached_property
    def around_seed(self) -> tuple[str, str]:
        """Text before and after the seed in the text whose hash is the id of a run."""
        values = {"format": _FORMAT} | self.identifying
        before = {name: value for name, value in values.items() if name < "seed"}
        after = {name: value for name, value in values.items() if name > "seed"}
        texts = [json.dumps(part, sort_keys=True, allow_nan=False) for part in (before, after)]
        return texts[0][:-1] + ', "seed": ', ", " + texts[1][1:]


class _Computed:
    """Slots of `RunSpec` that are no fields."""

    __slots__ = ("_run_id", "_without_seed")

    _run_id: str
    _without_seed: _WithoutSeed


@dataclass(frozen=True, slots=True)
class RunSpec(_Computed):
    """One training: problem x optimizer x hyperparameter values x seed, everything resolved.

    Every field changes the id. A field that has a default changes it only where it differs from
    the default, so that adding such a field leaves the ids of existing runs alone.

    Attributes:
        optimizer: name of the entry in the study.
        optimizer_kind: "rule" of the catalogue, "torch" for a user's `torch.optim.Optimizer` class,
            or "rule_factory" for a user's function that returns a rule.
        rule: name of the update rule, or ``module:name`` of the class or function.
        hyperparameters: every hyperparameter of the rule, or argument of the class, by name.
        weight_decay: coefficient, 0 for none.
        decay: "l2" adds ``weight_decay * parameter`` to the gradient; "decoupled" shrinks the
            parameter by ``lr * weight_decay`` instead.
        schedule: kind and arguments of the learning-rate schedule, durations in steps, or None.
        clip_norm: largest norm of the gradient of all parameters together, or None.
        clip_value: largest magnitude of a coordinate of the gradient, or None.
        zero_grad: whether each step starts from a zero gradient; otherwise gradients accumulate.
        seed: seed of the initial weights, batch order and dropout masks.
        dataset: name of the dataset.
        dataset_arguments: its arguments after defaults.
        dataset_sha256: hash of the arrays.
        model: kind of the model.
        model_arguments: its arguments after defaults.
        loss: name of the loss.
        loss_arguments: the arguments that the study gives.
        metrics: names of the metrics.
        loss_limit: training loss above which a run counts as diverged; None for no limit.
        batch_size: samples per batch; the last batch of an epoch may be smaller.
        steps: number of training steps.
        steps_per_epoch: steps in one pass over the training split.
        evaluate_every: steps between two evaluations; the last step is always evaluated.
        evaluate_on: the splits that are evaluated.
        engine: the engine; "auto" leaves the choice to the machine.
        compile: whether a stacked engine compiles its step.
        precision: "bfloat16" keeps weights and updates in float32.
        rng: "streams" (keyed by seed, shared by all engines) or "script" (one global generator).
        sampling: how batches are drawn.
        shuffle: whether each epoch has its own order.
        drop_last: whether a last, smaller batch of an epoch is left out.
        save: the weights to keep: "final", "best" or None.
        code: name of each user object -> hash of its code and everything it uses.
        probes: the diagnostics to measure, or None.
        batch_metrics: whether the metrics of each step's batch are recorded.
        whole_split: user code that must see a whole split at once because it is not a mean over
            samples: names of metrics, "loss", and "model" where a sample's outputs depend on the
            other samples of its batch.
        select: with ``save: best``, the metric that selects the weights; else None.
        closure: whether the optimizer's `step` gets a closure even if it does not require one.
        create_graph: whether gradients are computed so that they can be differentiated again.
        threads: CPU threads of the training; None leaves the number to the engine.
        evaluate_start: whether the initial weights are evaluated, at step 0.
        groups: parameters that are updated with their own values.
        as_vectors: names of matrices that the rule updates as it does vectors.
        modify: names of the modifiers of the rule's steps, in their order.
        original_units: whether metrics of values are computed in the units of the data,
            where the targets are standardized.
        early_stopping: when a run ends before its budget, or None.
        accumulate: number of batches whose gradients are averaged in a step.
        sam_rho: distance at which sharpness-aware minimization takes the gradient; None without.
        sam_adaptive: whether this distance is relative to each weight.
        average: average of the weights at which the run is evaluated; None for the weights.
        fold: the fold that the run is trained and tested on; None for a fixed test split.
        budget_seconds: seconds of training after which the run ends; `steps` is a limit that it
            does not reach. None for a budget in steps.
        rung: the rung of successive halving that shortens the run; None for the whole budget.
    """

    optimizer: str
    optimizer_kind: OptimizerKind
    rule: str
    hyperparameters: Mapping[str, Any]
    weight_decay: float
    decay: Literal["l2", "decoupled"]
    schedule: Mapping[str, Any] | None
    clip_norm: float | None
    clip_value: float | None
    zero_grad: bool
    seed: int
    dataset: str
    dataset_arguments: Mapping[str, Any]
    dataset_sha256: str
    model: str
    model_arguments: Mapping[str, Any]
    loss: str
    loss_arguments: Mapping[str, Any]
    metrics: tuple[str, ...]
    loss_limit: float | None
    batch_size: int
    steps: int
    steps_per_epoch: int
    evaluate_every: int
    evaluate_on: tuple[str, ...]
    engine: Literal["auto", "reference", "stacked", "numpy"]
    compile: Literal["auto", "always", "never"]
    precision: Literal["float32", "bfloat16", "float64"]
    rng: Literal["streams", "script"]
    sampling: Literal["epoch", "with_replacement"]
    shuffle: bool
    drop_last: bool
    save: Literal["final", "best"] | None
    code: Mapping[str, str]
    probes: ProbeSettings | None = None
    batch_metrics: bool = False
    whole_split: tuple[str, ...] = ()
    select: Selection | None = None
    closure: bool = False
    create_graph: bool = False
    threads: int | None = None
    evaluate_start: bool = False
    groups: tuple[ParameterGroup, ...] = ()
    as_vectors: tuple[str, ...] = ()
    modify: tuple[str, ...] = ()
    original_units: bool = False
    early_stopping: EarlyStopping | None = None
    accumulate: int = 1
    sam_rho: float | None = None
    sam_adaptive: bool = False
    average: Average | None = None
    fold: Fold | None = None
    budget_seconds: float | None = None
    rung: Rung | None = None

    @property
    def run_id(self) -> str:
        """Twelve hexadecimal digits that change with anything that could change a number."""
        try:
            return self._run_id
        except AttributeError:
            before, after = self._of_all_seeds.around_seed
            object.__setattr__(self, "_run_id", _digest(f"{before}{self.seed:d}{after}"))
            return self._run_id

    @property
    def setting_id(self) -> str:
        """Twelve hexadecimal digits that runs share if they differ in seed, fold, rung and phase
        alone.
        """
        try:
            return self._without_seed.setting_id
        except AttributeError:
            return self._of_all_seeds.setting_id

    @property
    def protocol_id(self) -> str:
        """Twelve hexadecimal digits that runs share if they differ in optimizer, seed and fold
        alone.
        """
        return self._of_all_seeds.protocol_id

    @property
    def without_seed(self) -> str:
        """Text of every field but the seed."""
        return self._of_all_seeds.text

    @property
    def json_without_seed(self) -> str:
        """JSON object of every field but the seed."""
        return self._of_all_seeds.json

    @property
    def evaluated_steps(self) -> str:
        """The steps of evaluation in words: ``before training and every 10 steps``."""
        if not self.steps:
            return "of the initial weights"
        every = f"every {counted(self.evaluate_every, 'step')}"
        return f"before training and {every}" if self.evaluate_start else every

    @property
    def frozen(self) -> tuple[str, ...]:
        """Names of the parameters that groups freeze."""
        return tuple(name for group in self.groups if group.freeze for name in group.parameters)

    @property
    def uses_torch(self) -> bool:
        """True if a class of PyTorch or the user updates any of the parameters."""
        kinds = {group.optimizer_kind for group in self.groups}
        return self.optimizer_kind == "torch" or "torch" in kinds

    @property
    def all_hyperparameters(self) -> dict[str, Any]:
        """Hyperparameters of the run by name, and the values that groups set: "norm.lr"."""
        shown = dict(self.hyperparameters)
        if self.modify:
            shown["modify"] = " ".join(self.modify)
        for group in self.groups:
            shown |= group.shown
        return shown

    def parts(self, names: Iterable[str]) -> list[Part]:
        """Divide parameters among the rules that update them; frozen ones are left out.

        Args:
            names: names of the parameters of the model, in its order.

        Returns:
            The parameters in no group, then those of each group, except where there are none.
        """
        names = tuple(names)
        grouped = {name for group in self.groups for name in group.parameters}
        rest = tuple(name for name in names if name not in grouped)
        parts = [self._part(rest)]
        for group in self.groups:
            held = frozenset(group.parameters)
            if not group.freeze:
                parts.append(self._part(tuple(n for n in names if n in held), group))
        return [part for part in parts if part.parameters]

    @property
    def known_parts(self) -> list[Part]:
        """Parts of a model with only its groups known; "*" stands for the other names."""
        return self.parts(("*", *(name for group in self.groups for name in group.parameters)))

    def _part(self, names: tuple[str, ...], group: ParameterGroup | None = None) -> Part:
        whole = Part(
            "",
            names,
            self.optimizer_kind,
            self.rule,
            self.hyperparameters,
            self.weight_decay,
            self.decay,
            self.schedule,
            self.modify,
        )
        if group is None:
            return whole
        known = {"weight_decay": self.weight_decay, **self.hyperparameters}
        scaled = {name: factor * known[name] for name, factor in group.times.items()}
        values = {} if group.rule else dict(self.hyperparameters)
        modify = () if group.rule else self.modify
        if group.modify is not None:
            modify = group.modify
            values = {name: value for name, value in values.items() if "." not in name}
        kind = group.optimizer_kind or self.optimizer_kind
        decay = 0.0
        if kind != "torch":  # whose weight decay is an argument
            decay = self.weight_decay if group.weight_decay is None else group.weight_decay
            decay = scaled.pop("weight_decay", decay)
        return whole._replace(
            name=group.name,
            optimizer_kind=kind,
            rule=group.rule or self.rule,
            hyperparameters={**values, **group.hyperparameters, **scaled},
            weight_decay=decay,
            decay=group.decay or self.decay,
            schedule=self.schedule if group.schedule is None else group.schedule,
            modify=modify,
        )

    @property
    def structure(self) -> str:
        """Text that runs share if the same kinds of rules update the same parameters; "" for one
        rule of all parameters.
        """
        return self._of_all_seeds.structure

    @property
    def _of_all_seeds(self) -> _WithoutSeed:
        try:
            return self._without_seed
        except AttributeError:
            object.__setattr__(self, "_without_seed", _WithoutSeed(self))
            return self._without_seed

    def with_seed(self, seed: int) -> RunSpec:
        """Return the run with another seed; it shares all other values with this one.

        Most are copied when they are first used: many commands use few values of many runs.
        """
        run = object.__new__(RunSpec)
        shared = self._of_all_seeds
        object.__setattr__(run, "_without_seed", shared)
        object.__setattr__(run, "seed", seed)
        any(map(call, _SETTERS, repeat(run), shared.often_used))  # each returns None
        return run

    if not TYPE_CHECKING:  # else every name would pass for a field

        def __getattr__(self, name: str) -> Any:
            """Copy a shared value: Python asks here for those that `with_seed` has not set."""
            if name not in _SHARED:
                raise AttributeError(f"a run has no {name!r}", name=name, obj=self)
            value = getattr(self._without_seed.run, name)
            object.__setattr__(self, name, value)
            return value

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the run whose `as_dict` this is, also after a round trip through JSON."""
        typed = dict(values)
        for name in ("metrics", "evaluate_on", "whole_split"):
            typed[name] = tuple(values.get(name, ()))
        if probes := values.get("probes"):
            typed["probes"] = ProbeSettings(**probes | {"measure": tuple(probes["measure"])})
        if select := values.get("select"):
            typed["select"] = Selection(**select)
        if stopping := values.get("early_stopping"):
            typed["early_stopping"] = EarlyStopping(**stopping)
        if average := values.get("average"):
            typed["average"] = Average(**average)
        if fold := values.get("fold"):
            typed["fold"] = Fold(**fold)
        if rung := values.get("rung"):
            typed["rung"] = Rung(**rung)
        typed["groups"] = tuple(map(ParameterGroup.from_dict, values.get("groups", ())))
        typed["as_vectors"] = tuple(values.get("as_vectors", ()))
        typed["modify"] = tuple(values.get("modify", ()))
        return cls(**typed)

    def as_dict(self) -> dict[str, Any]:
        """Return all fields as JSON-able values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("probes", "select", "early_stopping", "average", "fold", "rung"):
            if values[name] is not None:
                values[name] = values[name]._asdict()
        values["groups"] = tuple(group.as_dict() for group in self.groups)
        return values


_SHARED = {field.name for field in fields(RunSpec)} - {"seed"}
_OFTEN_USED = ("optimizer", "fold", "steps", "budget_seconds")
_often_used = attrgetter(*_OFTEN_USED)
_SETTERS = [getattr(RunSpec, name).__set__ for name in _OFTEN_USED]


@dataclass(frozen=True, order=True)
class StackId:
    """Runs that are trained together, written ``ENGINE-DIGEST-THREADS``.

    Engine and threads are part of the name because they are part of the numbers of the runs.

    Attributes:
        engine: the engine that trains them, such as "compiled" or "compiled+onednn".
        digest: twelve hexadecimal digits that stand for the set of runs.
        threads: number of CPU threads; 0 leaves it to the engine, and is not written.
    """

    engine: str
    digest: str
    threads: int = 0

    @property
    def is_compiled(self) -> bool:
        """True if the steps of the stack are compiled."""
        return self.engine.startswith("compiled")

    @classmethod
    def of(cls, engine: str, runs: Iterable[RunSpec], threads: int = 0) -> Self:
        """Return the id of the stack of these runs, in any order."""
        return cls(engine, _digest(" ".join(sorted(run.run_id for run in runs))), threads)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the id that `str` wrote.

        Raises:
            ValueError: it is not of the form ``ENGINE-DIGEST`` or ``ENGINE-DIGEST-THREADS``.
        """
        match = _STACK.fullmatch(text)
        if match is None:
            raise ValueError(f"a stack is named ENGINE-DIGEST-THREADS, got '{text}'")
        return cls(match["engine"], match["digest"], int(match["threads"] or 0))

    def __str__(self) -> str:
        return f"{self.engine}-{self.digest}" + f"-{self.threads}" * bool(self.threads)


def setting_text(setting: str) -> str:
    """Return a setting with three significant digits per number: ``lr=0.00316``."""
    return _LONG_NUMBER.sub(lambda number: three_digits(float(number[0])), setting)


def three_digits(value: float) -> str:
    """Return a number with three significant digits: ``0.00316``.

    A share near 1, such as a decay of 0.9999, has as many digits of its distance from 1.
    """
    if 0.99 < value < 1:
        return f"{1 - float(f'{1 - value:.3g}'):.15g}"
    return f"{value:.3g}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
