"""Errors as RFC 9457 problem details, each with a remedy."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from faceproof.errors import (
    FaceproofError,
    MediaEmptyError,
    MediaLimitError,
    MediaUnsupportedError,
    OptionError,
    OutputError,
    UnknownDetectorError,
)
from faceproof.service.outward import AddressError
from faceproof.service.store import is_disk_full

MEDIA_TYPE = "application/problem+json"

_STATUS: tuple[tuple[type[FaceproofError], int], ...] = (
    (MediaEmptyError, 422),
    (MediaUnsupportedError, 415),
    (MediaLimitError, 413),
    (UnknownDetectorError, 422),
    (OptionError, 422),
    (AddressError, 422),
    (OutputError, 507),
)


class Problem(FaceproofError):
    """An error with a status, thrown by routes. ``headers`` go with the answer."""

    def __init__(
        self, status: int, code: str, message: str, remedy: str, *, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status
        self.problem_code = code
        self.headers = headers or {}


def not_found() -> Problem:
    """The same answer for what does not exist and for what belongs to someone else."""
    return Problem(404, "not_found", "there is nothing by that name", "Check the id; results are erased after a while.")


def body(status: int, code: str, message: str, remedy: str, request: Request) -> dict[str, Any]:
    return {
        "type": f"urn:faceproof:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": message[:1].upper() + message[1:],
        "remedy": remedy,
        "request_id": getattr(request.state, "request_id", None),
    }


def _asks_for_a_page(request: Request) -> bool:
    """Whether a person with a browser stands before the page's door; the API's answers everybody alike."""
    return not request.url.path.startswith("/v1/") and "text/html" in request.headers.get("accept", "")


def answer(
    request: Request, status: int, code: str, message: str, remedy: str, headers: dict[str, str] | None = None
) -> Response:
    """The problem as a document, or as a page for whoever came to a page's address with a browser."""
    content = body(status, code, message, remedy, request)
    page = getattr(request.app.state, "problem_page", None)
    if page is not None and _asks_for_a_page(request):
        shown: Response = page(request, content)
        shown.headers.update(headers or {})
        return shown
    return JSONResponse(content, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def answer_problems(app: FastAPI) -> None:
    """Turn every error of the routes into a problem document."""

    @app.exception_handler(FaceproofError)
    def _known(request: Request, error: FaceproofError) -> Response:
        if isinstance(error, Problem):
            return answer(request, error.status, error.problem_code, error.message, error.remedy, error.headers)
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
        return answer(request, status, error.code, error.message, error.remedy)

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: RequestValidationError) -> Response:
        parts = [f"{'.'.join(str(step) for step in one['loc'][1:])}: {one['msg']}" for one in error.errors()]
        remedy = "Go back and try again." if _asks_for_a_page(request) else "See /openapi.json."
        return answer(request, 422, "invalid", "; ".join(parts) or "the request is not valid", remedy)

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> Response:
        words = {404: "there is nothing at that address", 405: "this address does not take that method"}
        message = words.get(error.status_code, str(error.detail))
        code = {404: "not_found", 405: "method"}.get(error.status_code, "http")
        headers = dict(error.headers) if error.headers else None
        remedy = "See /openapi.json."
        if _asks_for_a_page(request):
            remedy = "Check the address, or go to the start page; results are erased after a while."
        return answer(request, error.status_code, code, message, remedy, headers)

    @app.exception_handler(OperationalError)
    @app.exception_handler(NoConnectionError)
    def _database(request: Request, error: SQLAlchemyError) -> Response:
        if isinstance(error, OperationalError) and is_disk_full(error):
            return answer(request, 507, "output", "the disk is full", "Free space on the server and try again.")
        return answer(
            request, 503, "database", "the database does not answer", "Try again in a moment.", {"Retry-After": "5"}
        )


def answer_mistake(request: Request) -> Response:
    """The answer where the service itself went wrong: what happened is in its log, under the request's id."""
    remedy = "Try again; if it happens again, give the operator the request's id, which is in the server's log."
    return answer(request, 500, "internal", "the service made a mistake", remedy)


PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail", "remedy"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "remedy": {"type": "string"},
        "request_id": {"type": ["string", "null"]},
    },
    "examples": [
        {
            "type": "urn:faceproof:problem:unsupported",
            "title": "Unsupported Media Type",
            "status": 415,
            "code": "unsupported",
            "detail": "This is not a picture or video that Faceproof can open",
            "remedy": "Convert it to MP4 (H.264) or JPEG, for instance with FFmpeg.",
            "request_id": "5f6c1f0e9a0b4c53",
        }
    ],
}

_WORDS = {
    400: "The request cannot be read.",
    401: "No valid API key or session.",
    403: "The key lacks the scope, or the request comes from another site.",
    404: "No such thing, or not yours.",
    409: "The job's state does not allow this, or the Idempotency-Key was used for something else.",
    413: "Larger than this server takes.",
    415: "Not a picture or video.",
    422: "An option makes no sense.",
    429: "Too many requests, or the queue is full; Retry-After says when to come back.",
    503: "Something this server needs is away.",
    507: "The server's disk is full.",
}


def documented(*statuses: int, also: dict[int, dict[str, Any]] | None = None) -> dict[int | str, dict[str, Any]]:
    """``responses=`` of a route: the problems it can answer with, and ``also`` its other answers."""
    answers: dict[int | str, dict[str, Any]] = {}
    answers.update((also or {}).items())
    return answers | {
        status: {"description": _WORDS[status], "content": {MEDIA_TYPE: {"schema": PROBLEM_SCHEMA}}}
        for status in (400, 401, 403, 429, 503, *statuses)
    }
