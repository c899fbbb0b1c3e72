"""Uploads, streamed: bytes go to disk as they arrive, counted against the limits and looked at on the way."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from faceproof.errors import FaceproofError
from faceproof.service.files import Files, room_needed
from faceproof.service.problems import Problem
from faceproof.service.sniffing import SNIFFED_BYTES, require_media

FORM_OVERHEAD = 1_000_000
MOST_FIELD_BYTES = 8_192
MOST_FIELDS = 40
WRITE_AT_ONCE = 1 << 20


@dataclass
class Upload:
    """One file of a form, on disk at ``path`` until someone keeps it. ``fault`` says why it cannot be judged."""

    file_name: str
    path: Path
    size: int = 0
    sha256: str = ""
    mime: str = ""
    fault: FaceproofError | None = None


@dataclass
class Form:
    """What a multipart request held."""

    fields: dict[str, str] = field(default_factory=dict)
    uploads: list[Upload] = field(default_factory=list)

    def discard(self) -> None:
        """Remove the files nobody kept."""
        for upload in self.uploads:
            upload.path.unlink(missing_ok=True)


def too_large(limit: int) -> Problem:
    return Problem(413, "limit", f"the file is larger than {limit} bytes", "Send a shorter or smaller copy.")


class Received:
    """A multipart request that arrived; its last piece is still to be written, which :meth:`form` does."""

    def __init__(self, writer: _FormWriter, last: bytes) -> None:
        self._writer = writer
        self._last = last

    def form(self) -> Form:
        """The whole form. Call in a thread: it writes to disk. Raises :class:`Problem` and :class:`OutputError`."""
        try:
            self._writer.write(self._last)
            return self._writer.end()
        except FormParserError as error:
            raise _broken() from error

    def discard(self) -> None:
        """Remove the files nobody kept."""
        self._writer.give_up()


async def receive(
    request: Request,
    files: Files,
    *,
    most_bytes: int,
    most_files: int,
    first: Callable[[], Awaitable[int | None]],
) -> Received:
    """Read a multipart form. ``most_bytes`` bounds each file. The caller discards what it does not keep.

    ``first`` is awaited before a byte is read; it returns the bytes that are free for files, None for no limit.

    Raises :class:`Problem` for a broken form or one over the limits, and :class:`faceproof.errors.OutputError` when the
    disk is full; nothing is left behind then.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise Problem(415, "form", "this address takes multipart/form-data", "Send the file as the form field `file`.")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most_bytes * most_files + FORM_OVERHEAD:
        raise too_large(most_bytes)
    free = await first()
    if free is not None and declared.isdigit() and int(declared) > free:
        raise Problem(507, "output", "the server's disk is full", "Free space on the server and try again.")
    writer = _FormWriter(files, boundary, most_bytes=most_bytes, most_files=most_files)
    whole = False
    try:
        last = b""
        async for chunk in _gathered(request):
            if last:
                await run_in_threadpool(writer.write, last)
            last = chunk
        whole = True
        return Received(writer, last)
    except FormParserError as error:
        raise _broken() from error
    except ClientDisconnect as error:
        raise Problem(400, "broken_off", "the upload broke off", "Send it again.") from error
    finally:
        if not whole:
            writer.give_up()


def _broken() -> Problem:
    return Problem(400, "form", "the form cannot be read", "Send multipart/form-data as browsers and curl -F do.")


async def _gathered(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces worth a thread's while."""
    waiting = bytearray()
    async for chunk in request.stream():
        waiting += chunk
        if len(waiting) >= WRITE_AT_ONCE:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


class _FormWriter:
    """Takes the parser's callbacks; runs in threads, one call at a time."""

    def __init__(self, files: Files, boundary: bytes, *, most_bytes: int, most_files: int) -> None:
        self._files = files
        self._most_bytes = most_bytes
        self._most_files = most_files
        self._form = Form()
        self._ended = False
        self._header_name = b""
        self._header_value = b""
        self._disposition: dict[bytes, bytes] = {}
        self._field: bytearray | None = None
        self._upload: Upload | None = None
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._head = b""
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begins,
                    "on_part_data": self._part_data,
                    "on_part_end": self._part_ends,
                    "on_header_field": self._name_data,
                    "on_header_value": self._value_data,
                    "on_header_end": self._header_ends,
                    "on_headers_finished": self._headers_end,
                    "on_end": self._all_ends,
                },
            )
        except FormParserError as error:
            raise _broken() from error

    def write(self, chunk: bytes) -> None:
        if not chunk:
            return
        with room_needed():
            self._parser.write(chunk)

    def end(self) -> Form:
        self._parser.finalize()
        if not self._ended:
            raise FormParserError("cut off")
        return self._form

    def give_up(self) -> None:
        if self._file is not None:
            self._file.close()
        self._form.discard()

    def _part_begins(self) -> None:
        self._disposition = {}
        self._header_name = self._header_value = b""

    def _name_data(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _value_data(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_ends(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            _, self._disposition = parse_options_header(self._header_value)
        self._header_name = self._header_value = b""

    def _headers_end(self) -> None:
        if b"filename" in self._disposition:
            if len(self._form.uploads) >= self._most_files:
                several = self._most_files > 1
                raise Problem(
                    413,
                    "limit",
                    f"more than {self._most_files} files" if several else "more than one file",
                    "Send them in several requests." if several else "Send several to POST /v1/batch.",
                )
            given = self._disposition.get(b"filename", b"").decode("utf-8", "replace")
            self._upload = Upload(tidy_name(given), self._files.incoming())
            self._form.uploads.append(self._upload)
            self._file = self._upload.path.open("xb")
            self._digest, self._head = hashlib.sha256(), b""
        elif self._disposition.get(b"name") == b"file":
            raise Problem(
                422,
                "file",
                "the form field `file` holds text, not a file",
                "With curl write -F file=@clip.mp4; other programs give that part of the form a filename.",
            )
        else:
            if len(self._form.fields) >= MOST_FIELDS:
                raise Problem(413, "limit", "too many form fields", "See /openapi.json for the fields there are.")
            self._field = bytearray()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        if self._upload is not None and self._file is not None:
            self._upload.size += len(piece)
            if self._upload.size > self._most_bytes:
                raise too_large(self._most_bytes)
            if len(self._head) < SNIFFED_BYTES:
                self._head += piece[: SNIFFED_BYTES - len(self._head)]
            self._digest.update(piece)
            self._file.write(piece)
        elif self._field is not None:
            self._field += piece
            if len(self._field) > MOST_FIELD_BYTES:
                raise Problem(413, "limit", "a form field is too long", "Send options as short fields.")

    def _part_ends(self) -> None:
        if self._upload is not None and self._file is not None:
            self._file.close()
            self._upload.sha256 = self._digest.hexdigest()
            try:
                self._upload.mime = require_media(self._head)
            except FaceproofError as error:
                self._upload.fault = error
        elif self._field is not None:
            name = self._disposition.get(b"name", b"").decode("utf-8", "replace")
            self._form.fields[name] = self._field.decode("utf-8", "replace")
        self._upload = self._file = self._field = None

    def _all_ends(self) -> None:
        self._ended = True


def tidy_name(given: str) -> str:
    """A file name to show: its last part, printable, at most 200 characters. Never used as a path."""
    # Browsers write a name's quotation marks as %22.
    last = given.replace("%22", '"').replace("\\", "/").rpartition("/")[2]
    shown = "".join(c for c in last if c.isprintable()).strip()
    return shown[:200] or "unnamed"
