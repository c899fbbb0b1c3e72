from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from faceproof.errors import EvaluationError
from faceproof.evaluation.scores import ScoreTable, read_scores, write_scores
from tests.evaluation.tables import gaussian_table


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_names_and_labels_of_other_tools(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "Video_Path,Target,Prob\na.mp4,FAKE,0.9\nb.mp4,0,0.1\nc.mp4,genuine,0.2\n")
    table, problems = read_scores(path)
    assert table.label.tolist() == [1, 0, 0]
    assert table.score.tolist() == [0.9, 0.1, 0.2]
    assert not problems


def test_every_kind_of_bad_row_is_named_and_counted(tmp_path: Path) -> None:
    rows = [
        "a.mp4,fake,0.9,",
        "a.mp4,fake,0.9,",  # twice
        "b.mp4,real,nan,",  # no score
        "c.mp4,perhaps,0.5,",  # no label
        "d.mp4,real,0.2,",
        "d.mp4,real,0.7,",  # contradicts itself
        ",real,0.7,",  # no path
        "e.mp4,real,high,",  # no number
        "f.mp4,real,inf,",
        "g.mp4,real,0.1,2.5",  # half a frame
    ]
    table, problems = read_scores(write(tmp_path / "s.csv", "path,label,score,frame\n" + "\n".join(rows)))
    counts = {problem.kind: problem.count for problem in problems.problems}
    assert counts == {
        "duplicate_row": 1,
        "nan_score": 3,
        "unknown_label": 1,
        "conflicting_rows": 2,
        "missing_path": 1,
        "bad_frame": 1,
    }
    assert table.path.tolist() == ["a.mp4", "b.mp4", "e.mp4", "f.mp4"]
    assert np.isnan(table.score[1:]).all()
    assert any("c.mp4 (perhaps)" in problem.sentence for problem in problems.problems)


def test_a_refusal_is_no_bad_row(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "path,label,score,verdict\na,fake,,NOT_ASSESSED\nb,real,0.5,REAL\n")
    table, problems = read_scores(path)
    assert not problems
    assert table.scored.tolist() == [False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,score\na,0.5\n", "lacks the column label"),
        ("path,label,score\na,fake,3.5\n", "outside 0 to 1"),
        ("path,label,score\na,x,0.5\n", "no score to evaluate: 1 × the label is neither"),
        ("", "cannot read"),
    ],
)
def test_unusable_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        read_scores(write(tmp_path / "s.csv", text))


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="cannot read"):
        read_scores(tmp_path / "none.csv")
    with pytest.raises(EvaluationError, match="cannot read"):
        read_scores(write(tmp_path / "s.parquet", "no parquet"))


def test_logits_and_polarity(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "path,label,logit\na,fake,-2\nb,real,2\n")
    table, _ = read_scores(path, scale="logit", fake_is="low")
    assert table.score == pytest.approx([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str) -> None:
    table = gaussian_table(0, 50, verdict=["FAKE", "REAL"] * 25, quality={"face_side": np.arange(50.0)})
    table.score[3] = np.nan
    write_scores(table, tmp_path / f"t.{suffix}")
    back, _ = read_scores(tmp_path / f"t.{suffix}")
    assert back.path.tolist() == table.path.tolist()
    assert back.score == pytest.approx(table.score, nan_ok=True)
    assert back.quality["face_side"] == pytest.approx(table.quality["face_side"])
    assert back.verdict.tolist() == table.verdict.tolist()
    assert back.sha256() == table.sha256()


def test_frames_become_videos_and_nothing_is_dropped() -> None:
    table = ScoreTable.of(
        ["a", "a", "b", "b", "c"], [1, 1, 0, 0, 1], [0.2, 0.6, 0.4, np.nan, np.nan], frame=[0, 1, 0, 1, 0]
    )
    videos = table.videos()
    assert table.level == "frame"
    assert videos.path.tolist() == ["a", "b", "c"]
    assert videos.score == pytest.approx([0.4, 0.4, np.nan], nan_ok=True)
    assert videos.level == "video"
    assert table.videos("max").score[0] == pytest.approx(0.6)


def test_a_clip_that_is_forged_in_part_is_forged() -> None:
    table = ScoreTable.of(
        ["a", "a", "a"], [0, 1, 0], [0.1, 0.9, 0.2], frame=[0, 1, 2], method=["original", "swap", "original"]
    )
    videos = table.videos()
    assert videos.label.tolist() == [1]
    assert videos.method.tolist() == ["swap"]


def test_groups_join_qualities_of_one_dataset_but_not_strangers() -> None:
    table = ScoreTable.of(
        ["a", "b", "c", "d", "e"],
        [1, 0, 1, 1, 0],
        [0.5] * 5,
        dataset=["FF++ c23", "FF++ c40", "Celeb-DF", "FF++ c23", "FF++ c23"],
        source_video=["183", "183", "183", "", ""],
    )
    groups = table.groups()
    assert groups[0] == groups[1]
    assert len(set(groups.tolist())) == 4


def test_hash_does_not_depend_on_the_order() -> None:
    table = gaussian_table(0, 30)
    assert table.select(np.arange(30)[::-1]).sha256() == table.sha256()
    assert gaussian_table(1, 30).sha256() != table.sha256()


def test_odd_names_stay_on_their_line(tmp_path: Path) -> None:
    frame = pd.DataFrame({"path": ["a\nb\x1b[2J"], "label": ["what"], "score": [0.5]})
    frame.to_csv(tmp_path / "s.csv", index=False)
    with pytest.raises(EvaluationError) as caught:
        read_scores(tmp_path / "s.csv")
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
