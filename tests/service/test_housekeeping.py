"""What nobody asks for is tidied, and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

from fastapi.testclient import TestClient
from service_under_test import make_clip, make_settings, submit

from faceproof.service import housekeeping
from faceproof.service.app import make_app
from faceproof.service.site import Site
from faceproof.service.tables import Idempotency


def age(path: Path, seconds: float) -> None:
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def test_leftovers_go_once_they_are_old_and_what_a_row_speaks_of_stays(tmp_path: Path) -> None:
    with TestClient(make_app(make_settings(tmp_path, workers=0))) as client:
        site: Site = client.app.state.site  # type: ignore[attr-defined]
        job = submit(client, make_clip(1))
        media = next((tmp_path / "media").iterdir())
        broken_off, arriving = tmp_path / "incoming" / ("0" * 32), tmp_path / "incoming" / ("1" * 32)
        orphan, fresh = tmp_path / "media" / ("2" * 32), tmp_path / "media" / ("3" * 32)
        picture = tmp_path / "evidence" / ("4" * 32) / "faces" / "1.jpg"
        picture.parent.mkdir(parents=True)
        for path in (broken_off, arriving, orphan, fresh, picture):
            path.write_bytes(b"x")
        for path in (broken_off, orphan, picture, media):
            age(path, 2 * housekeeping.LEFTOVER_AGE)
        housekeeping.sweep(site)
        assert not any(path.exists() for path in (broken_off, orphan, picture))
        assert all(path.exists() for path in (arriving, fresh, media))
        assert client.get(f"/v1/jobs/{job['id']}/media").status_code == 200


def test_a_request_may_be_repeated_for_a_day(tmp_path: Path) -> None:
    with TestClient(make_app(make_settings(tmp_path, workers=0))) as client:
        site: Site = client.app.state.site  # type: ignore[attr-defined]

        def post() -> str:
            files, headers = {"file": ("a.mp4", make_clip(1))}, {"Idempotency-Key": "once"}
            return str(client.post("/v1/jobs", files=files, data={"fresh": "true"}, headers=headers).json()["id"])

        first = post()
        housekeeping.sweep(site)
        assert post() == first
        with site.store.write() as session:
            known = session.get_one(Idempotency, ("local", "once"))
            known.created_at -= housekeeping.IDEMPOTENCY_AGE
        housekeeping.sweep(site)
        assert post() != first
