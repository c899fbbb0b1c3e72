"""Score tables made of numbers alone."""

from __future__ import annotations

import numpy as np

from faceproof.evaluation.scores import ScoreTable


def gaussian_table(
    seed: int,
    size: int = 400,
    *,
    apart: float = 1.5,
    per_source: int = 1,
    share_of_fakes: float = 0.5,
    within: float = 0.0,
    **columns: object,
) -> ScoreTable:
    """Fakes and reals whose logits are normal, ``apart`` standard deviations apart; ``within`` is the standard deviation
    that files of one source share."""
    generator = np.random.default_rng(seed)
    source = np.arange(size) // per_source
    label = (generator.random(size) < share_of_fakes).astype(np.int64)
    logit = apart * (label - 0.5) + generator.normal(size=size) + within * generator.normal(size=size)[source]
    return ScoreTable.of(
        [f"clips/{row:05d}.mp4" for row in range(size)],
        label,
        1 / (1 + np.exp(-logit)),
        source_video=[f"source{number}" for number in source],
        **columns,
    )
