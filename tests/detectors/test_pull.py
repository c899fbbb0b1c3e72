"""Fetching: only by HTTPS, only with a checksum, resumed, and never when told to stay offline."""

from __future__ import annotations

import hashlib
import io
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path

import pytest

from faceproof.detectors import catalog
from faceproof.detectors.pull import fetch, remove
from faceproof.errors import FaceproofError, OptionError, WeightsError

CONTENT = bytes(range(256)) * 9000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
URL = "https://example.org/weights"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path))
    monkeypatch.delenv("FACEPROOF_OFFLINE", raising=False)
    return tmp_path


class Answer(io.BytesIO):
    def __init__(self, content: bytes, status: int, length: int) -> None:
        super().__init__(content)
        self.status = status
        self.headers = Message()
        self.headers["Content-Length"] = str(length)


class Server:
    """Serves CONTENT; breaks off after ``stop_at`` bytes; ignores ranges unless told otherwise."""

    def __init__(self, content: bytes = CONTENT, stop_at: int | None = None, ranges: bool = True) -> None:
        self.content, self.stop_at, self.ranges = content, stop_at, ranges
        self.asked: list[str | None] = []

    def __call__(self, request: urllib.request.Request) -> Answer:
        wanted = request.get_header("Range")
        self.asked.append(wanted)
        start = int(wanted.split("=")[1].rstrip("-")) if wanted and self.ranges else 0
        if start >= len(self.content):
            raise urllib.error.HTTPError(URL, 416, "Range Not Satisfiable", Message(), None)
        body = self.content[start : self.stop_at]
        return Answer(body, 206 if wanted and self.ranges else 200, len(self.content) - start)


def test_a_file_is_fetched_checked_and_kept() -> None:
    server, told = Server(), []
    path = fetch(URL, DIGEST, opener=server, progress=lambda have, total: told.append((have, total)))
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert fetch(URL, DIGEST, opener=server, stay_offline=True) == path
    assert server.asked == [None]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_is_resumed(ranges: bool) -> None:
    with pytest.raises(WeightsError, match=r"broke off at 1,000 of"):
        fetch(URL, DIGEST, opener=Server(stop_at=1000))
    server = Server(ranges=ranges)
    assert fetch(URL, DIGEST, opener=server).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]


def test_a_download_that_was_complete_but_unchecked_is_used(home: Path) -> None:
    (home / "downloads").mkdir()
    (home / "downloads" / f"{DIGEST}.partial").write_bytes(CONTENT)
    assert fetch(URL, DIGEST, opener=Server()).read_bytes() == CONTENT


def test_another_checksum_is_thrown_away(home: Path) -> None:
    with pytest.raises(WeightsError, match="thrown away"):
        fetch(URL, DIGEST, opener=Server(b"something else"))
    assert not list((home / "downloads").iterdir())


def test_offline_means_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match="stay offline"):
        fetch(URL, DIGEST, stay_offline=True)
    monkeypatch.setenv("FACEPROOF_OFFLINE", "1")
    with pytest.raises(WeightsError, match="stay offline"):
        fetch(URL, DIGEST)


@pytest.mark.parametrize(
    ("url", "digest", "words"),
    [
        ("http://example.org/w", DIGEST, "only https"),
        ("file:///etc/passwd", DIGEST, "only https"),
        (URL, "abc", "no SHA-256"),
    ],
)
def test_what_is_never_fetched(url: str, digest: str, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        fetch(url, digest)


def test_a_servers_refusal_and_an_unreachable_one_are_named() -> None:
    def refuses(request: urllib.request.Request) -> Answer:
        raise urllib.error.HTTPError(URL, 404, "Not Found", Message(), None)

    def gone(request: urllib.request.Request) -> Answer:
        raise urllib.error.URLError("no route to host")

    with pytest.raises(WeightsError, match="answers 404"):
        fetch(URL, DIGEST, opener=refuses)
    with pytest.raises(WeightsError, match=r"example\.org cannot be reached: no route"):
        fetch(URL, DIGEST, opener=gone)


def test_only_the_users_own_detectors_are_removed(home: Path) -> None:
    shipped = catalog.find_spec("efficientnet-b7-dfdc")
    with pytest.raises(OptionError, match="belongs to the package"):
        remove(shipped)
    folder = home / "models" / "mine"
    folder.mkdir(parents=True)
    text = shipped.source.read_text().replace('name = "efficientnet-b7-dfdc"', 'name = "mine"')
    (folder / "spec.toml").write_text(text)
    remove(catalog.find_spec("mine"))
    assert not folder.exists()
    outside = home / "outside"
    outside.mkdir()
    (outside / "spec.toml").write_text(text)
    folder.symlink_to(outside)
    with pytest.raises(FaceproofError):
        remove(catalog.find_spec("mine"))
    assert outside.exists()
