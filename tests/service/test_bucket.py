"""Files in an S3-compatible bucket keep the same promises as files in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from service_under_test import ended, make_clip, make_settings, submit

from faceproof.errors import OptionError, OutputError
from faceproof.service.app import make_app
from faceproof.service.files import Files, LocalFiles, open_files
from faceproof.service.tables import new_id

server = pytest.importorskip("moto.server")
boto3 = pytest.importorskip("boto3")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server of the test's own, on a port of its own."""
    running = server.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    # The servers of one process share their buckets, so each test has its own.
    name = f"evidence-{new_id()}"
    boto3.client("s3").create_bucket(Bucket=name)
    yield f"s3://{name}/faceproof"
    running.stop()


@pytest.fixture(params=["folder", "bucket"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    if request.param == "folder":
        return LocalFiles(tmp_path)
    return open_files(request.getfixturevalue("bucket"), tmp_path)


def test_what_is_kept_comes_back_whole_in_parts_and_goes(files: Files) -> None:
    part = files.incoming()
    part.write_bytes(bytes(range(256)) * 2000)
    files.keep(part, "media/one")
    assert not part.exists()
    assert files.size("media/one") == 512_000
    with files.local("media/one") as path:
        assert path.read_bytes() == bytes(range(256)) * 2000
    assert b"".join(files.chunks("media/one", 256, 10)) == bytes(range(10))
    assert [name for name, _ in files.names("media")] == ["media/one"]
    files.delete("media/one")
    assert files.size("media/one") is None
    with pytest.raises(FileNotFoundError), files.local("media/one"):
        pass


def test_a_folder_goes_as_a_whole_and_alone(files: Files) -> None:
    for name in ("evidence/a/faces/1.jpg", "evidence/a/report.html", "evidence/ab/report.html"):
        part = files.incoming()
        part.write_bytes(b"x")
        files.keep(part, name)
    files.delete("evidence/a")
    assert [name for name, _ in files.names("evidence")] == ["evidence/ab/report.html"]


def test_a_bucket_that_is_away_is_no_room(bucket: str, tmp_path: Path) -> None:
    files = open_files("s3://missing/x", tmp_path)
    part = files.incoming()
    part.write_bytes(b"x")
    with pytest.raises(OutputError):
        files.keep(part, "media/one")
    with pytest.raises(OptionError):
        open_files("ftp://somewhere", tmp_path)


def test_a_whole_job_with_a_bucket(bucket: str, tmp_path: Path) -> None:
    with TestClient(make_app(make_settings(tmp_path, workers=1, storage=bucket))) as client:
        clip = make_clip(1)
        job = ended(client, submit(client, clip)["id"])
        assert job["state"] == "done"
        address = f"/v1/jobs/{job['id']}/media"
        assert client.get(address).content == clip
        part = client.get(address, headers={"Range": "bytes=5-9"})
        assert (part.status_code, part.content) == (206, clip[5:10])
        assert client.get(address, headers={"Range": "bytes=-3"}).content == clip[-3:]
        assert client.get(address, headers={"Range": "bytes=9999999-"}).status_code == 416
        assert client.get(f"/v1/jobs/{job['id']}/faces/0.jpg").status_code == 200
        client.delete(f"/v1/jobs/{job['id']}")
        left = boto3.client("s3").list_objects_v2(Bucket=bucket.split("/")[2]).get("Contents", [])
        assert [one["Key"] for one in left] == []
