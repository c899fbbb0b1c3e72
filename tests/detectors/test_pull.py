"""Fetching: only by HTTPS, only with a checksum, resumed, and never when told to stay offline."""

from __future__ import annotations

import hashlib
import io
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path

import pytest
from typer.testing import CliRunner

from faceproof.cli import app
from faceproof.cli import detectors as verbs
from faceproof.detectors import catalog, pull
from faceproof.detectors.pull import fetch, remove, wanted
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


SEVEN = "efficientnet-b7-dfdc-seven"


def sums() -> dict[str, str]:
    """A checksum for each of the seven members."""
    asked = ("111-36", "555-19", "777-29", "777-31", "888-37", "888-40", "999-23")
    return {f"efficientnet-b7-dfdc-{one}": f"{number:064x}" for number, one in enumerate(asked)}


def test_of_an_ensemble_every_member_is_wanted() -> None:
    files, ready = wanted(SEVEN, sums())
    assert ready == []
    assert {file.name: file.sha256 for file in files} == sums()
    assert {file.import_as for file in files} == {"efficientnet-b7-dfdc"}
    assert len({file.url for file in files}) == 7
    assert {file.licence for file in files} == {"MIT, github.com/selimsef/dfdc_deepfake_challenge"}
    for file in files:
        seed, epoch = file.name.split("-")[-2:]
        assert file.url.rsplit("/", 1)[1].startswith(f"final_{seed}_")
        assert file.url.endswith(f"_{epoch}")


def test_all_that_lacks_a_checksum_is_named_before_anything_is_fetched() -> None:
    some = dict(list(sums().items())[:5])
    with pytest.raises(WeightsError, match=r"no checksum for \S+-888-40, \S+-999-23\. Give") as caught:
        wanted(SEVEN, some)
    assert "--sha256 efficientnet-b7-dfdc-888-40=HEX" in caught.value.remedy
    with pytest.raises(OptionError, match="has no member nobody"):
        wanted(SEVEN, sums() | {"nobody": DIGEST})
    with pytest.raises(OptionError, match="7 members and one --url"):
        wanted(SEVEN, sums(), url=URL)


def test_an_ensembles_pull_imports_what_is_not_there_yet(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[tuple[Path, str, str | None]] = []
    monkeypatch.setattr(pull, "fetch", lambda url, sha256, **_: home / sha256)
    monkeypatch.setattr(verbs, "_import_file", lambda file, as_, name, *_: imported.append((file, as_, name)))
    first = home / "models" / "efficientnet-b7-dfdc-555-19"
    first.mkdir(parents=True)
    text = catalog.find_spec("efficientnet-b7-dfdc").source.read_text()
    text = text.replace('name = "efficientnet-b7-dfdc"', 'name = "efficientnet-b7-dfdc-555-19"')
    (first / "network.onnx").write_bytes(CONTENT)
    (first / "spec.toml").write_text(f'{text}\n[weights]\nfile = "network.onnx"\nsha256 = "{DIGEST}"\n')
    options = [part for name, digest in sums().items() for part in ("--sha256", f"{name}={digest}")]
    done = CliRunner().invoke(app, ["detectors", "pull", SEVEN, *options])
    assert done.exit_code == 0, done.exception
    assert "efficientnet-b7-dfdc-555-19 is there already" in done.stderr
    left = {name: digest for name, digest in sums().items() if name != "efficientnet-b7-dfdc-555-19"}
    assert imported == [(home / digest, "efficientnet-b7-dfdc", name) for name, digest in left.items()]
    bare = CliRunner().invoke(app, ["detectors", "pull", SEVEN, "--sha256", DIGEST]).exception
    assert "several members" in str(bare)


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
