"""Writes docs/audit.md from the catalogue of audit rules: python docs/make_audit.py"""

from __future__ import annotations

import textwrap
from pathlib import Path

from optrial.analysis.audit import AUDIT_RULES, SECTIONS, AuditRule, Severity

INTRODUCTION = """\
# Audit

An audit checks from the records of a study whether its comparison supports what it is to show. It
knows {count} rules; each finding names the runs concerned, the evidence, and the cheapest
experiment that would clear it, with its cost.

| severity | meaning | exit status |
| --- | --- | --- |
| E | blocks the claim | 2 |
| W | must be disclosed beside the claim | 1 |
| I | good to know | 0 |

A rule that is broken on purpose is waived with a reason, which every report shows:

    waive: {{A05: the published settings are what is compared}}

A rule whose facts no run recorded is listed as not checked. A study without claims is audited too,
by the rules that need none.

## Claims

What a study sets out to show is written down before it runs, and comes out supported, refuted or
undecided:

    claims:
      - adam > sgd on test_accuracy
      - adam > sgd on test_accuracy by 0.5 points
      - adam is best on test_loss
      - adam ~ "my optimizer" on test_loss within 5%
      - adam reaches validation_accuracy 95% in fewer steps than sgd
      - adam reaches validation_accuracy 95% in less time than sgd

`>` reads "is better than": lower for a loss, and what the catalogue or the study
[declares](study-file.md#losses-and-metrics) for a metric; only `~` needs no direction. `points` are
percentage points of an accuracy, for which `%` means the same; of another metric `5%` is that
share of the second's mean. Every claim is decided by the paired permutation test over common
seeds, with Holm's correction over all claims; `~` by two one-sided tests; "is best" is supported
where it beats every rival, and refuted where one beats it. A run that diverged is worse than every
run that did not, but no claim is supported by divergence alone: the seeds on which both finished
must say the same. A claim may also be on `training_seconds`, how long a run was trained; the rules
under F say what such times are worth.

In a study of several problems, a claim may end with `in PROBLEM`, as in `adam > sgd on
test_accuracy in moons`. Without, it is decided on each problem by itself, and it is shown for the
study only where it is supported on every one. Holm's correction is over all claims on all problems.

Claims about a target, where `sooner than` is short for `in fewer steps than`, are decided by the
sign test: over common seeds, which run is there first? A run that has not arrived when its training
ends is second to one that had by then, and a run that diverged decides as above. Seconds are those
of training without evaluation; where runs were trained in stacks they are shared, and the claim
stays undecided.

The sources say where a rule comes from; its text and its limits are this project's.
"""
WORDS = {
    Severity.ERROR: "blocks the claim",
    Severity.WARNING: "must be disclosed",
    Severity.ADVICE: "good to know",
}


def entry(rule: AuditRule) -> str:
    """One rule: severity, why, source, example, how to fix, and the facts it needs."""
    parts = rule.documentation
    facts = f" Needs {', '.join(f'`{path}`' for path in rule.facts)}." if rule.facts else ""
    lines = [f"{rule.severity}, {WORDS[rule.severity]}.{facts} {parts.pop('Why')}"]
    lines += [f"- {name}: {text}" for name, text in parts.items()]
    filled = [textwrap.fill(line, 100, break_long_words=False) for line in lines]
    return f"### {rule.id} {rule.title}\n\n{filled[0]}\n\n" + "\n".join(filled[1:]) + "\n"


def page() -> str:
    """The whole page."""
    text = INTRODUCTION.format(count=len(AUDIT_RULES))
    for letter, name in SECTIONS.items():
        rules = [entry(rule) for rule in AUDIT_RULES.values() if rule.id.startswith(letter)]
        text += f"\n## {letter}. {name}\n\n" + "\n".join(rules)
    return text


if __name__ == "__main__":
    Path(__file__).with_name("audit.md").write_text(page(), encoding="utf-8")
