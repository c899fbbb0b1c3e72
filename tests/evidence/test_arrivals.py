"""Files are given once they are complete, and once only."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from faceproof.errors import MediaNotFoundError
from faceproof.evidence import arrivals as room
from faceproof.evidence.arrivals import arrivals


class Watching:
    """Collects what arrives, in a thread."""

    def __init__(self, folder: Path, *, existing: bool = False) -> None:
        self.found: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(folder, existing), daemon=True)
        self._thread.start()
        time.sleep(0.6)

    def _run(self, folder: Path, existing: bool) -> None:
        for path in arrivals(folder, existing=existing, stop=self._stop):
            self.found.append(path.name)

    def until(self, count: int, seconds: float = 15) -> list[str]:
        end = time.monotonic() + seconds
        while len(self.found) < count and time.monotonic() < end:
            time.sleep(0.05)
        return self.found

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SETTLED", 0.5)


@pytest.mark.usefixtures("quick")
def test_a_file_is_given_when_it_has_stopped_growing(tmp_path: Path) -> None:
    watching = Watching(tmp_path)
    with (tmp_path / "slow.mp4").open("wb") as file:
        for _ in range(8):
            file.write(b"x" * 100)
            file.flush()
            time.sleep(0.15)
            assert watching.found == []
    assert watching.until(1) == ["slow.mp4"]
    watching.close()


@pytest.mark.usefixtures("quick")
def test_what_is_given_and_what_is_not(tmp_path: Path) -> None:
    (tmp_path / "old.mp4").write_bytes(b"x")
    watching = Watching(tmp_path, existing=True)
    assert watching.until(1) == ["old.mp4"]
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden.mp4").write_bytes(b"x")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "part.mp4.download").write_bytes(b"xy")
    (tmp_path / "part.mp4.download").rename(tmp_path / "part.mp4")
    (tmp_path / "deeper").mkdir()
    time.sleep(0.3)
    (tmp_path / "deeper" / "inside.jpg").write_bytes(b"xyz")
    assert sorted(watching.until(3)) == ["inside.jpg", "old.mp4", "part.mp4"]
    time.sleep(0.8)
    assert len(watching.found) == 3
    watching.close()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MediaNotFoundError):
        next(arrivals(tmp_path / "none"))
