"""The upload is judged while it streams, not afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faceproof.service.files import LocalFiles
from faceproof.service.problems import Problem
from faceproof.service.uploads import Form, receive, tidy_name

HEAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
MP4 = b"\0\0\0\x18ftypmp42"


def read(
    files: LocalFiles, body: Iterable[bytes], *, most_files: int = 1, then: Callable[[Form], Form] = lambda form: form
) -> Form:
    pieces = iter(body)

    async def next_piece() -> dict[str, Any]:
        piece = next(pieces, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"multipart/form-data; boundary=x")]}
    request = Request(scope, next_piece)

    async def no_limit() -> None:
        return None

    received = asyncio.run(receive(request, files, most_bytes=10**6, most_files=most_files, first=no_limit))
    try:
        return then(received.form())
    finally:
        received.discard()


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    return LocalFiles(tmp_path)


def left(files: LocalFiles) -> list[Path]:
    return list((files.root / "incoming").iterdir())


def test_a_file_and_its_options_arrive_whole(files: LocalFiles) -> None:
    body = (
        HEAD + MP4 + b"z" * 5000 + b'\r\n--x\r\nContent-Disposition: form-data; name="frames"\r\n\r\nall\r\n--x--\r\n'
    )
    contents = []

    def take(form: Form) -> Form:
        contents.append(form.uploads[0].path.read_bytes())
        return form

    form = read(files, [body[i : i + 7] for i in range(0, len(body), 7)], then=take)
    (upload,) = form.uploads
    assert contents == [MP4 + b"z" * 5000]
    assert (upload.size, upload.mime, upload.file_name) == (5012, "video/mp4", "a.mp4")
    assert form.fields == {"frames": "all"}
    assert left(files) == []


def test_reading_stops_at_the_limit(files: LocalFiles) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield HEAD + MP4
        while True:
            sent += 100_000
            yield b"\0" * 100_000

    with pytest.raises(Problem) as raised:
        read(files, endless())
    assert raised.value.status == 413
    assert sent < 4_000_000
    assert left(files) == []


@pytest.mark.parametrize(
    "body",
    [
        [HEAD * 2 + MP4],
        [HEAD, MP4, b"\r\n--x\r\n", *[HEAD.split(b"--x\r\n")[1], MP4, b"\r\n--x--"]],
        [b"--x\r\n" + b"a" * 100_000],
        [b'--x\r\nContent-Disposition: form-data; name="f"\r\n\r\n', b"v" * 10_000, b"\r\n--x--\r\n"],
        [b'--x\r\nContent-Disposition: form-data; name="f"\r\n\r\nv\r\n'] * 60,
        [b"--y--"],
    ],
    ids=["cut-off", "too-many-files", "endless-header", "long-field", "many-fields", "wrong-boundary"],
)
def test_forms_that_are_none_leave_nothing_behind(files: LocalFiles, body: list[bytes]) -> None:
    with pytest.raises(Problem) as raised:
        read(files, body)
    assert raised.value.status in (400, 413)
    assert left(files) == []


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(st.binary(max_size=60), st.sampled_from([HEAD, MP4, b"\r\n--x--\r\n", b"\r\n--x\r\n"])), max_size=8
    )
)
def test_any_bytes_at_all_are_a_form_or_a_problem(files: LocalFiles, body: list[bytes]) -> None:
    with suppress(Problem):
        read(files, body)
    assert left(files) == []


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\clip.mp4", "clip.mp4"),
        ("a\r\nb\0c.mp4", "abc.mp4"),
        ("", "unnamed"),
        ("%22quoted%22 100%.mp4", '"quoted" 100%.mp4'),
        ("é" * 300, "é" * 200),
    ],
)
def test_names_are_for_showing_only(given: str, shown: str) -> None:
    assert tidy_name(given) == shown
