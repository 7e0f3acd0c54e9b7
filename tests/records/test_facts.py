"""Facts as they are stored, and as older or newer versions stored them."""

from __future__ import annotations

import json

from optrial.records.encoding import decode_facts, encode_facts
from optrial.spec import Certificate, EvaluationCheck, RunFacts, Scale, Scales, Seconds

FACTS = RunFacts(
    versions={"python": "3.11"},
    git_dirty=False,
    seconds=Seconds(1.5, 0.5),
    input_shape=(1, 8, 8),
    scale=Scales(inputs=Scale(0.1, 1.0, whole=False)),
    evaluation=EvaluationCheck(("dropout",), ("a", "b"), ("c", "c")),
    stack_certificate=Certificate(0.1, 1e-3, steps=2),
)


def test_facts_survive_json_without_those_that_are_missing() -> None:
    stored = encode_facts(FACTS)
    assert decode_facts(json.loads(json.dumps(stored))) == FACTS
    assert "engine" not in stored


def test_unknown_and_malformed_facts_are_none() -> None:
    stored = {"engine": "stacked", "colour": "red", "seconds": {"total": 2.0}, "scale": 3}
    assert decode_facts(stored) == RunFacts(engine="stacked")
    assert decode_facts({"seconds": {"training": 1.0, "evaluation": 2.0, "saving": 3.0}}) == (
        RunFacts(seconds=Seconds(1.0, 2.0))
    )


def test_the_facts_on_the_right_win_where_there_are_any() -> None:
    both = FACTS | RunFacts(git_dirty=True, engine="numpy")
    assert (both.git_dirty, both.engine, both.seconds) == (True, "numpy", Seconds(1.5, 0.5))


def test_a_certificate_fails_beyond_its_tolerance() -> None:
    assert FACTS.stack_certificate is not None
    assert FACTS.stack_certificate.fails
    assert Certificate(None, 1.0).fails
    assert Certificate(float("nan"), 1.0).fails
    assert not Certificate(0.0, 0.0).fails
