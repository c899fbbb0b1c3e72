"""The verbs as a user types them: what is printed, what is written, which exit code."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from faceproof.batch import ScanOptions
from faceproof.detectors.catalog import find_spec
from faceproof.detectors.spec import read_spec
from faceproof.evaluation.evaluation import Evaluation
from faceproof.evaluation.manifest import Manifest, write_manifest
from faceproof.evaluation.scores import read_scores, write_scores
from faceproof.evaluation.significance import Comparison
from faceproof.evidence.measured import read_limits
from tests.evaluation.tables import gaussian_table

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    from faceproof.cli import main

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["faceproof", *map(str, args)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as left:
            code = int(left.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.training.conftest import write_shards

    return write_shards(tmp_path_factory.mktemp("shards"), 48)


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    write_scores(gaussian_table(0, 400, apart=2, method=["swap"] * 400), tmp_path / "good.csv")
    write_scores(gaussian_table(0, 400, apart=0.3), tmp_path / "poor.csv")
    return tmp_path / "good.csv"


def test_evaluate_scores_of_another_tool(run: Run, scores: Path, tmp_path: Path) -> None:
    code, out, err = run("evaluate", scores, "-o", tmp_path / "out", "--bootstraps", 100, "--prior", "0.01")
    assert code == 0
    assert "AUROC 0." in out
    assert "Calling every file fake would get accuracy" in out
    assert "evaluation.html" in err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("evaluation.json", "evaluation.html", "evaluation.md", "figures", "scores.csv"),
    }
    found = Evaluation.model_validate_json((tmp_path / "out/evaluation.json").read_text())
    assert found.posteriors[0].prior == 0.01
    assert "faceproof evaluate" in (tmp_path / "out/evaluation.md").read_text()
    _, out, _ = run("evaluate", scores, "--json", "--bootstraps", 0)
    assert json.loads(out)["levels"][0]["metrics"]["auroc"]["low"] is None


def test_bad_rows_are_said_and_the_exit_code_says_so(run: Run, tmp_path: Path) -> None:
    rows = [["path", "label", "score"], *([f"{row}", row % 2, row / 40] for row in range(40)), ["x", "perhaps", 0.5]]
    with (tmp_path / "s.csv").open("w", newline="") as file:
        csv.writer(file).writerows([*rows, ["y", 1, ""]])
    code, _, err = run("evaluate", tmp_path / "s.csv", "--bootstraps", 50)
    assert code == 1
    assert "1 × the label is neither real nor fake: x (perhaps)" in err
    assert "1 × the score is missing" in err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--scale", "decibel"), "--scale cannot be"),
        (("--prior", "1.5"), "--prior cannot be 1.5"),
        (("--prior", "0", "--prior", "0.5"), "--prior cannot be 0"),
        (("--max-false-alarms", "5"), "--max-false-alarms cannot be 5"),
        (("--detector", "toy"), "holds scores already"),
        (("--protocol", "mine"), "--protocol cannot be"),
    ],
)
def test_wrong_usage_is_code_2(run: Run, scores: Path, args: tuple[str, ...], words: str) -> None:
    code, _, err = run("evaluate", scores, *args)
    assert code == 2
    assert words in err


def test_strict_refuses_unsound_numbers(run: Run, tmp_path: Path) -> None:
    write_scores(gaussian_table(0, 300, apart=-2), tmp_path / "inverted.csv")
    code, out, _ = run("evaluate", tmp_path / "inverted.csv", "--strict", "--bootstraps", 100)
    assert code == 3
    assert "[inverted_polarity]" in out
    assert run("evaluate", tmp_path / "inverted.csv", "--strict", "--fake-is", "low", "--bootstraps", 100)[0] == 0
    code, out, _ = run("evaluate", tmp_path / "inverted.csv", "--threshold", "0.4", "--threshold-from", "test")
    assert code == 0
    assert "[threshold_from_test]" in out


def test_one_class_only(run: Run, tmp_path: Path) -> None:
    table = gaussian_table(0, 50)
    write_scores(table.select(table.label == 1), tmp_path / "fakes.csv")
    code, _, err = run("evaluate", tmp_path / "fakes.csv")
    assert code == 1
    assert "no real file has a score" in err


def test_compare_scores_and_folders(run: Run, scores: Path, tmp_path: Path) -> None:
    run("evaluate", scores, "-o", tmp_path / "good", "--bootstraps", 0)
    code, out, _ = run("compare", tmp_path / "good", tmp_path / "poor.csv", "-o", tmp_path / "cmp", "--bootstraps", 100)
    assert code == 0
    assert "**good separates these files better than poor.**" in out
    assert (tmp_path / "cmp/comparison.html").is_file()
    assert (tmp_path / "cmp/figures/compare-roc.svg").is_file()
    found = Comparison.model_validate_json((tmp_path / "cmp/comparison.json").read_text())
    assert found.delong is not None
    assert found.delong.p_value < 0.001


def test_calibrate_prints_tables_or_writes_a_spec(run: Run, scores: Path, toy_home: Path, tmp_path: Path) -> None:
    code, out, err = run("calibrate", scores, "-m", "temperature")
    assert code == 0
    assert out.startswith('[calibration]\nmethod = "temperature"\na = ')
    assert "calibration error" in err
    source, target = toy_home / "models/toy/spec.toml", tmp_path / "spec.toml"
    code, _, err = run(
        "calibrate", scores, "--spec", source, "-o", target, "--max-false-alarms", "0.05", "--name", "mine"
    )
    assert code == 0
    spec = read_spec(target)
    assert spec.calibration.data == "mine"
    assert spec.calibration.data_sha256 == read_scores(scores)[0].sha256()
    assert spec.verdict.band is not None
    assert spec.verdict.min_side == 16
    code, _, err = run("calibrate", scores, "--max-false-alarms", "0.001")
    assert "a promise of 0.001 needs 999 of each" in err
    assert run("calibrate", scores, "-o", target)[0] == 2
    assert run("calibrate", scores, "-m", "magic")[0] == 2
    assert run("calibrate", scores, "--split", "none")[0] == 1


def test_a_band_from_scores_says_where_it_comes_from(run: Run, scores: Path, toy_home: Path, tmp_path: Path) -> None:
    target = tmp_path / "spec.toml"
    run("calibrate", scores, "--spec", toy_home / "models/toy/spec.toml", "-o", target, "--max-false-alarms", "0.05")
    fitted = read_spec(target).verdict.fitted
    assert fitted is not None
    assert (fitted.data, fitted.false_alarms, fitted.misses) == ("good.csv", 0.05, 0.05)
    assert fitted.data_sha256 == read_scores(scores)[0].sha256()
    assert fitted.command.startswith("faceproof calibrate")
    _, _, err = run("calibrate", scores, "--spec", target)
    assert "the spec's band was fitted to other probabilities" in err


def test_a_detector_is_calibrated_on_media(run: Run, toy: ScanOptions, lit_set: Manifest, tmp_path: Path) -> None:
    write_manifest(lit_set, tmp_path / "manifest.csv")
    command = ("calibrate", "toy", "--data", tmp_path / "manifest.csv", "--max-false-alarms", "0.2", "--frames", "4")
    code, out, err = run(*command)
    assert code == 0
    assert out.startswith('[calibration]\nmethod = "platt"')
    assert "[verdict.fitted]" in out
    assert "broken.mp4" in err
    assert "Beware" in err
    before = (find_spec("toy").source).read_text()
    code, _, err = run(*command, "-o", tmp_path / "new.toml", "--cache", tmp_path / "elsewhere")
    assert code == 0
    fitted = read_spec(tmp_path / "new.toml").verdict.fitted
    assert fitted is not None
    assert fitted.data == "manifest.csv, 12 files"
    assert find_spec("toy").source.read_text() == before


def test_a_detector_is_calibrated_on_self_made_clips(run: Run, toy: ScanOptions, shards: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(os.environ["FACEPROOF_HOME"], home)
    # Everybody held out: 48 drawn people are too few to hold 4 % out.
    (tmp_path / "all.toml").write_text('name = "all"\n[pairs]\nheld_out = 1.0\n')
    options = ("--self-made", shards, "--faces", 2, "--rounds", 1, "--recipe", tmp_path / "all.toml")
    options += ("--max-false-alarms", "0.3", "--max-misses", "0.3", "--write")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEPROOF_HOME", str(home))
        # These forgeries are a hair darker than their originals: to one toy they look more genuine, to the other less.
        before = find_spec("toy").spec
        code, _, err = run("calibrate", "toy", *options)
        assert code == 1
        assert "turn the scores round" in err
        assert find_spec("toy").spec == before
        code, _, err = run("calibrate", "toy-inverted", *options)
        assert code == 0, err
        spec = find_spec("toy-inverted").spec
        assert spec.verdict.fitted is not None
        assert spec.verdict.fitted.reals == spec.verdict.fitted.fakes == 48
        assert "--self-made" in spec.verdict.fitted.command
        assert spec.verdict.min_side == 16


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("toy", "--self-made", "x", "--data", "y"), "two answers to one question"),
        (("toy", "--write"), "--write needs a DETECTOR"),
        (("toy", "--data", "y", "--write", "-o", "z"), "--write changes the detector's own spec"),
        (("toy", "--data", "y", "--max-frame-alarms", "2"), "--max-frame-alarms cannot be 2"),
    ],
)
def test_calibrating_in_two_minds_is_wrong_usage(run: Run, toy: ScanOptions, args: tuple[str, ...], words: str) -> None:
    code, _, err = run("calibrate", *args)
    assert code == 2
    assert words in " ".join(err.split())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("nobody", "--data", "."), "nobody"),
        (("toy", "--data", "missing"), "missing does not exist"),
        (("toy", "--self-made", "missing"), "faces.csv"),
        (("missing.csv",), "missing.csv"),
        (("toy", "--data", ".", "--spec", "missing.toml"), "missing.toml"),
    ],
)
def test_calibrating_on_nothing_names_what_is_missing(
    run: Run, toy: ScanOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run("calibrate", *args)
    assert code in (1, 2)
    assert words in " ".join(err.split())
    assert "Traceback" not in err


def test_manifest_of_a_folder_and_its_leaks(run: Run, tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("Celeb-real/id0_0000.mp4", "Celeb-synthesis/id0_id1_0000.mp4", "odd.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "List_of_testing_videos.txt").write_text("1 Celeb-real/id0_0000.mp4\n")
    code, out, err = run("manifest", root, "-o", tmp_path / "m.csv", "--strict")
    assert code == 3
    assert "[leaked_source]" in out
    assert "[leaked_identity]" in out
    assert "1 × the folder layout gives this file no label" in err
    assert run("manifest", root, "-o", tmp_path / "m.csv")[0] == 1
    assert run("manifest", tmp_path / "none", "-o", tmp_path / "m.csv")[0] == 1


def test_check_claim(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "claim.toml"
    path.write_text(
        "accuracy = 0.9937\nauroc = 0.4695\n[fake]\nrecall = 0.85\nsupport = 2025\n[real]\nrecall = 0.14\nsupport = 360\n"
    )
    code, out, _ = run("check-claim", path)
    assert code == 3
    assert "needs an AUROC of at least" in out
    code, out, _ = run("check-claim", path, "--json")
    assert {item["code"] for item in json.loads(out)} >= {"accuracy_against_auroc", "shuffled_labels"}
    path.write_text("accuracy = 0.8\n")
    code, out, _ = run("check-claim", path)
    assert (code, "does not make it true" in out) == (0, True)
    path.write_text("accuracy = 80\ntypo = 1\n")
    code, _, err = run("check-claim", path)
    assert code == 1
    assert "accuracy" in err
    assert "typo" in err


def test_a_detector_from_media_to_pages_and_back_from_the_cache(
    run: Run, toy: ScanOptions, lit_set: Manifest, tmp_path: Path
) -> None:
    write_manifest(lit_set, tmp_path / "manifest.csv")
    command = ("evaluate", tmp_path / "manifest.csv", "-d", "toy", "--frames", "4", "--bootstraps", "50")
    command += ("--cache", tmp_path / "scores", "--protocol", "deepfakebench", "-o", tmp_path / "out")
    command += ("--robustness", "downscale", "--robustness-files", "1", "--max-false-alarms", "0.2")
    code, out, err = run(*command)
    # One file is broken: the rest is measured, and the exit code says so.
    assert code == 1
    assert "broken.mp4" in err
    found = Evaluation.model_validate_json((tmp_path / "out/evaluation.json").read_text())
    assert found.main.metrics["auroc"].value == 1
    assert found.protocol is not None
    assert found.quality_bands is not None
    assert [curve.name for curve in found.robustness] == ["downscale"]
    assert found.detector is not None
    assert found.detector.name == "toy"
    again = run(*command)
    assert again[1] == out
    assert (tmp_path / "out/frames.parquet").is_file()
    code, out, _ = run("compare", "toy", "toy-inverted", "--data", tmp_path / "manifest.csv", "--bootstraps", "50")
    assert "toy separates these files better than toy-inverted" in out


def test_accuracy_page(run: Run, toy: ScanOptions, lit_set: Manifest, tmp_path: Path) -> None:
    write_manifest(Manifest(lit_set.entries[:10], lit_set.root), tmp_path / "manifest.csv")
    page = tmp_path / "docs/accuracy.md"
    code, _, _ = run(
        *("accuracy", tmp_path / "manifest.csv", "-o", page, "-d", "toy", "-d", "toy-inverted", "--frames", "4"),
        *("--robustness", "dark", "--video-robustness", "none", "--robustness-files", "1", "--bootstraps", "50"),
        *("--beside-spec", "--name", "Lamps on and off"),
    )
    assert code == 0
    carried = read_limits(find_spec("toy").spec)
    assert carried is not None
    assert {one.media for one in carried.sets} == {"video", "image"}
    assert all(one.data.startswith("Lamps on and off, ") for one in carried.sets)
    assert sum(number for one in carried.sets for calls in (one.fake, one.real) for number in calls.values()) == 10
    assert read_limits(find_spec("toy-inverted").spec) != carried
    text = page.read_text()
    assert "## Where toy fails" in text
    assert "files (Lamps on and off)" in text
    assert "| toy-inverted, stills |" in text
    assert "Against the default" in text
    assert "faceproof accuracy" in text
    drawings = {path.name for path in (tmp_path / "docs/accuracy").iterdir()}
    assert "toy-stills-robustness.svg" in drawings
    assert all(f"accuracy/{name}" in text for name in drawings)
    assert str(lit_set.root) not in text


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("accuracy", "DATA", "-o", "PAGE", "-d", "toy", "-d", "tpy"), "tpy"),
        (("accuracy", "DATA", "-o", "PAGE", "-d", "toy", "--robustness", "jpeg,fog"), "unknown degradation fog"),
        (("accuracy", "DATA", "-o", "manifest.csv/page.md", "-d", "toy"), "cannot make manifest.csv"),
        (("evaluate", "DATA", "-d", "toy", "--robustness", "fog"), "unknown degradation fog"),
        (("evaluate", "DATA", "-d", "toy", "-o", "manifest.csv"), "cannot make manifest.csv"),
        (("compare", "toy", "toy", "--data", "DATA", "-o", "manifest.csv"), "cannot make manifest.csv"),
        (("calibrate", "toy", "--data", "DATA", "-o", "manifest.csv/x.toml"), "cannot make manifest.csv"),
    ],
)
def test_what_cannot_end_well_is_refused_before_the_first_scan(
    run: Run, toy: ScanOptions, lit_set: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    args: tuple[str, ...], words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("faceproof.evaluation.harness.scan_many", lambda *_, **__: pytest.fail("scanned"))
    write_manifest(lit_set, tmp_path / "manifest.csv")
    code, _, err = run(
        *(str(tmp_path / {"DATA": "manifest.csv", "PAGE": "page.md"}[a]) if a.isupper() else a for a in args)
    )
    assert code in (1, 2)
    assert words in " ".join(err.split())


def test_after_ctrl_c_it_says_what_is_kept(
    run: Run, toy: ScanOptions, lit_set: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(lit_set, tmp_path / "manifest.csv")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("faceproof.evaluation.harness.scan_many", stop)
    for options, words in (((), "the same command goes on"), (("--no-cache",), "Stopped.")):
        code, _, err = run("evaluate", tmp_path / "manifest.csv", "-d", "toy", *options)
        assert code == 130
        assert words in " ".join(err.split())
        assert ("goes on" in err) == (not options)


def test_scores_are_pooled_per_file(run: Run, tmp_path: Path) -> None:
    label = np.arange(40) % 2
    rows = [[f"{clip}.mp4", label[clip], frame, 0.4 + 0.2 * label[clip]] for clip in range(40) for frame in range(3)]
    with (tmp_path / "frames.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "frame", "score"], *rows])
    _, out, _ = run("evaluate", tmp_path / "frames.csv", "--json", "--bootstraps", "20", "--pool", "max")
    levels = {level["level"]: level["rows"] for level in json.loads(out)["levels"]}
    assert levels == {"video": 40, "frame": 120}
