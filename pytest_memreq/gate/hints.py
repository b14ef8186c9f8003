"""Known causes of a large peak, each shown only where the figures have its evidence.

A rule reads what was found out and gives its evidence in one line, or None. What it needs and does
not know (a measured test has no `work`, and sites only where the history was recorded) leaves it
silent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_memreq.gate.evidence import (
    float32_logits,
    foreach,
    fragmented,
    kept_gradients,
    kept_graph,
    left_by_tests,
    math_attention,
    recorded,
    weights_twice,
)
from pytest_memreq.requirement import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """A cause by its word, the figures that show it, and what may help."""

    word: str
    evidence: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How a cause is recognised: `evidence` gives the line, None where it is not to be seen."""

    word: str
    evidence: Callable[[Finding], str | None]
    advice: str


def hints(finding: Finding) -> tuple[Hint, ...]:
    """The hints whose evidence is in a finding, in the order of the table."""
    found = [(rule, rule.evidence(finding)) for rule in RULES]
    return tuple(
        Hint(word=rule.word, evidence=evidence, advice=rule.advice)
        for rule, evidence in found
        if evidence is not None
    )


def describe_hint(hint: Hint) -> tuple[str, str]:
    """Two lines: what the figures show, and what may help."""
    return f"hint ({hint.word}): {hint.evidence}", f"  {hint.advice}"


RULES: tuple[Rule, ...] = (
    Rule(
        word="no_grad",
        evidence=recorded,
        advice="where no gradients are wanted, run it under torch.no_grad() or "
        "torch.inference_mode()",
    ),
    Rule(
        word="kept_graph",
        evidence=kept_graph,
        advice="something refers to their graph: keep loss.item() or loss.detach() instead of the "
        "loss, and leave out retain_graph=True",
    ),
    Rule(
        word="float32_logits",
        evidence=float32_logits,
        advice="leave out .float() and let the loss work in chunks, or compute it with a fused "
        "kernel that needs no copy of the logits",
    ),
    Rule(
        word="foreach",
        evidence=foreach,
        advice="give the optimizer fused=True, or foreach=False, which is slower",
    ),
    Rule(
        word="kept_gradients",
        evidence=kept_gradients,
        advice="let zero_grad() free them, with set_to_none=True, which is its default",
    ),
    Rule(
        word="weights_twice",
        evidence=weights_twice,
        advice="load weights to the CPU (map_location), or into the model itself (assign=True), "
        "and drop the copy; a copy that is wanted, such as averaged weights, can be on the CPU",
    ),
    Rule(
        word="math_attention",
        evidence=math_attention,
        advice="a fused kernel holds no scores: give it float16 or bfloat16, four dimensions, and "
        "a mask of the query's dtype or none",
    ),
    Rule(
        word="fragmentation",
        evidence=fragmented,
        advice="try PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, or allocate what stays "
        "before what goes",
    ),
    Rule(
        word="left_by_tests",
        evidence=left_by_tests,
        advice="@pytest.mark.max_gpu_leak on that test names the tensors and who holds them",
    ),
)
