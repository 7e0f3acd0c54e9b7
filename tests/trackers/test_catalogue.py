"""What is wrong with a study's trackers is said before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import optrial
from optrial.config import Component
from optrial.errors import StoreError, StudyError
from optrial.trackers import Tracking, catalogue


def study(trackers: Any) -> optrial.Study:
    return optrial.Study(
        problem={"dataset": "digits"},
        budget={"steps": 1},
        optimizers=[{"rule": "sgd"}],
        trackers=trackers,
    )


@pytest.mark.parametrize(
    ("trackers", "message"),
    [
        (["tensorbord"], "trackers[0]: 'tensorbord' is not a tracker. Did you mean 'tensorboard'?"),
        (
            ["mlflow", {"name": "wandb", "projekt": "x"}],
            "trackers[1].projekt: is not an argument of wandb. Did you mean 'project'?",
        ),
        ([{"name": "wandb", "mode": "of"}], "trackers[0].mode: 'of' is not allowed."),
        ([{"name": "wandb", "project": 7}], "trackers[0].project: 7: must be text."),
        (
            [{"name": "mlflow", "tracking_uri": "https://me:secret@host"}],
            "must not hold a password",
        ),
        (["wandb", "wandb"], "must not repeat a value"),
        ([7], "must be a name or a mapping with the key 'name'"),
    ],
)
def test_problems_are_named_with_a_way_out(trackers: Any, message: str) -> None:
    with pytest.raises(StudyError) as caught:
        study(trackers)
    assert message in str(caught.value)


def test_one_tracker_needs_no_list_and_a_store_holds_it_again() -> None:
    config = study("tensorboard").config
    assert config.trackers == (Component(name="tensorboard"),)
    again = optrial.Study(**config.model_dump(mode="json"))
    assert again.config.trackers == config.trackers


def test_a_missing_library_is_said_before_data_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(catalogue, "find_spec", lambda name: None)
    wanted = study(["tensorboard", "mlflow"])
    monkeypatch.setattr(wanted, "load_data", None)
    with pytest.raises(StudyError) as caught:
        wanted.run(tmp_path / "out")
    for name in ("tensorboard", "mlflow"):
        assert f"{name} is not installed. Run: pip install 'optrial[{name}]'" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_trackers_need_a_folder() -> None:
    with pytest.raises(StoreError, match="needs a folder"):
        Tracking([Component(name="tensorboard")], "study", "postgresql://host/study", print)


def test_trackers_are_no_part_of_a_run() -> None:
    ids = [[run.run_id for run in study(t).plan().runs] for t in ([], ["tensorboard", "wandb"])]
    assert ids[0] == ids[1]
