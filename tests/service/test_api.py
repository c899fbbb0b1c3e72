"""The REST API with a real worker process behind it."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import ExifTags, Image
from service_under_test import ended, make_clip, make_picture, make_settings, submit
from tests.media.heif_files import heic, needs_heif

from faceproof.results import Report
from faceproof.service.app import make_app

pytestmark = pytest.mark.xdist_group("api")


def test_an_upload_becomes_a_report(client: TestClient) -> None:
    job = submit(client, make_clip(1), "holiday.mp4")
    assert job["state"] == "queued"
    done = ended(client, job["id"])
    assert done["state"] == "done"
    report = Report.model_validate_json(client.get(f"/v1/jobs/{job['id']}/report.json").text)
    assert report.media.path == "holiday.mp4"
    assert report.verdict.value == done["verdict"]
    assert report.score == pytest.approx(done["score"])
    assert report.frames_analyzed == 12


def test_evidence_comes_with_it(client: TestClient) -> None:
    job = ended(client, submit(client, make_clip(1))["id"])
    page = client.get(f"/v1/jobs/{job['id']}/report.html")
    assert page.status_code == 200
    assert "sandbox" in page.headers["content-security-policy"]
    for kind in ("faces", "heatmaps"):
        picture = client.get(f"/v1/jobs/{job['id']}/{kind}/0.jpg")
        assert picture.content.startswith(b"\xff\xd8\xff")
    assert client.get(f"/v1/jobs/{job['id']}/faces/99.jpg").status_code == 404
    assert client.get(f"/v1/jobs/{job['id']}/faces/..%2f..%2fsecret.jpg").status_code == 404


def test_the_overlay_is_drawn_when_it_is_asked_for(client: TestClient) -> None:
    from service_under_test import wait_for

    job = ended(client, submit(client, make_clip(1))["id"])
    address = f"/v1/jobs/{job['id']}/overlay.mp4"
    first = client.get(address)
    assert first.status_code == 202
    assert first.headers["retry-after"]
    drawn = wait_for(lambda: (r := client.get(address)).status_code == 200 and r, what="the overlay")
    assert drawn.content[4:8] == b"ftyp"


def test_an_animated_picture_is_a_short_video(client: TestClient) -> None:
    first, *others = [Image.open(io.BytesIO(make_picture(seed))) for seed in range(3)]
    content = io.BytesIO()
    first.save(content, "GIF", save_all=True, append_images=others, duration=200)
    job = ended(client, submit(client, content.getvalue(), "meme.gif")["id"])
    report = Report.model_validate_json(client.get(f"/v1/jobs/{job['id']}/report.json").text)
    assert (report.media.kind, report.media.duration, report.frames_analyzed) == ("video", 0.6, 3)
    page = client.get(f"/jobs/{job['id']}", headers={"accept": "text/html"}).text
    # No browser plays it as a video, so it is what is seen until the drawn one is asked for.
    assert f'poster="/v1/jobs/{job["id"]}/media"' in page
    assert client.get(f"/v1/jobs/{job['id']}/media").headers["content-type"] == "image/gif"


def turned_picture(kind: str) -> bytes:
    """Dark above bright once it is upright, stored lying on its side."""
    pixels = np.full((64, 48, 3), 200, np.uint8)
    pixels[:32] = 40
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned a quarter clockwise
    target = io.BytesIO()
    if kind == "HEIF":
        return heic([[np.rot90(pixels).copy()]], turn=3)
    Image.fromarray(np.rot90(pixels).copy()).save(target, kind, exif=exif)
    return target.getvalue()


@pytest.mark.parametrize("kind", ["TIFF", "WEBP", "AVIF", pytest.param("HEIF", marks=needs_heif)])
def test_what_browsers_show_otherwise_has_a_preview_as_it_was_judged(client: TestClient, kind: str) -> None:
    job = ended(client, submit(client, turned_picture(kind), f"turned.{kind.lower()}")["id"])
    assert job["state"] == "done", job
    answer = client.get(f"/v1/jobs/{job['id']}/preview.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    shown = Image.open(io.BytesIO(answer.content))
    report = Report.model_validate_json(client.get(f"/v1/jobs/{job['id']}/report.json").text)
    # Boxes are pixels of the upright picture.
    assert shown.size == (report.media.width, report.media.height) == (48, 64)
    grey = np.asarray(shown.convert("L"))
    assert grey[:24].mean() < 60
    assert grey[40:].mean() > 180
    page = client.get(f"/jobs/{job['id']}", headers={"accept": "text/html"}).text
    assert f'src="/v1/jobs/{job["id"]}/preview.jpg"' in page
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert client.get(f"/v1/jobs/{job['id']}/preview.jpg").status_code == 404


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
def test_what_every_browser_shows_is_shown_itself(client: TestClient, kind: str) -> None:
    job = ended(client, submit(client, make_picture(31, kind), "as-it-is")["id"])
    assert client.get(f"/v1/jobs/{job['id']}/preview.jpg").status_code == 404
    assert f'src="/v1/jobs/{job["id"]}/media"' in client.get(f"/jobs/{job['id']}", headers={"accept": "text/html"}).text


def test_a_large_picture_has_a_smaller_preview(client: TestClient) -> None:
    target = io.BytesIO()
    Image.new("RGB", (2400, 1200), (90, 120, 150)).save(target, "TIFF", compression="tiff_deflate")
    job = ended(client, submit(client, target.getvalue(), "scan.tif")["id"])
    assert Image.open(io.BytesIO(client.get(f"/v1/jobs/{job['id']}/preview.jpg").content)).size == (1920, 960)
    bare = ended(client, submit(client, target.getvalue(), "scan.tif", evidence="false")["id"])
    assert bare["id"] != job["id"]
    assert client.get(f"/v1/jobs/{bare['id']}/preview.jpg").status_code == 404


def test_the_same_file_and_settings_are_judged_once(client: TestClient) -> None:
    clip = make_clip(2)
    first = ended(client, submit(client, clip, "a.mp4")["id"])
    answer = client.post("/v1/jobs", files={"file": ("b.mp4", clip)})
    assert answer.status_code == 200
    assert answer.json()["id"] == first["id"]
    assert answer.json()["reused"] is True
    assert submit(client, clip, frames="5")["id"] != first["id"]
    assert submit(client, clip, detector="fake-other")["id"] != first["id"]
    assert submit(client, clip, fresh="true")["id"] != first["id"]


def test_a_repeated_request_is_done_once(client: TestClient) -> None:
    def post(seed: int) -> tuple[int, dict[str, str], str | None]:
        answer = client.post(
            "/v1/jobs",
            files={"file": ("a.mp4", make_clip(seed))},
            data={"fresh": "true"},
            headers={"Idempotency-Key": "order-66"},
        )
        return answer.status_code, answer.json(), answer.headers.get("idempotent-replayed")

    first, again, other = post(3), post(3), post(4)
    assert first[0] == again[0] == 202
    assert first[1]["id"] == again[1]["id"]
    assert (first[2], again[2]) == (None, "true")
    assert other[0] == 422
    assert other[1]["code"] == "idempotency"


def test_listeners_are_told_and_can_go_on_where_they_stopped(client: TestClient) -> None:
    job = submit(client, make_clip(5, frames=20), detector="fake-slow")
    with client.stream("GET", f"/v1/jobs/{job['id']}/events") as stream:
        text = "".join(stream.iter_text())
    ids = [int(i) for i in re.findall(r"^id: (\d+)$", text, re.M)]
    told = [json.loads(line) for line in re.findall(r"^data: (.+)$", text, re.M)]
    assert ids == sorted(ids)
    assert told[0] == {"state": "queued"}
    assert told[-1]["state"] == "done"
    steps = [one for one in told if "stage" in one]
    assert steps
    assert steps[-1]["total"] == 20
    assert all(0 <= p <= 1 for p in steps[-1]["curve"])
    later = client.get(f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": str(ids[-1] - 1)})
    assert re.findall(r"^id: (\d+)$", later.text, re.M) == [str(ids[-1])]
    assert client.get(f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": str(ids[-1])}).status_code == 204


def test_a_running_job_can_be_stopped(client: TestClient) -> None:
    from service_under_test import wait_for

    job = submit(client, make_clip(6, frames=800), detector="fake-slow", frames="all")
    wait_for(lambda: client.get(f"/v1/jobs/{job['id']}").json()["state"] == "running")
    stopped = client.post(f"/v1/jobs/{job['id']}/cancel")
    assert stopped.json()["state"] == "cancelled"
    # The worker is free again long before the two minutes that the clip would have taken.
    assert ended(client, submit(client, make_clip(7))["id"], seconds=60)["state"] == "done"
    assert client.get(f"/v1/jobs/{job['id']}").json()["state"] == "cancelled"
    assert client.get(f"/v1/jobs/{job['id']}/report.json").status_code == 409
    done = ended(client, submit(client, make_clip(7))["id"])
    assert client.post(f"/v1/jobs/{done['id']}/cancel").json()["code"] == "final"


def test_deleting_leaves_nothing(tmp_path: Path) -> None:
    name = "very-private-name.mp4"
    with TestClient(make_app(make_settings(tmp_path, workers=1))) as client:
        kept = ended(client, submit(client, make_clip(9))["id"])
        job = ended(client, submit(client, make_clip(8), name)["id"])
        other = client.post(f"/v1/jobs/{job['id']}/again", json={"detector": "fake-other"}).json()
        ended(client, other["id"])
        media = client.get(f"/v1/jobs/{job['id']}/media").content
        assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
        # The file is still needed by the other opinion on it.
        assert client.get(f"/v1/jobs/{other['id']}/media").content == media
        assert client.delete(f"/v1/jobs/{other['id']}").status_code == 204
        assert client.get(f"/v1/jobs/{job['id']}").status_code == 404
        assert client.get(f"/v1/jobs/{kept['id']}/media").status_code == 200
        left = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert not [path for path in left if job["id"] in str(path) or other["id"] in str(path)]
        for path in left:
            content = path.read_bytes()
            assert name.encode() not in content, path
            assert media not in content, path


def test_results_are_erased_when_their_time_is_over(tmp_path: Path) -> None:
    from service_under_test import wait_for

    with TestClient(make_app(make_settings(tmp_path, workers=1))) as client:
        job = submit(client, make_clip(1), keep="2s")
        ended(client, job["id"])
        wait_for(lambda: client.get(f"/v1/jobs/{job['id']}").status_code == 404, seconds=60)
        # The row goes first, so that nobody is given a file that is half gone.
        wait_for(lambda: not list((tmp_path / "media").iterdir()), seconds=20)
        too_long = client.post("/v1/jobs", files={"file": ("a.mp4", make_clip(2))}, data={"keep": "30d"})
        assert too_long.status_code == 422


def test_pictures_are_answered_at_once(client: TestClient) -> None:
    answer = client.post("/v1/images", files={"file": ("face.png", make_picture(1))})
    assert answer.status_code == 200
    assert Report.model_validate_json(answer.text).media.kind == "image"
    assert client.post("/v1/images", files={"file": ("a.mp4", make_clip(1))}).json()["code"] == "video"


def test_a_batch_reports_each_file(client: TestClient) -> None:
    files = [("file", (f"{i}.mp4", make_clip(20 + i))) for i in range(3)] + [("file", ("notes.txt", b"hello"))]
    answer = client.post("/v1/batch", files=files)
    assert answer.status_code == 202
    batch = answer.json()
    assert [item["file_name"] for item in batch["items"]] == ["0.mp4", "1.mp4", "2.mp4", "notes.txt"]
    assert batch["items"][3]["error"]["code"] == "unsupported"
    listed = client.get("/v1/jobs", params={"batch": batch["batch"]}).json()
    assert len(listed["items"]) == 3
    for item in batch["items"][:3]:
        assert ended(client, item["job"]["id"])["state"] == "done"


def test_lists_are_searched_and_paged(client: TestClient) -> None:
    for i in range(3):
        ended(client, submit(client, make_clip(30 + i), f"Needle-{i}%.mp4")["id"])
    found = client.get("/v1/jobs", params={"q": "needle-", "limit": 2}).json()
    assert [item["file_name"] for item in found["items"]] == ["Needle-2%.mp4", "Needle-1%.mp4"]
    rest = client.get("/v1/jobs", params={"q": "needle-", "limit": 2, "after": found["next"]}).json()
    assert [item["file_name"] for item in rest["items"]] == ["Needle-0%.mp4"]
    assert rest["next"] is None
    assert client.get("/v1/jobs", params={"q": "needle%"}).json()["items"] == []
    assert client.get("/v1/jobs", params={"q": "2%.mp4", "state": "failed"}).json()["items"] == []
    verdict = found["items"][0]["verdict"]
    fits = {"q": "needle-", "state": "done", "verdict": verdict}
    assert len(client.get("/v1/jobs", params=fits).json()["items"]) == 3
    other = "REAL" if verdict != "REAL" else "FAKE"
    assert client.get("/v1/jobs", params={**fits, "verdict": other}).json()["items"] == []


def test_media_is_served_in_ranges(client: TestClient) -> None:
    clip = make_clip(1)
    job = submit(client, clip)
    address = f"/v1/jobs/{job['id']}/media"
    whole = client.get(address)
    assert whole.content == clip
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["x-content-type-options"] == "nosniff"
    part = client.get(address, headers={"Range": "bytes=10-19"})
    assert part.status_code == 206
    assert part.content == clip[10:20]
    assert part.headers["content-range"] == f"bytes 10-19/{len(clip)}"
    assert client.get(address, headers={"Range": f"bytes={len(clip) + 5}-"}).status_code == 416


def _audio_only() -> bytes:
    import io

    import av
    import numpy as np

    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return target.getvalue()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\xff\xd8\xff\xe0" + b"\0" * 500, None),
        (make_clip(40)[:300], None),
        (b"\0\0\0\x18ftypmp42" + b"\xff" * 2000, None),
        (_audio_only(), "no_video_stream"),
        (b"RIFF\x10\0\0\0AVI LIST", None),
        (b"\x1aE\xdf\xa3" + b"\x42" * 300, None),
    ],
    ids=["broken-jpeg", "cut-off", "mp4-noise", "audio-only", "avi-stub", "mkv-noise"],
)
def test_broken_media_ends_as_a_failed_job_with_a_reason(client: TestClient, content: bytes, code: str | None) -> None:
    job = ended(client, submit(client, content, "strange name é.mp4")["id"])
    assert job["state"] == "failed"
    assert job["verdict"] is None
    assert job["score"] is None
    assert job["error"]["code"] == code if code else job["error"]["code"] not in ("internal", "worker_died")
    assert job["error"]["remedy"]
    # People see their file's name, not where it lies on the server.
    assert "media/" not in job["error"]["message"]


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [(b"", 422, "empty"), (b"just text", 415, "unsupported"), (b"PK\3\4" * 9, 415, "unsupported")],
)
def test_what_is_not_media_is_refused_at_the_door(client: TestClient, content: bytes, status: int, code: str) -> None:
    answer = client.post("/v1/jobs", files={"file": ("clip.mp4", content)})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == code
    assert problem["remedy"]
    assert problem["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "fields",
    [
        {"frames": "some"},
        {"faces": "ugly"},
        {"detector": "nobody"},
        {"priority": "11"},
        {"keep": "x"},
        {"colour": "red"},
        {"fresh": "perhaps"},
        {"webhook": "ftp://x/"},
        {"webhook": "http://nowhere.invalid/"},
        {"frames": "١"},
    ],
)
def test_wrong_options_are_named(client: TestClient, fields: dict[str, str]) -> None:
    answer = client.post("/v1/jobs", files={"file": ("clip.mp4", make_clip(1))}, data=fields)
    assert answer.status_code == 422
    assert answer.json()["remedy"]


def test_forms_that_are_none_are_refused(client: TestClient) -> None:
    assert client.post("/v1/jobs").status_code == 415
    assert client.post("/v1/jobs", data={"frames": "all"}, files={}).status_code == 415
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    assert client.post("/v1/jobs", content=b"--x\r\nnonsense", headers=broken).status_code == 400
    assert client.post("/v1/jobs", content=b"", headers=broken).status_code == 400
    long = {"Content-Type": f"multipart/form-data; boundary={'x' * 3000}"}
    assert client.post("/v1/jobs", content=b"--x", headers=long).status_code == 400
    no_file = {"Content-Type": "multipart/form-data; boundary=x"}
    body = b'--x\r\nContent-Disposition: form-data; name="frames"\r\n\r\nall\r\n--x--\r\n'
    assert client.post("/v1/jobs", content=body, headers=no_file).json()["code"] == "file"


def test_a_full_queue_says_when_to_come_back(tmp_path: Path) -> None:
    with TestClient(make_app(make_settings(tmp_path, workers=0, max_queued=2))) as client:
        submit(client, make_clip(1))
        submit(client, make_clip(2))
        answer = client.post("/v1/jobs", files={"file": ("a.mp4", make_clip(3))})
        assert answer.status_code == 429
        assert answer.json()["code"] == "queue_full"
        assert int(answer.headers["retry-after"]) > 0


def test_it_says_how_it_is(client: TestClient) -> None:
    assert client.get("/healthz").json()["status"] == "ok"
    assert client.get("/readyz").json()["status"] == "ok"
    names = [one["name"] for one in client.get("/v1/detectors").json()]
    assert names[0] == "fake"
    ended(client, submit(client, make_clip(1))["id"])
    stats = client.get("/v1/stats").json()
    assert stats["jobs"]["done"] >= 1
    assert stats["totals"]["jobs_done"] >= 1
    metrics = client.get("/metrics").text
    assert 'faceproof_jobs{state="done"}' in metrics
    assert "faceproof_queue_depth 0.0" in metrics
    assert 'route="/v1/jobs/{job_id}"' in metrics


def test_the_description_is_complete(client: TestClient) -> None:
    import jsonschema

    described = client.get("/openapi.json").json()
    schemas = described["components"]["schemas"]
    shown = 0
    for path, methods in described["paths"].items():
        for method, about in methods.items():
            assert about["summary"], (method, path)
            if path.startswith("/v1") and method == "post":
                assert "requestBody" in about or path.endswith("cancel")
            contents = [about.get("requestBody", {}), *about["responses"].values()]
            for kind, content in (pair for one in contents for pair in one.get("content", {}).items()):
                schema = content["schema"]
                while "$ref" in schema or "items" in schema:
                    schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema["items"]
                examples = schema.get("examples") or ([content["example"]] if "example" in content else [])
                assert examples or kind not in MACHINE_READ, (method, path, kind)
                for example in examples:
                    whole = content["schema"] if "example" in content else schema
                    jsonschema.validate(example, {**whole, "components": described["components"]})
                    shown += 1
    assert shown > 80
    assert "HTTPValidationError" not in str(described)
    assert "webhook" in str(described["paths"]["/v1/jobs"]["post"]["requestBody"])
    Report.model_validate(schemas["Report"]["examples"][0])


MACHINE_READ = ("application/json", "application/problem+json", "multipart/form-data", "text/event-stream")


def test_a_picture_that_takes_longer_than_one_waits_is_a_job_to_follow(tmp_path: Path) -> None:
    with TestClient(make_app(make_settings(tmp_path, workers=0, wait=0.2))) as client:
        answer = client.post("/v1/images", files={"file": ("face.png", make_picture(1))})
        assert answer.status_code == 202
        assert client.get(answer.json()["links"]["self"]).json()["state"] == "queued"


def test_a_server_that_cannot_work_says_why(tmp_path: Path) -> None:
    with TestClient(make_app(make_settings(tmp_path, workers=0, detector="nobody"))) as client:
        assert client.get("/healthz").status_code == 200
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["status"] == "not_ready"
        assert answer.json()["checks"]["detector"] == "nobody has no weights"


def test_every_answer_carries_the_headers_that_keep_browsers_safe(client: TestClient) -> None:
    for path in ("/", "/healthz", "/v1/jobs/none", "/static/faceproof.css", "/nowhere"):
        headers = client.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-request-id"]


def test_no_old_script_meets_a_new_page(client: TestClient) -> None:
    first = client.get("/static/boxes.js")
    assert first.headers["cache-control"] == "no-cache"
    again = client.get("/static/boxes.js", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


def test_strange_hosts_are_not_answered(client: TestClient) -> None:
    assert client.get("/v1/stats", headers={"Host": "evil.example"}).status_code == 400
