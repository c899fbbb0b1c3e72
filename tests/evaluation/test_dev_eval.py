"""On the labelled clips beside the checkout, where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from faceproof.evaluation.protocols import clip_name
from faceproof.evaluation.runs import open_manifest

DEV_EVAL = Path(__file__).parents[3] / "shared/data/dev_eval"

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not DEV_EVAL.is_dir(), reason="the labelled clips are not beside the checkout"),
]


def test_the_folder_is_read_without_a_bad_row() -> None:
    manifest = open_manifest(DEV_EVAL)
    assert not manifest.problems
    videos, stills = manifest.only(media="video"), manifest.only(media="image")
    assert (len(videos), len(stills)) == (50, 760)
    assert {entry.source_video for entry in videos.entries if entry.label == 0} == {
        entry.source_video for entry in videos.entries if entry.label == 1
    }
    # As the benchmark groups them, four forgeries of one pair are one video.
    names = {clip_name(manifest.relative(entry), entry.dataset) for entry in videos.entries}
    assert len(names) == 20
