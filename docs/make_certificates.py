"""Write docs/certificates.md: python docs/make_certificates.py

Certifies every optimizer of torch.optim and of pytorch_optimizer that has a rule here, which takes
about two minutes of two idle cores.
"""

from __future__ import annotations

import sys
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytorch_optimizer
import torch

import optrial
from optrial.certifying import Certificate, Kind
from optrial.certifying.text import place_of
from optrial.replay.binding import rules_named

PACKAGES = {"torch.optim": torch.optim, "pytorch_optimizer": pytorch_optimizer}

ARGUMENTS: Mapping[str, dict[str, Any]] = {
    "pytorch_optimizer:AdaFactor": {"relative_step": False, "betas": (None, 0.999)},
    "pytorch_optimizer:Lamb": {"weight_decouple": False},
    "pytorch_optimizer:RAdam": {"degenerated_to_sgd": True},
}
"""Arguments that choose the variant that the rule describes, where a class has several."""

_GROUPS = (
    "it takes groups with a switch `use_muon` in place of parameters: matrices that it "
    "orthogonalises, and others for AdamW. A function of the parameters that makes such groups can "
    "be certified."
)

OTHERS: Mapping[str, str] = {
    "pytorch_optimizer:ASGD": "it is another algorithm of the same name, SGD with a learning rate "
    "that adapts to an estimate of the smoothness, and averages no weights.",
    "pytorch_optimizer:AdamMini": "it takes a model in place of parameters, and divides its "
    "weights by their names.",
    "pytorch_optimizer:Muon": _GROUPS,
    "pytorch_optimizer:NorMuon": _GROUPS,
    "pytorch_optimizer:Kron": "it draws random numbers, as psgd_kron does, and others. With the "
    "same draws, in float64, it takes the steps of psgd_kron on matrices and vectors without "
    "weight decay, as a test of the rule shows.",
}
"""Classes that cannot be certified beside the rule of their name, and why."""

INTRODUCTION = """\
# Certificates

Results of `optrial certify` for the optimizers of `torch.optim` and `pytorch_optimizer` that have
a rule here. Written by `docs/make_certificates.py`, with {versions}, seed 0, on the CPU.
[How to certify an optimizer](how-to/certify.md) explains the verdicts and how to repeat this.

A certificate compares a class with the equations of the rule of its name, and with what PyTorch
says of all optimizers. "Differs" is no judgement: a class may follow another version of a paper on
purpose, and most of the differences below do not matter to most trainings. "equations" stands for
steps that are not those of the rule, "gradients" for a step that changes the gradients in place,
which only matters to code that uses them afterwards. Classes are certified
with their default variant, unless arguments are given. Each finding comes with a script that shows
it: `optrial certify NAME` prints it.

| class | beside | verdict | differs in |
| --- | --- | --- | --- |
"""


def classes() -> Iterator[str]:
    """Yield the names of all classes that have a rule here, each class once."""
    seen: set[type] = set()
    for package, module in PACKAGES.items():
        for name in sorted(dir(module)):
            thing = getattr(module, name)
            is_class = isinstance(thing, type) and issubclass(thing, torch.optim.Optimizer)
            if is_class and thing not in seen and rules_named(name):
                seen.add(thing)
                yield f"{package}:{name}"


def entry(certificate: Certificate) -> str:
    """Return the section of a class; empty if nothing was found."""
    lines = [f"- {sentence}" for sentence in findings(certificate)]
    if certificate.reason:
        lines.append(f"- Not comparable: {escaped(certificate.reason)}")
    if not lines:
        return ""
    filled = (
        textwrap.fill(line, 200, subsequent_indent="  ", break_long_words=False) for line in lines
    )
    given = ARGUMENTS.get(certificate.target)
    extra = f" With {', '.join(f'`{k}={v}`' for k, v in given.items())}." if given else ""
    verdict = f"{certificate.verdict.capitalize()}.{extra}"
    return f"### {certificate.target}\n\n{verdict}\n\n" + "\n".join(filled) + "\n"


def findings(certificate: Certificate) -> Iterator[str]:
    """Yield faults and conventions as sentences."""
    for kind, label in ((Kind.FAULT, "Differs"), (Kind.CONVENTION, "Convention")):
        for finding in certificate.of_kind(kind):
            where = place_of(finding)
            place = f" (first at {where})" if where else ""
            yield f"{label}, {escaped(finding.name)}: it {escaped(finding.sentence + place)}."


def escaped(text: str) -> str:
    """Keep Markdown from reading a sentence as markup; code in backticks stays."""
    parts = text.split("`")
    plain = [part.replace("*", r"\*").replace("_", r"\_").replace("<", "&lt;") for part in parts]
    return "`".join(p if i % 2 else plain[i] for i, p in enumerate(parts))


def page(certificates: list[Certificate]) -> str:
    """Return the whole page."""
    versions = {name: v for c in certificates for name, v in c.versions.items()}
    text = INTRODUCTION.format(versions=", ".join(f"{n} {v}" for n, v in versions.items()))
    for certificate in certificates:
        against = ", ".join(f"[{r}](rules/{r}.md)" for r in certificate.against)
        faults = ", ".join(escaped(f.name) for f in certificate.of_kind(Kind.FAULT))
        text += f"| `{certificate.target}` | {against} | {certificate.verdict} | {faults} |\n"
    for package in PACKAGES:
        sections = [entry(c) for c in certificates if c.target.startswith(f"{package}:")]
        text += f"\n## {package}\n\n" + "\n".join(filter(None, sections))
    return text


def certificate_of(name: str) -> Certificate:
    """Return the certificate of a class."""
    if name in OTHERS:
        return Certificate(name, (), (), {}, {}, seed=0, draws=0, reason=OTHERS[name])
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    certificate = optrial.certify(name, arguments=ARGUMENTS.get(name))
    sys.stderr.write(f"{certificate.summary}\n")
    return certificate


if __name__ == "__main__":
    with ProcessPoolExecutor() as pool:
        results = list(pool.map(certificate_of, classes()))
    Path(__file__).with_name("certificates.md").write_text(page(results), encoding="utf-8")
