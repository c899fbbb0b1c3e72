"""What ships with weights: the model card, with intervals, sources, terms and limits.

Every number in a card was computed by this module from scores; nothing is typed in.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from faceproof.training.loop import auroc


@dataclass(frozen=True)
class Measured:
    """One row of the card. low and high bound 95 % of the bootstrap over groups (videos, people)."""

    name: str
    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class CardFacts:
    """All a card says. terms: one line per data source. limits: what the reader must not expect. forged: whether it learnt
    from pictures that others had forged."""

    name: str
    recipe: str
    network: str
    size: int
    sha256: str
    parameters: int
    pictures_seen: int
    measured: list[Measured]
    sources: dict[str, int] = field(default_factory=dict)
    terms: list[str] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    calibration: tuple[float, float] | None = None
    forged: bool = False


def bootstrap_auroc(
    name: str,
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray | None = None,
    rounds: int = 1000,
    seed: int = 0,
) -> Measured:
    """AUROC with a percentile interval; whole groups are resampled: the frames of a video are no independent witnesses."""
    labels, scores = np.asarray(labels), np.asarray(scores)
    groups = np.arange(len(labels)) if groups is None else np.asarray(groups)
    names, place = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(place == i) for i in range(len(names))]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(rounds):
        chosen = np.concatenate([members[i] for i in rng.integers(0, len(names), len(names))])
        if 0 < labels[chosen].sum() < len(chosen):
            values.append(auroc(labels[chosen], scores[chosen]))
    low, high = np.percentile(values, [2.5, 97.5]) if values else (float("nan"), float("nan"))
    return Measured(name, auroc(labels, scores), float(low), float(high), len(labels))


def count_sources(sources: list[str]) -> dict[str, int]:
    """How many pictures each source gave, most first."""
    return dict(Counter(sources).most_common())


def write_card(facts: CardFacts, path: str | Path) -> str:
    """Write the card as Markdown and return its text."""
    lines = [
        f"# {facts.name}", "",
        f"Network: {facts.network}, {facts.parameters / 1e6:.2f} million parameters, input {facts.size} × {facts.size} RGB. "
        f"Recipe: `{facts.recipe}`. Pictures seen in training: {facts.pictures_seen:,}. "
        f"SHA-256 of the file: `{facts.sha256}`.", "",
        "## What was measured", "",
        "| set | n | AUROC | 95 % interval |", "|---|---|---|---|",
        *(f"| {m.name} | {m.count} | {m.value:.3f} | {m.low:.3f} – {m.high:.3f} |" for m in facts.measured), "",
        "Intervals come from resampling whole videos or people.", "",
        "## What it was trained on", "",
        *(f"- {name}: {count:,} pictures" for name, count in facts.sources.items()), "",
        *(f"- {line}" for line in facts.terms), "",
        "Genuine and forged pictures were given with their labels." if facts.forged
        else "No forged picture was used: every fake was made during training out of a real one.", "",
    ]  # fmt: skip
    if facts.calibration:
        lines += [
            f"Calibration: sigmoid({facts.calibration[0]:.4f} · logit + {facts.calibration[1]:.4f}), "
            "fitted on what was held out from training.",
            "",
        ]
    lines += ["## Limits", "", *(f"- {line}" for line in facts.limits), ""]
    text = "\n".join(lines)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return text
