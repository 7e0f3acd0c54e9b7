"""The targets: everything of optrial that reads what someone wrote."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
import zlib
from functools import cache, partial
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from ruamel.yaml import YAML

from optrial.analysis.claims import parse_claims, parse_target
from optrial.config import StudyFile, override
from optrial.data import load_dataset
from optrial.data.arguments import Arguments
from optrial.data.source import Request
from optrial.data.sources.image_files import read_cifar10, read_mnist
from optrial.errors import Problem, StudyError
from optrial.explain.landscape import make_landscape
from optrial.functions import FUNCTIONS
from optrial.recipes import RECIPES
from optrial.rules import RULES
from optrial.study import Study
from tests.fuzz.mutation import changed_bytes, changed_text, changed_tree
from tests.fuzz.stores import changed_store, intact_store, read_store
from tests.fuzz.target import Target
from tests.small import small_keys

__all__ = ["TARGETS", "valid_inputs"]

_TWO = [
    {"rule": "sgd", "lr": [0.1, 0.5]},
    {"rule": "adam", "lr": {"log": [1e-3, 1e-1], "points": 3}},
]
_TREES: tuple[dict[str, Any], ...] = (
    small_keys(),
    small_keys(optimizers=_TWO, seeds=3, claims=["adam > sgd on test_accuracy by 0.5 points"]),
    small_keys(
        optimizers=[
            {"rule": "adam", "lr": {"log": [1e-3, 1]}},
            {"rule": "lion", "lr": {"log": [1e-4, 1]}},
        ],
        tune={"sampler": "random", "trials": 4, "seeds": 2, "select": "validation_loss"},
        targets={"validation_accuracy": 0.9},
        reported={"test_accuracy": {"adam": 0.9}, "seconds": {"lion": 12}},
        waive={"B05": "on purpose"},
        probes={"measure": ["gradient_norm"], "every": {"steps": 5}, "per_layer": True},
        save="best",
    ),
    small_keys(
        problem={
            "moons": {"dataset": {"name": "moons", "n_samples": 100}, "batch_size": [8, 16]},
            "wide": {
                "dataset": "digits",
                "model": {"kind": "mlp", "hidden": [[8], [8, 8]], "dropout": [0.0, 0.5]},
                "optimizers": {"sgd": {"lr": 0.2}},
                "evaluate": {"on": ["test"]},
            },
        },
        optimizers=_TWO,
    ),
    small_keys(problem=[{"dataset": "circles"}, {"dataset": "diabetes", "loss": "mse"}], name="é"),
    small_keys(
        problem={"function": "rosenbrock", "start": [-1, 1], "noise": 0.1, "n_samples": 50},
        batch_size=1,
        evaluate={},
    ),
    small_keys(
        problem={
            "dataset": {"name": "moons", "n_samples": 200, "test_fraction": 0.2, "random_state": 3},
            "model": {"kind": "mlp", "hidden": [8], "batch_norm": True, "activation": "tanh"},
            "loss": {"name": "cross_entropy", "label_smoothing": 0.1},
            "metrics": ["accuracy", {"name": "f1_macro"}],
        },
        optimizers=[
            {
                "rule": "momentum",
                "lr": 0.1,
                "momentum": [0.5, 0.9],
                "schedule": [{"kind": "cosine"}, {"kind": "step", "every": {"steps": 5}}],
                "clip": {"norm": 1.0, "value": [0.1, 0.2]},
                "weight_decay": {"log": [1e-4, 1e-2], "points": 2},
                "decay": "decoupled",
            },
            {"torch": "torch.optim:Adam", "lr": 0.01, "betas": [[0.9, 0.99]], "name": "theirs"},
            {"torch": "torch.optim:LBFGS", "lr": 1.0, "closure": True},
        ],
        seeds=[1, 2, 4],
        engine="reference",
        precision="float64",
        loss_limit=1e6,
        trackers=[{"name": "tensorboard"}],
    ),
    small_keys(
        optimizers=[
            {
                "rule": "adam",
                "lr": 0.01,
                "groups": [
                    {"match": ["bias", "norm"], "weight_decay": 0, "lr": {"times": 2}},
                    {"match": "layers.0.*", "rule": "sgd", "lr": [0.1, 0.2], "name": "first"},
                    {"match": "head", "freeze": True},
                ],
                "modify": ["agc", {"name": "lookahead", "every": 5}],
                "average": {"ema": 0.99},
            },
            {
                "rule": "momentum",
                "lr": 0.1,
                "modify": [{"name": "grafting", "rule": "sgd"}],
                "sam": 0.05,
                "schedule": {"kind": "one_cycle", "warmup": 0.3},
                "average": {"tail": [0.25, 0.5]},
            },
        ],
        evaluate={"every": {"steps": 10}, "on": ["validation", "test"]},
        accumulate=2,
        early_stopping={"patience": 3, "metric": "validation_loss", "min_delta": 0.01},
    ),
    small_keys(
        optimizers=[
            {"rule": "adam", "lr": {"log": [1e-3, 1]}, "schedule": {"kind": "cosine"}},
            {"rule": "sgd", "lr": {"log": [1e-2, 1]}, "sam": {"rho": 0.05}},
        ],
        budget={"steps": 18},
        tune={"sampler": "halving", "trials": 6, "eta": 2, "rungs": 2, "seeds": 1, "seed": 3},
    ),
    small_keys(
        problem={
            "dataset": "wine",
            "model": {"kind": "mlp", "hidden": [8]},
        },
        folds={"k": 3, "repeats": 2, "stratified": True, "shuffle": True, "seed": 1},
        evaluate={"on": ["validation", "test"]},
    ),
)
_KEYS = (
    *StudyFile.model_fields,
    *("recipe", "rule", "torch", "rule_factory", "lr", "momentum", "betas", "schedule", "clip"),
    *("dataset", "model", "loss", "metrics", "function", "kind", "factory", "args", "hidden"),
    *("n_samples", "noise", "steps", "epochs", "every", "on", "measure", "points", "log", "lin"),
    *("start", "spread", "target", "scale", "test_fraction", "augment", "seed", "trials", "select"),
    *("groups", "match", "times", "freeze", "modify", "sam", "average", "ema", "tail", "patience"),
    *("sampler", "eta", "rungs", "rho", "k", "repeats", "stratified", "shuffle"),
)


@cache
def _study_texts() -> tuple[str, ...]:
    texts = [path.read_text(encoding="utf-8") for path in RECIPES.values()]
    yaml = YAML(typ="safe", pure=True)
    for tree in _TREES:
        stream = io.StringIO()
        yaml.dump(tree, stream)
        texts.append(stream.getvalue())
    anchored = (
        "problem: {dataset: moons}\nbudget: &b {steps: 10}\nevaluate: {every: *b}\n"
        "optimizers: [&a {rule: sgd, lr: 0.1}, {<<: *a, name: other, lr: 1}]\n"
    )
    return (
        *texts,
        anchored,
        "recipe: quickstart\nseeds: 4\n",
        "recipe: quickstart\nbudget: {steps: 9}\n",
    )


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _decoded(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def _changed_study_file(random: Random) -> bytes:
    if random.random() < 0.1:
        return changed_bytes(random, list(map(_encoded, _study_texts())))
    return _encoded(changed_text(random, _study_texts(), _KEYS))


def _read_study_file(content: bytes, folder: Path) -> None:
    path = folder / "study.yaml"
    path.write_bytes(content)
    Study.from_file(path)


def _read_keys(content: bytes, folder: Path) -> None:
    _study(content)


def _study(content: bytes) -> Study:
    return Study(**{"problem": None, "budget": None, "optimizers": None} | json.loads(content))


def _changed_keys(random: Random) -> bytes:
    return json.dumps(changed_tree(random, _TREES, _KEYS)).encode()


_LOCAL = ("moons", "circles", "blobs", "digits", "diabetes", "displacements")


def _read_plan(content: bytes, folder: Path) -> None:
    study = _study(content)
    names = [config.problem.dataset.name for config in study.studies.by_name.values()]
    if set(names) <= set(_LOCAL):  # others would be downloaded
        study.plan(study.load_datasets(folder))


_SETTINGS = (
    *("optimizers.adam.lr=0.01", "optimizers[0].lr={log: [0.1, 1], points: 3}", "seeds=5"),
    *(
        "budget.epochs=2",
        "evaluate.every.steps=5",
        "evaluate.on=[test]",
        "problem.model.hidden=[8, 8]",
    ),
    *("problem.moons.batch_size=3", "problem.wide.optimizers.sgd.lr=1", "problem[0].loss=mse"),
    *("optimizers[sgd].clip.value=0.5", "tune.seeds=3", "optimizers.sgd.schedule[0].kind=cosine"),
    *("trackers=tensorboard", "probes[0]=gradient_norm", "probes.every.steps=3", "claims[0]=x"),
    *("tune={sampler: halving, trials: 9}", "tune.eta=2", "tune.rungs=3", "folds=3", "folds.k=4"),
    *("accumulate=2", "optimizers[0].sam=0.05", "optimizers[0].average={ema: 0.9}"),
    *("optimizers[0].modify=[agc]", "optimizers[0].groups=[{match: bias, lr: 0.1}]"),
    *("problem.dataset.n_samples=10", "targets.validation_loss=0.1", "waive.B05=reason", "name=x"),
)


def _changed_settings(random: Random) -> bytes:
    index = random.randrange(len(_TREES))
    settings = [changed_text(random, _SETTINGS, _KEYS) for _ in range(random.choice((1, 1, 2)))]
    return json.dumps([index, settings]).encode()


def _read_settings(content: bytes, folder: Path) -> None:
    index, settings = json.loads(content)
    keys = override(_TREES[index % len(_TREES)], settings)
    Study(**{"problem": None, "budget": None, "optimizers": None} | keys)


_CLAIMS = (
    "adam > sgd on test_accuracy",
    "adam > sgd on test_accuracy by 0.5 points in moons",
    "'adam lr' ~ \"sgd\" on test_loss within 5%",
    "adam is best on validation_loss in 'moons'",
    "adam reaches test_accuracy 95% in fewer steps than sgd",
    "adam reaches test_loss 0.1 in less time than sgd",
    "adam reaches test_accuracy .95 sooner than sgd",
    "training_seconds 12.5",
)


def _read_claim(content: bytes, folder: Path) -> None:
    text = _decoded(content)
    names = (["adam", "sgd"], ["test_accuracy", "test_loss"])
    known = parse_claims([text], *names, problems=["moons"])[1]
    try:
        parse_target(text)
    except ValueError as error:
        if problems := [*parse_claims([text])[1], *known]:
            raise StudyError([*problems, Problem("", str(error))]) from error


_LANDSCAPES = (
    "rosenbrock|sgd:lr=0.001,momentum:lr=best:momentum=0.95|3|-1.2,1",
    "beale|adam:lr=0.1:beta1=0.5:eps=1e-3|2|0.5,0.5",
    *(f"{name}|{rule}|1|" for name, rule in zip(cycle(sorted(FUNCTIONS)), sorted(RULES))),
)


def _changed_landscape(random: Random) -> bytes:
    return _encoded(changed_text(random, _LANDSCAPES, tuple(RULES)))


def _read_landscape(content: bytes, folder: Path) -> None:
    function, optimizers, steps, start, *_ = [*_decoded(content).split("|"), "", "", ""]
    count = int(steps[:9]) if steps[:9].removeprefix("-").isdecimal() else 1
    make_landscape(function, optimizers or None, min(count, 20), start or None, seed=count)


@cache
def _npz_files() -> tuple[bytes, ...]:
    inputs, labels = np.arange(48.0).reshape(24, 2) % 7, np.arange(24) % 2
    files = [
        {"train_inputs": inputs, "train_targets": labels, "test_inputs": inputs[:4],
         "test_targets": labels[:4]},
        {"X": inputs.astype("f4", order="F"), "y": labels.astype("u1")},
        {"x_train": (inputs > 3), "y_train": labels.astype("U3"), "other": np.zeros((0, 3))},
        {"data": np.zeros(24, [("a", "f4"), ("b", "i2")]), "target": labels},
        {"inputs": inputs.astype("c8"), "targets": inputs[:, 0]},
        {"images": np.zeros((24, 5, 5, 3), "u1"), "labels": labels.astype("M8[s]")},
        {"x": np.array(3.0), "y": np.array([{}] * 3)},
    ]  # fmt: skip
    contents = []
    for arrays in files:
        for save in (np.savez, np.savez_compressed):
            stream = io.BytesIO()
            save(stream, **arrays)  # type: ignore[arg-type]
            contents.append(stream.getvalue())
    return tuple(contents)


def _changed_npz(random: Random) -> bytes:
    if random.random() < 0.5:
        return changed_bytes(random, _npz_files())
    return _with_another_header(random, random.choice(_npz_files()))


def _with_another_header(random: Random, content: bytes) -> bytes:
    """Change the text of an array's header, at the same length, within an archive."""
    start = content.find(b"{'descr'")
    if start < 0:
        return changed_bytes(random, [content])
    end = content.find(b"\n", start)
    text = changed_text(random, [content[start:end].decode("latin-1").rstrip()])
    header = text.encode("utf-8", "replace")[: end - start].ljust(end - start)
    return _with_right_checksums(content[:start] + header + content[end:])


def _with_right_checksums(content: bytes) -> bytes:
    """Compute the checksums of an archive again, so that its changed members are read."""
    stream = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
            for info in old.infolist():
                info.CRC = 0
                with old.open(info) as member:
                    member._expected_crc = None  # type: ignore[attr-defined]
                    new.writestr(info.filename, member.read())
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error):
        return content
    return stream.getvalue()


def _read_data(suffix: str, arguments: dict[str, object], content: bytes, folder: Path) -> None:
    path = folder / f"data{suffix}"
    path.write_bytes(content)
    for targets in ("classes", "any"):
        load_dataset(str(path), arguments, targets=targets)  # type: ignore[arg-type]


_TABLES = (
    "a,b,y\n" + "".join(f"{i % 7},{i * 0.5},{'pq'[i % 2]}\n" for i in range(30)),
    "a;b;y\n" + "".join(f"{i},5;{i % 3};{i % 2}\n" for i in range(30)),
    "sep=\t\na\tb\ty\n" + "".join(f"{i}\t{i}.5\t{i % 2}\n" for i in range(30)),
    "# comment\n" + "".join(f"{i} {i * i} {i % 2}\n" for i in range(30)),
    '"a","b ""c""","y"\n' + "".join(f'"{i}","x,{i}\n",{i % 2}\n' for i in range(30)),
    "a,b,y\n" + "".join(f"{i},2024-{i:02}x,{i % 2}\n" for i in range(1, 30)),
    "a,b,y\n" + "".join(f"1.{i:03}.000,NA,{i % 2}\n" for i in range(30)),
)
_ENCODINGS = ("utf-8", "utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-32", "utf-16-le")
_TABLE_ARGUMENTS: tuple[dict[str, object], ...] = (
    *({"target": "y", "targets": "labels"}, {"target": "y"}, {"target": "3", "header": False}),
    *(
        {"target": "y", "comment": "#"},
        {"target": "y", "decimal": ","},
        {"target": "y", "thousands": "."},
    ),
    *(
        {"target": "y", "encoding": "utf-16"},
        {"target": "y", "names": ["a", "b", "y"], "header": True},
    ),
)


def _changed_table(random: Random) -> bytes:
    text = changed_text(random, _TABLES, ("a,b", '"', "NA", "1e5", "1.000", "é"))
    content = text.encode(random.choice(_ENCODINGS), "replace")
    if random.random() < 0.1:
        content = changed_bytes(random, [gzip.compress(content)])
    usual = random.random() < 0.5
    return bytes([0 if usual else random.randrange(len(_TABLE_ARGUMENTS))]) + content


def _read_table(content: bytes, folder: Path) -> None:
    index = content[0] if content else 0
    _read_data(".csv", _TABLE_ARGUMENTS[index % len(_TABLE_ARGUMENTS)], content[1:], folder)


def _idx(*shape: int) -> bytes:
    header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    return header + bytes(int(np.prod(shape)))


_IDX = tuple(gzip.compress(_idx(*shape), mtime=0) for shape in ((6, 4, 4), (6,), (0,), (2, 0, 3)))


def _changed_idx(random: Random) -> bytes:
    kind = random.choice((b"\0", b"\1"))
    if random.random() < 0.5:
        return kind + changed_bytes(random, _IDX)
    content = changed_bytes(random, [gzip.decompress(part) for part in _IDX])
    return kind + gzip.compress(content, mtime=0)


def _read_idx(content: bytes, folder: Path) -> None:
    is_image = content[:1] == b"\0"  # the first byte says which of the files the others are
    images, labels = (content[1:], _IDX[1]) if is_image else (_IDX[0], content[1:])
    for split in ("train", "t10k"):
        (folder / f"{split}-images-idx3-ubyte.gz").write_bytes(images)
        (folder / f"{split}-labels-idx1-ubyte.gz").write_bytes(labels)
    read_mnist(Request("mnist", Arguments(), folder=folder))


_read_parquet = partial(_read_data, ".parquet", {"target": "y", "targets": "labels"})

_CIFAR = (bytes(3073 * 2), bytes(range(256)) * 24 + bytes(2), b"")


def _read_cifar(content: bytes, folder: Path) -> None:
    for name in (*(f"data_batch_{part}" for part in range(1, 6)), "test_batch"):
        (folder / f"{name}.bin").write_bytes(content)
    read_cifar10(Request("cifar-10", Arguments(), folder=folder))


@cache
def _parquet_files() -> tuple[bytes, ...]:
    frame = pd.DataFrame(
        {"a": np.arange(24) % 5, "b": ["p", "qq", None] * 8, "y": np.arange(24) % 2}
    )
    frames = [frame, frame.assign(b=[[1.0], [], None] * 8), frame.astype({"b": "category"})]
    contents = []
    for number, content in enumerate(frames):
        stream = io.BytesIO()
        compression = ("snappy", "gzip", "zstd")[number]
        content.to_parquet(stream, compression=compression, row_group_size=9)
        contents.append(stream.getvalue())
    return tuple(contents)


@cache
def _pictures() -> tuple[bytes, ...]:
    pixels = (np.arange(4 * 5 * 3) % 251).astype(np.uint8).reshape(4, 5, 3)
    contents = []
    for kind, mode in (("png", "RGB"), ("png", "1"), ("png", "P"), ("jpeg", "RGB"), ("gif", "L")):
        stream = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(stream, kind)
        contents.append(stream.getvalue())
    return tuple(contents)


def _changed_picture(random: Random) -> bytes:
    content = random.choice(_pictures())
    changed = changed_bytes(random, [content])
    return _with_right_chunks(changed) if random.random() < 0.5 else changed


def _with_right_chunks(content: bytes) -> bytes:
    """Compute the checksums of a PNG file again, so that its changed chunks are read."""
    changed, place = bytearray(content), 8
    while place + 12 <= len(changed):
        end = place + 8 + int.from_bytes(changed[place : place + 4], "big")
        if end + 4 > len(changed):
            break
        changed[end : end + 4] = zlib.crc32(changed[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(changed)


def _read_pictures(content: bytes, folder: Path) -> None:
    for label, pictures in (("a", [content, _pictures()[0]]), ("b", _pictures()[:2])):
        (folder / "pictures" / label).mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(pictures):
            (folder / "pictures" / label / f"{number}.png").write_bytes(picture)
    load_dataset(str(folder / "pictures"), {})


TARGETS = {
    target.name: target
    for target in (
        Target("study file", _changed_study_file, _read_study_file, 0.12),
        Target("study keys", _changed_keys, _read_keys, 0.12),
        Target("plan", _changed_keys, _read_plan, 0.04),
        Target("set", _changed_settings, _read_settings, 0.12),
        Target("claim", lambda r: _encoded(changed_text(r, _CLAIMS)), _read_claim, 0.1),
        Target("landscape", _changed_landscape, _read_landscape, 0.1),
        Target("npz", _changed_npz, partial(_read_data, ".npz", {}), 0.15),
        Target("csv", _changed_table, _read_table, 0.1),
        Target("idx", _changed_idx, _read_idx, 0.075),
        Target("cifar", lambda r: changed_bytes(r, _CIFAR), _read_cifar, 0.075),
        Target("parquet", lambda r: changed_bytes(r, _parquet_files()), _read_parquet, 0.03),
        Target("images", _changed_picture, _read_pictures, 0.03),
        Target("store", changed_store, read_store, 0.05),
    )
}


def valid_inputs(name: str) -> list[bytes]:
    """Return inputs that a target reads without an error; most mutations begin with them."""
    trees = [json.dumps(tree).encode() for tree in _TREES]
    inputs = {
        "study file": [*map(_encoded, _study_texts())],
        "study keys": trees,
        "plan": trees[:2],
        "set": [json.dumps([1, [setting]]).encode() for setting in _SETTINGS[:4]],
        "claim": [*map(_encoded, _CLAIMS[:2])],
        "landscape": [*map(_encoded, _LANDSCAPES)],
        "npz": list(_npz_files()[:6]),
        "csv": [b"\0" + _encoded(table) for table in _TABLES[:3]],
        "idx": [b"\0" + _IDX[0], b"\1" + _IDX[1]],
        "cifar": list(_CIFAR[:2]),
        "parquet": list(_parquet_files()[::2]),
        "images": list(_pictures()[:2]),
        "store": [intact_store()],
    }
    return inputs[name]
