"""What the sizes of frames tell of an earlier encoding, and what they do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.recompression import encode, scene

from faceproof.evidence.frame_sizes import rhythm, size_rhythm
from faceproof.evidence.provenance import read_provenance
from faceproof.media import Limits, read_frames


def sizes_of(seed: int, frames: int = 300, every: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Made sizes with the stream's own key frame every 100, standing out by 30 % ``every`` so many frames."""
    rng = np.random.default_rng(seed)
    sizes = 2000 * np.exp(rng.normal(0, 0.25, frames) + 0.5 * np.sin(np.arange(frames) / 30))
    if every is not None:
        sizes[3::every] *= 1.6
    keys = np.arange(frames) % 100 == 0
    sizes[keys] *= 6
    return sizes, keys, np.ones(frames, bool)


def test_a_rhythm_that_the_stream_does_not_have_is_found() -> None:
    found = rhythm(*sizes_of(0, every=14))
    assert found is not None
    assert found.period % 14 == 0
    assert found.tells


def test_chance_is_what_it_says() -> None:
    """Without any rhythm about 1 in 10 of 60 is as regular as 1 in 10 shuffles; more than 14 would be 1 event in 1000."""
    chances = [found.chance for seed in range(60) if (found := rhythm(*sizes_of(seed + 100))) is not None]
    assert len(chances) == 60
    assert sum(chance <= 0.1 for chance in chances) <= 14


def test_the_streams_own_key_frames_are_no_rhythm() -> None:
    sizes, keys, leads = sizes_of(3)
    assert rhythm(sizes, np.ones(300, bool), leads) is None
    assert rhythm(sizes[:80], keys[:80], leads[:80]) is None
    assert rhythm(np.full(300, 1000.0), keys, leads) is None


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same scene encoded once, and decoded and encoded again."""
    folder = tmp_path_factory.mktemp("twice")
    frames = scene(1)
    before = encode(folder / "before.mp4", frames, crf=28, spacing=24)
    once = encode(folder / "once.mp4", frames, crf=22, spacing=250)
    again = [frame.image for frame in read_frames(before, "all")]
    return once, encode(folder / "twice.mp4", again, crf=22, spacing=250)


def test_a_second_encoding_is_told_with_its_uncertainty(twice: tuple[Path, Path]) -> None:
    once, again = twice
    found = size_rhythm(again, Limits())
    assert found is not None
    assert found.period % 24 == 0
    hints = {hint.code: hint.text for hint in read_provenance(again).hints}
    assert "not a proof" in hints["double_video"]
    assert "double_video" not in {hint.code for hint in read_provenance(once).hints}


def test_what_cannot_be_read_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "not.mp4").write_bytes(b"no video")
    assert size_rhythm(tmp_path / "not.mp4", Limits()) is None
