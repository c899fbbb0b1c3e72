"""What ``/openapi.json`` says beyond the routes themselves: an example of every answer, and problems as they are."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from faceproof.service.problems import MEDIA_TYPE, PROBLEM_SCHEMA
from faceproof.service.views import JOB_EXAMPLE, JOB_ID_EXAMPLE

_QUEUED = {
    **JOB_EXAMPLE,
    "state": "queued",
    "started_at": None,
    "finished_at": None,
    "attempt": 0,
    "progress": None,
    "verdict": None,
    "score": None,
    "headline": None,
}
_BOX = [612.0, 188.5, 846.0, 480.0]
_REPORT: dict[str, Any] = {
    "schema_version": "1.0",
    "faceproof_version": "0.1.0",
    "media": {
        "path": "clip.mp4",
        "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "kind": "video",
        "width": 1920,
        "height": 1080,
        "fps": "30000/1001",
        "duration": 10.01,
        "frame_count": 300,
        "codec": "h264",
        "container": "mov,mp4,m4a,3gp,3g2,mj2",
        "bit_rate": 3100000,
        "size_bytes": 3880000,
    },
    "verdict": "FAKE",
    "prediction": "FAKE",
    "score": 0.86,
    "confidence": 0.86,
    "frames_analyzed": 1,
    "frames_failed": 0,
    "faces_repeated": 0,
    "frame_predictions": [
        {
            "index": 90,
            "time": 3.0,
            "score": 0.91,
            "prediction": "FAKE",
            "faces": [
                {
                    "box": _BOX,
                    "track": 1,
                    "p_fake": 0.91,
                    "detection_score": 0.99,
                    "side": 291.5,
                    "sharpness": 210.0,
                }
            ],
        }
    ],
    "tracks": [
        {
            "id": 1,
            "start": 0.0,
            "end": 10.0,
            "faces": 64,
            "score": 0.86,
            "verdict": "FAKE",
            "best_face_box": _BOX,
            "best_frame": 90,
            "best_time": 3.0,
            "median_side": 288.0,
            "median_sharpness": 205.0,
            "suspicious": [{"start": 2.0, "end": 6.0}],
        }
    ],
    "metrics": {
        "total_faces_detected": 64,
        "average_face_score": 0.74,
        "suspicious_frames_count": 1,
        "final_average_score": 0.86,
    },
    "detector": {
        "name": "faceproof-small",
        "version": "0.2.0",
        "weights_sha256": "66e024ac1d10ab1fd1e1aa6c4b9ca85bd3e5d2b0f3d7f8f5a7d0c4e5b6a79881",
        "spec_sha256": "0a4d55a8d778e5022fab701977c5d840bbc486d0a1f1c5c0a3b1f5e2d6c7b899",
        "runtime": "openvino",
        "precision": "bf16",
        "calibrated": True,
        "threshold": 0.83,
        "band": [0.36, 0.83],
    },
    "processing_time": 2.1,
    "timings": {"decoding": 0.8, "faces": 0.9, "scoring": 0.3},
}
_DETECTOR = {
    "name": "faceproof-small",
    "version": "0.2.0",
    "summary": "Finds where a face was blended into a picture",
    "media": ["video", "image"],
    "default": True,
    "calibrated": True,
    "threshold": 0.83,
    "band": [0.36, 0.83],
    "commercial_use": True,
    "weights_licence": "Apache-2.0",
    "origin": "trained by the Faceproof authors",
}
_LABEL = {
    "job": JOB_ID_EXAMPLE,
    "truth": "fake",
    "note": "the uploader admitted it",
    "labelled_at": "2025-03-02T09:30:00Z",
    "detector": "faceproof-small",
    "verdict": "FAKE",
    "score": 0.86,
    "right": True,
}
EXAMPLES: dict[str, Any] = {
    "JobView": JOB_EXAMPLE,
    "JobPage": {"items": [JOB_EXAMPLE], "next": JOB_ID_EXAMPLE},
    "BatchView": {
        "batch": "45c48cce2e2d7fbdea1afc51c7c6ad26",
        "items": [
            {"file_name": "clip.mp4", "job": _QUEUED, "error": None},
            {
                "file_name": "notes.txt",
                "job": None,
                "error": {
                    "code": "unsupported",
                    "message": "this is not a picture or video that Faceproof can open",
                    "remedy": "Convert it to MP4 (H.264) or JPEG, for instance with FFmpeg.",
                },
            },
        ],
    },
    "Report": _REPORT,
    "DetectorView": _DETECTOR,
    "LabelView": _LABEL,
    "FeedbackView": {"weeks": [], "files": 0, "disputed": 0},
    "StatsView": {"jobs": {"queued": 3, "running": 1, "done": 128}, "queue": 3, "totals": {"jobs_done": 128.0}},
    "HealthView": {"status": "ok", "checks": {"database": "ok", "files": "ok", "detector": "ok"}},
}
FORM = {"file": "(the bytes of clip.mp4)", "detector": "faceproof-small", "frames": "auto", "keep": "12h"}


def complete(app: FastAPI) -> None:
    """Let the application describe itself with examples, and with problem details where FastAPI assumes its own errors."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(described())
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name, example in EXAMPLES.items():
        # FastAPI drops what is null in an example, which then no longer fits its own schema.
        schemas[name]["examples"] = [example]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for operations in document["paths"].values():
        for operation in operations.values():
            for answer in operation["responses"].values():
                content = answer.get("content", {})
                if "HTTPValidationError" in str(content.get("application/json")):
                    del content["application/json"]
                    content[MEDIA_TYPE] = {"schema": PROBLEM_SCHEMA}
            form = operation.get("requestBody", {}).get("content", {}).get("multipart/form-data")
            if form is not None:
                several = form["schema"]["properties"]["file"].get("type") == "array"
                form["example"] = {**FORM, "file": [FORM["file"]]} if several else FORM
