"""Write docs/audit.md from the catalogue of audit rules: python docs/make_audit.py"""

from __future__ import annotations

import textwrap
from pathlib import Path

from optrial.analysis.audit import AUDIT_RULES, SECTIONS, AuditRule
from optrial.analysis.audit.report import LABELS

INTRODUCTION = """\
# Audit

An audit checks from the records of a study whether its comparison supports its conclusions. There
are {count} rules. Each finding names the runs concerned, the evidence, and the cheapest experiment
that clears it, with its cost. [How to read an audit](how-to/audit.md) explains one line by line.

| severity | meaning | exit status |
| --- | --- | --- |
| E | blocks the claim | 2 |
| W | must be disclosed beside the claim | 1 |
| I | good to know | 0 |

To break a rule on purpose, waive it with a reason, which every report shows:

    waive: {{A05: the published settings are compared}}

If no run recorded the facts that a rule needs, it is listed as not checked. Rules that need no
claims also apply to studies without any.

## Claims

A claim states, before the study runs, what it should show. The audit calls it supported, refuted or
undecided:

    claims:
      - adam > sgd on test_accuracy
      - adam > sgd on test_accuracy by 0.5 points
      - adam is best on test_loss
      - adam ~ "my optimizer" on test_loss within 5%
      - adam reaches validation_accuracy 95% in fewer steps than sgd
      - adam reaches validation_accuracy 95% in less time than sgd

`>` means "is better than": lower for a loss, and the
[declared direction](study-file.md#losses-and-metrics) for any other metric; only `~` needs no
direction. For an accuracy, `points` and `%` are percentage points; for any other metric, `5%` is
relative to the mean of the second optimizer.

Every claim is tested by a paired permutation test over common seeds, corrected for the number of
claims (Bonferroni); `~` by two one-sided tests. The interval beside a verdict inverts the same
test. "Is best" is supported if it beats every rival, and refuted if any rival beats it. A diverged
run is worse than every finished run, but divergence alone does not support a claim: the seeds on
which both optimizers finished must agree. A claim can also be on `training_seconds`, the training
time of a run; the rules of section F check whether such times are comparable.

In a study of several problems, a claim may end with `in PROBLEM`, as in `adam > sgd on
test_accuracy in moons`. Otherwise it is decided on each problem separately, and holds for the study
only if it is supported on every problem. Claims on several problems count once per problem in the
correction.

A claim about a target (`sooner than` is short for `in fewer steps than`) is decided by a sign test:
on each common seed, which run reaches the target first? A run that has not reached it when training
ends loses to one that has; diverged runs count as above. Times are training seconds without
evaluation. Runs of a stack share their time, so a claim on them stays undecided.

Sources give the origin of a rule; its text and thresholds are those of this project.
"""


def entry(rule: AuditRule) -> str:
    """Return the entry of a rule: severity, needed facts, why, source, example and fix."""
    parts = rule.documentation
    facts = f" Needs {', '.join(f'`{path}`' for path in rule.facts)}." if rule.facts else ""
    lines = [f"{rule.severity}, {LABELS[rule.severity]}.{facts} {parts.pop('Why')}"]
    lines += [f"- {name}: {text}" for name, text in parts.items()]
    filled = [
        textwrap.fill(line, 100, subsequent_indent=indent, break_long_words=False)
        for line, indent in zip(lines, ["", *["  "] * len(parts)], strict=True)
    ]
    return f"### {rule.id} {rule.title}\n\n{filled[0]}\n\n" + "\n".join(filled[1:]) + "\n"


def page() -> str:
    """Return the whole page."""
    text = INTRODUCTION.format(count=len(AUDIT_RULES))
    for letter, name in SECTIONS.items():
        rules = [entry(rule) for rule in AUDIT_RULES.values() if rule.id.startswith(letter)]
        text += f"\n## {letter}. {name}\n\n" + "\n".join(rules)
    return text


if __name__ == "__main__":
    Path(__file__).with_name("audit.md").write_text(page(), encoding="utf-8")
