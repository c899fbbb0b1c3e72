"""The operations' verbs, as people type them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceproof.batch import ScanOptions
from faceproof.ops import fleet

from ..ops.made_reports import made_report
from ..servers import free_port
from ..toy_detector import write_toy_detector
from .conftest import Run


@pytest.fixture
def home(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder of this test's own; after ``run``, which sets another."""
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path / "home"))
    write_toy_detector(tmp_path / "home")
    return tmp_path / "home"


def test_models_from_package_to_rollback(run: Run, home: Path, tmp_path: Path) -> None:
    for version in ("1.0", "2.0"):
        spec = home / "models" / "toy" / "spec.toml"
        spec.write_text(spec.read_text().replace('version = "1.0"', f'version = "{version}"'))
        assert run("models", "pack", "toy", tmp_path / version).code == 0
        assert f"toy {version} is whole, not signed" in run("models", "verify", tmp_path / version).out
        assert run("models", "publish", tmp_path / version).out == f"Published: toy {version}\n"
        assert f"toy {version}  production" in run("models", "promote", "toy", version).out
    assert "toy 1.0  production" in run("models", "rollback", "toy").out
    assert "toy 1.0  production, pinned" in run("models", "pin", "toy", "1.0").out
    refused = run("models", "promote", "toy", "2.0")
    assert refused.code == 2
    assert "pinned to 1.0" in refused.err
    assert run("models", "pin", "toy", "--off").code == 0
    assert "toy 2.0\n" in run("models", "list").out
    assert run("models", "pin", "toy").code == 2


def faces(folder: Path, astronaut: np.ndarray, number: int) -> Path:
    """``number`` bright faces called fake and dark ones called real, as a manifest."""
    folder.mkdir()
    rows = ["path,label,source_video"]
    for i in range(number):
        fake = i % 2
        light = np.clip(astronaut[20:270, 100:350] * (1.0 if fake else 0.6) + (i % 7), 0, 255).astype(np.uint8)
        Image.fromarray(light).save(folder / f"{i}.png")
        rows.append(f"{i}.png,{'fake' if fake else 'real'},source{i // 2}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder / "manifest.csv"


def test_a_worse_candidate_is_not_promoted(run: Run, home: Path, tmp_path: Path, astronaut: np.ndarray) -> None:
    manifest = faces(tmp_path / "faces", astronaut, 12)
    assert run("models", "pack", "toy", tmp_path / "good").code == 0
    spec = home / "models" / "toy" / "spec.toml"
    text = spec.read_text().replace('version = "1.0"', 'version = "2.0"').replace('"high"', '"low"')
    spec.write_text(text)
    assert run("models", "pack", "toy", tmp_path / "turned").code == 0
    for package in ("good", "turned"):
        assert run("models", "publish", tmp_path / package).code == 0
    assert "nothing" not in run("models", "promote", "toy", "1.0").err
    refused = run("models", "promote", "toy", "2.0", "--manifest", manifest)
    assert refused.code == 2
    assert "it is worse: AUROC" in refused.err
    assert "toy 1.0  production" in run("models", "list").out


def test_ensembles_are_checked_and_fitted(run: Run, home: Path, tmp_path: Path, astronaut: np.ndarray) -> None:
    write_toy_detector(home, name="other", pivot=0.4)
    pair = tmp_path / "pair.toml"
    members = '[[members]]\ndetector = "toy"\n[[members]]\ndetector = "other"\nview = "zoom"\n'
    pair.write_text(f'schema_version = 1\nname = "pair"\n{members}')
    assert "ok      other/zoom" in run("ensemble", "check", pair).out
    manifest = faces(tmp_path / "faces", astronaut, 24)
    (home / "ensembles").mkdir()
    fitted = run("ensemble", "fit", pair, manifest, "--out", home / "ensembles" / "fitted.toml", "--name", "fitted")
    assert fitted.code == 0, fitted.err
    assert "together (AUROC on 24 files" in fitted.out
    assert "fitted 1  stacked: toy × 1, other/zoom × 1" in run("ensemble", "list").out
    scanned = run("scan", "--detector", "fitted", tmp_path / "faces" / "1.png", "--json", "-")
    report = json.loads(scanned.out)
    assert report["ensemble"]["method"] == "stacked"
    assert len(report["ensemble"]["members"]) == 2
    assert run("ensemble", "check", "nobody").code == 1
    shutil.rmtree(home / "models" / "other")
    assert run("ensemble", "check", pair).code == 1


def lines(path: Path, reports: list) -> Path:
    path.write_text("".join(report.model_dump_json() + "\n" for report in reports))
    return path


def test_drift_is_remembered_and_found(run: Run, home: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    usual = lines(
        tmp_path / "usual.jsonl", [made_report(f"{i}", float(p)) for i, p in enumerate(rng.uniform(0, 0.6, 400))]
    )
    assert "400 scans of toy 1.0" in run("drift", "reference", usual, "--out", tmp_path / "ref.json").out
    check = ("drift", "check", "--reference", tmp_path / "ref.json")
    quiet = run(*check, usual)
    assert (quiet.code, quiet.out) == (0, "400 scans: no drift\n")
    odd = lines(
        tmp_path / "odd.jsonl", [made_report(f"{i}", float(p)) for i, p in enumerate(rng.uniform(0.3, 0.9, 300))]
    )
    found = run(*check, odd)
    assert found.code == 1
    assert "after 250 scans: score" in found.out
    few = lines(tmp_path / "few.jsonl", [made_report()])
    assert "nothing was compared" in run(*check, few).out
    (tmp_path / "bad.jsonl").write_text("no report\n")
    assert run(*check, tmp_path / "bad.jsonl").code == 2


def test_labels_become_numbers_and_a_set_to_train_on(run: Run, home: Path, tmp_path: Path, astronaut_png: Path) -> None:
    assert run("scan", "-d", "toy", astronaut_png, "--json", tmp_path / "r.json").code == 0
    assert "1 scan kept" in run("labels", "remember", tmp_path / "r.json").out
    assert "is real" in run("labels", "add", astronaut_png, "real", "--by", "ann").out
    told = run("labels", "report").out
    assert "toy 1.0" in told
    assert "1.00" in told  # one real file called fake: every labelled real one is a false alarm
    assert "1 files. Written" in run("labels", "export", tmp_path / "train.csv", "--only-mistakes").out
    assert str(astronaut_png) in (tmp_path / "train.csv").read_text()
    assert run("labels", "add", astronaut_png, "maybe").code == 2
    assert run("labels", "add", "nowhere.mp4", "fake").code == 2
    assert "is real" in run("label", astronaut_png, "real", "--by", "ann").out, "the old name, which help leaves out"
    assert " label " not in run("--help").out


def test_an_experiment_from_the_command_line(run: Run, home: Path, astronaut_png: Path) -> None:
    write_toy_detector(home, name="new")
    assert run("ab", "create", "trial", "--control", "toy", "--arm", "b=new:1.0", "--shadow").code == 0
    assert "Signs of manipulation" in run("ab", "scan", "trial", astronaut_png).out
    assert run("ab", "report", "trial").code == 0
    assert run("ab", "report", "nobody").code == 2
    assert run("ab", "create", "bad", "--control", "toy", "--arm", "b=new").code == 2
    assert run("ab", "create", "bad", "--control", "toy", "--arm", "b=new:0.7", "--arm", "c=new:0.7").code == 2


def test_a_scan_through_a_server_falls_back_only_when_told(run: Run, home: Path, astronaut_png: Path) -> None:
    away = f"triton://127.0.0.1:{free_port()}/toy?retries=0"
    refused = run("scan", "-d", "toy", astronaut_png, "--runtime", away)
    assert refused.code == 1
    assert "cannot reach toy on 127.0.0.1" in refused.err
    assert "fallback=local" in refused.err
    here = run("scan", "-d", "toy", astronaut_png, "--runtime", f"{away}&fallback=local", "--json", "-")
    assert here.code == 0, here.err
    assert json.loads(here.out)["detector"]["runtime"] in ("openvino", "onnx")


def test_scanning_a_storage_is_handed_to_the_fleet(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[object, ...]] = []

    def noted(url: str, broker: str, out: Path, options: ScanOptions, **rest: object) -> dict[str, object]:
        asked.append((url, broker, out, options.detector, options.frames))
        return {"files": 1, "failed": 0, "hosts": {}, "seconds": 1.0}

    monkeypatch.setattr(fleet, "scan_fleet", noted)
    out, broker = tmp_path / "results.parquet", "redis://broker:6379/0"
    assert run("scan", "s3://bucket/a/b", "--broker", broker, "--out", out, "-d", "b4", "--frames", "8").code == 0
    assert asked == [("s3://bucket/a/b", broker, out, "b4", "8")]
    asked.clear()
    assert run("scan", tmp_path, "--broker", broker, "--out", out).code == 0
    assert asked[0][0] == str(tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["s3://bucket/a"], "s3://bucket/a is not on this machine"),
        (["here.mp4", "--out", "r.csv"], "--out belongs to --broker"),
        (["s3://bucket/a", "--broker", "redis://x"], "--broker takes one place and --out FILE"),
    ],
)
def test_a_storage_needs_a_broker_and_a_place_for_the_table(run: Run, words: list[str], said: str) -> None:
    found = run("scan", *words)
    assert found.code == 2
    assert said in found.err
    assert "fleet worker" in found.err or "--out results.parquet" in found.err
