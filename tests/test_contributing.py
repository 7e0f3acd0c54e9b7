"""The recipes of CONTRIBUTING.md work: each is followed in a copy of the package.

`tests/contributing` has what one would write: new modules, and for existing modules the lines to
insert. A study then uses all of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import optrial

PACKAGE = Path(optrial.__file__).parent
ADDITIONS = Path(__file__).with_name("contributing")

INSERTED: Mapping[str, list[tuple[str, str]]] = {
    # Add a rule.
    "rules/catalogue.py": [
        ("from optrial.rules.rule import Rule\n", "from optrial.rules.tiger import TIGER\n"),
        ("            LION,\n", "            TIGER,\n"),
    ],
    # Add a dataset.
    "data/arguments.py": [
        (
            "class CirclesArguments(MoonsArguments):\n",
            'class SpiralsArguments(SplitArguments):\n    """Arguments of two spirals."""\n\n'
            '    n_samples: int = Field(200, description="samples in total")\n\n\n',
        )
    ],
    "data/catalogue.py": [
        ("    CirclesArguments,\n", "    SpiralsArguments,\n"),
        (
            "_ENTRIES = (\n",
            "    DatasetEntry(\n"
            '        name="spirals",\n'
            '        summary="two interleaving spirals in the plane",\n'
            "        arguments=SpiralsArguments,\n"
            '        reader="spirals:draw_spirals",\n'
            "        input_shape=(2,),\n"
            "    ),\n",
        ),
    ],
    # Add a model.
    "models/catalogue.py": [
        (
            "from optrial.models.rnn import RNNArguments\n",
            "from optrial.models.quadratic import QuadraticArguments\n",
        ),
        (
            "_ENTRIES = (\n",
            '    ModelEntry("quadratic", "linear in all products of two inputs",\n'
            "               QuadraticArguments, frozenset()),\n",
        ),
    ],
    # Add a metric.
    "spec/metrics.py": [
        (
            "METRICS: Mapping[str, Metric] = {\n",
            '    "margin": Metric("mean margin of the right class", "higher", "labels", False),\n',
        ),
        # Add a probe.
        ("PROBES: Mapping[str, Probe] = {\n", '    "update_norm": Probe("||change of w||", 0),\n'),
    ],
    "models/objective/metrics.py": [
        (
            "_SUMS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {\n",
            '    "margin": lambda outputs, targets: (\n'
            "        2 * outputs.gather(-1, targets[:, None])[:, 0] - outputs.sum(-1)\n"
            "    ).double().sum(),\n",
        )
    ],
    "engine/probes.py": [
        (
            '                    "weight_norm": weight.sqrt(),\n',
            '                    "update_norm": updates[layer].sqrt(),\n',
        )
    ],
    # Add an audit rule.
    "analysis/audit/replication.py": [
        (
            "from optrial.analysis.audit.context import Context, names\n",
            "from optrial.analysis.audit.even_seeds import even_seeds as even_seeds\n",
        ),
    ],
    # Add a tracker.
    "trackers/catalogue.py": [
        (
            "TRACKERS: Mapping[str, TrackerKind] = {\n",
            '    "lines": TrackerKind(_imported("lines", "Lines"), ["json"], {}),\n',
        )
    ],
}

STUDY = {
    "name": "added",
    "problem": {"dataset": "spirals", "model": {"kind": "quadratic"}, "metrics": ["margin"]},
    "batch_size": 20,
    "budget": {"epochs": 2},
    "seeds": 2,
    "optimizers": [{"rule": "tiger", "lr": 0.01}, {"rule": "sgd", "lr": 0.1}],
    "probes": ["update_norm"],
    "trackers": ["lines"],
}
SCRIPT = """
import json, optrial
results = optrial.Study(**json.loads({study!r})).run("out")
print(json.dumps({{
    "statuses": sorted({{run.status for run in results.records}}),
    "metrics": sorted({{name for run in results.records for name in run.metrics}}),
    "findings": [finding.rule for finding in results.audit().findings],
}}))
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the package to which every recipe was applied."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(
        PACKAGE, folder / "optrial", ignore=shutil.ignore_patterns("__pycache__", "*.yaml")
    )
    shutil.copytree(ADDITIONS, folder / "optrial", dirs_exist_ok=True)
    for name, insertions in INSERTED.items():
        module = folder / "optrial" / name
        text = module.read_text(encoding="utf-8")
        for place, lines in insertions:
            assert text.count(place) == 1, f"{name} has {text.count(place)} times: {place}"
            after = place + lines if not lines.startswith("class ") else lines + place
            text = text.replace(place, after)
        module.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def outcome(extended: Path) -> dict[str, Any]:
    """What a study reports that uses everything added."""
    script = SCRIPT.format(study=json.dumps(STUDY))
    answer = subprocess.run(
        [sys.executable, "-c", script],
        cwd=extended,
        env=os.environ | {"PYTHONPATH": str(extended)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    outcome: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return outcome


@pytest.mark.slow
def test_rule_dataset_and_model_are_trained(outcome: Mapping[str, Any]) -> None:
    assert outcome["statuses"] == ["done"]


def test_metric_and_probe_are_recorded(outcome: Mapping[str, Any]) -> None:
    assert {"test_margin", "update_norm"} <= set(outcome["metrics"])


def test_audit_rule_fires(outcome: Mapping[str, Any]) -> None:
    assert "D99" in outcome["findings"]


def test_tracker_receives_every_run(outcome: Mapping[str, Any], extended: Path) -> None:
    del outcome
    lines = (extended / "out" / "lines.jsonl").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if json.loads(line)["event"] == "end"]) == 4
