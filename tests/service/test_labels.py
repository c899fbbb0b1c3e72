"""What people found out: given by REST, held against the answers, turned into a set to train on."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from service_under_test import ended, make_clip, make_settings, submit
from typer.testing import CliRunner

from faceproof.cli import app as cli
from faceproof.service import housekeeping, keys
from faceproof.service.app import make_app
from faceproof.service.labels import copy_media, gather


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with TestClient(make_app(make_settings(tmp_path_factory.mktemp("labels"), workers=1))) as client:
        yield client


def scanned(client: TestClient, seed: int, **fields: str) -> str:
    return str(ended(client, submit(client, make_clip(seed), evidence="false", **fields)["id"])["id"])


def test_a_label_is_given_changed_and_taken_back(judged: TestClient) -> None:
    address = f"/v1/jobs/{scanned(judged, 1)}/label"
    assert judged.get(address).status_code == 404
    given = judged.put(address, json={"truth": "fake", "note": "admitted"}).json()
    assert (given["truth"], given["note"], given["verdict"]) == ("fake", "admitted", "FAKE")
    assert given["right"] is True
    assert judged.put(address, json={"truth": "real"}).json()["right"] is False
    assert judged.get(address).json()["truth"] == "real"
    assert judged.delete(address).status_code == 204
    assert judged.delete(address).status_code == 404
    assert judged.put(address, json={"truth": "perhaps"}).status_code == 422


def test_a_label_speaks_of_the_file_whoever_judged_it(judged: TestClient) -> None:
    first, second = scanned(judged, 2), scanned(judged, 2, detector="fake-other")
    judged.put(f"/v1/jobs/{first}/label", json={"truth": "fake"})
    other = judged.get(f"/v1/jobs/{second}/label").json()
    assert (other["truth"], other["verdict"], other["right"]) == ("fake", "REAL", False)
    assert 'faceproof_labels{detector="fake-other",truth="fake",verdict="REAL",version="1.0"} 1.0' in (
        judged.get("/metrics").text
    )
    week = {one["detector"]: one for one in judged.get("/v1/feedback").json()["weeks"]}
    assert (week["fake"]["recall"]["hits"], week["fake"]["recall"]["of"]) == (1, 1)
    assert (week["fake-other"]["recall"]["hits"], week["fake-other"]["recall"]["of"]) == (0, 1)
    judged.delete(f"/v1/jobs/{second}/label")
    assert judged.get(f"/v1/jobs/{first}/label").status_code == 404


def test_files_without_an_answer_have_no_label(idle: TestClient) -> None:
    job = submit(idle, make_clip(3))
    assert idle.put(f"/v1/jobs/{job['id']}/label", json={"truth": "fake"}).json()["code"] == "not_done"


def test_people_who_disagree_make_a_file_disputed(tmp_path: Path) -> None:
    with TestClient(make_app(make_settings(tmp_path, workers=1, auth="keys"))) as client:
        store = client.app.state.site.store  # type: ignore[attr-defined]
        ann, boss = ({"X-API-Key": keys.create(store, name, scopes=scopes)[1]} for name, scopes in
                     (("ann", keys.DEFAULT_SCOPES), ("boss", ["admin"])))  # fmt: skip
        client.headers.update(ann)
        address = f"/v1/jobs/{scanned(client, 4)}/label"
        client.put(address, json={"truth": "fake"})
        assert client.put(address, json={"truth": "real"}, headers=boss).json()["truth"] == "real"
        assert client.get(address).json()["truth"] == "fake"
        assert client.get("/v1/feedback").json() | {"weeks": []} == {"weeks": [], "files": 1, "disputed": 0}
        assert client.get("/v1/feedback", headers=boss).json() == {"weeks": [], "files": 0, "disputed": 1}


def test_labels_outlive_retention_but_not_erasure(tmp_path: Path) -> None:
    with TestClient(make_app(make_settings(tmp_path, workers=1))) as client:
        site = client.app.state.site  # type: ignore[attr-defined]
        kept, erased = scanned(client, 5), scanned(client, 6)
        for job in (kept, erased):
            client.put(f"/v1/jobs/{job}/label", json={"truth": "fake"})
        client.delete(f"/v1/jobs/{erased}")
        housekeeping.erase(site, [kept], actor=housekeeping.RETENTION)
        found = gather(site)
        assert len(found.scans) == 1
        assert found.scans[0].path == ""
        assert copy_media(site, found, tmp_path / "media")[0].path == ""


def test_the_labels_of_a_service_become_a_set_to_train_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with TestClient(make_app(make_settings(data, workers=1))) as client:
        for seed, truth in ((7, "fake"), (8, "real")):
            client.put(f"/v1/jobs/{scanned(client, seed)}/label", json={"truth": truth})
    run = CliRunner().invoke
    out, media = tmp_path / "retrain.csv", tmp_path / "media"
    done = run(cli, ["labels", "export", str(out), "--data", str(data), "--media", str(media)])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert sorted(row["label"] for row in rows) == ["fake", "real"]
    assert {Path(row["path"]).read_bytes() for row in rows} == {make_clip(7), make_clip(8)}
    assert all(row["path"].endswith(".mp4") for row in rows)
    told = run(cli, ["labels", "report", "--data", str(data)])
    assert "of 2" in told.output
