from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from service_under_test import ended, make_settings, submit

from faceproof.errors import OptionError, SpecError, UnknownDetectorError
from faceproof.service.app import make_app
from faceproof.service.detectors import Installed, open_detectors

from ..toy_detector import write_toy_detector

PAIR = """
schema_version = 1
name = "pair"
summary = "Two that are of opposite minds"
method = "mean"
{more}
[[members]]
detector = "bright"
[[members]]
detector = "dark"
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder with two detectors and an ensemble of them."""
    folder = tmp_path / "home"
    monkeypatch.setenv("FACEPROOF_HOME", str(folder))
    write_toy_detector(folder, name="bright")
    write_toy_detector(folder, name="dark", fake_is="low")
    (folder / "ensembles").mkdir()
    (folder / "ensembles" / "pair.toml").write_text(PAIR.format(more=""))
    return folder


def test_only_detectors_with_weights_are_offered_the_default_first() -> None:
    detectors = Installed()
    names = [spec.name for spec in detectors.specs()]
    assert names
    assert names[0] == detectors.default
    assert len(detectors.fingerprint(names[0])) == 64


def test_unknown_detectors_and_those_without_weights_are_refused() -> None:
    with pytest.raises(UnknownDetectorError, match="nobody"):
        Installed().fingerprint("nobody")


def test_a_loader_that_does_not_exist_is_named() -> None:
    with pytest.raises(OptionError, match="no_such_module"):
        open_detectors("no_such_module:Thing")
    assert open_detectors("fake_detectors:Fakes", "fake-other").default == "fake-other"


def test_ensembles_are_offered_while_enough_of_their_members_can_score(home: Path) -> None:
    offered = {spec.name: spec for spec in Installed().specs()}
    assert {"bright", "dark", "pair"} <= set(offered)
    assert offered["pair"].summary == "Two that are of opposite minds"
    before = Installed().fingerprint("pair")
    (home / "models" / "dark" / "toy.onnx").unlink()
    assert Installed().fingerprint("pair") != before  # another score from now on: nothing old is reused
    (home / "ensembles" / "pair.toml").write_text(PAIR.format(more="min_members = 2"))
    assert "pair" not in {spec.name for spec in Installed().specs()}


def test_a_job_of_an_ensemble_and_a_comparison_with_its_member(
    home: Path, tmp_path: Path, astronaut_png: Path, clip_mp4: Path
) -> None:
    settings = make_settings(tmp_path / "data", workers=1, detector="bright")
    settings = settings.model_copy(update={"detector_loader": "faceproof.service.detectors:Installed"})
    with TestClient(make_app(settings)) as client:
        assert "pair" in {one["name"] for one in client.get("/v1/detectors").json()}
        assert '<option value="pair">' in client.get("/").text
        job = ended(client, submit(client, clip_mp4.read_bytes(), detector="pair", frames="every:3")["id"])
        assert (job["state"], job["error"]) == ("done", None)
        report = client.get(f"/v1/jobs/{job['id']}/report.json").json()
        assert [member["name"] for member in report["ensemble"]["members"]] == ["bright", "dark"]
        # One says p and the other 1 - p of each face.
        assert all(abs(face["p_fake"] - 0.5) < 0.01 for frame in report["frame_predictions"] for face in frame["faces"])
        assert client.get(f"/v1/jobs/{job['id']}/report.html").status_code == 200
        other = client.post(f"/v1/jobs/{job['id']}/again", json={"detector": "bright"}).json()
        assert ended(client, other["id"])["state"] == "done"
        page = client.get(f"/compare/{job['id']}/{other['id']}").text
        assert "pair 1" in page
        assert "bright 1.0" in page


def test_a_record_that_goes_wrong_leaves_the_others_as_they_were(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faceproof.service.detectors.READ_AGAIN", 0.0)
    detectors = Installed()
    before = [spec.name for spec in detectors.specs()]
    (home / "models" / "dark" / "spec.toml").write_text("nonsense")
    assert [spec.name for spec in detectors.specs()] == before
    with pytest.raises(SpecError):
        Installed().specs()
