"""Media that arrive in a folder, each given once it has stopped growing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

from faceproof.errors import MediaNotFoundError, MissingExtraError
from faceproof.media import is_media_name, walk

# A file is complete when its size and time have not changed for this long (seconds).
SETTLED = 1.0
_LOOK_EVERY = 0.25


def arrivals(folder: Path, *, existing: bool = False, stop: threading.Event | None = None) -> Iterator[Path]:
    """Yield media files as they arrive in ``folder`` or below, in the order in which they are complete.

    A file that changes again later is given again. ``existing`` gives what lies there already first. Hidden files, and
    those whose names are not media's, are passed over, so downloads under another name wait for their renaming. Ends
    when ``stop`` is set. Raises :class:`MediaNotFoundError` when there is no such folder, at the call already.
    """
    try:
        import watchfiles  # noqa: F401
    except ImportError:
        raise MissingExtraError.of("Watching a folder", "evidence") from None
    if not folder.is_dir():
        raise MediaNotFoundError(f"there is no folder {folder}", remedy="Make it, or check the path.")
    return _arrivals(folder, existing, stop)


def _arrivals(folder: Path, existing: bool, stop: threading.Event | None) -> Iterator[Path]:
    from watchfiles import watch

    waiting = _Waiting()
    if existing:
        for path in walk([folder]):
            waiting.saw(path)
    # Wakes up regularly so that files which stopped growing are noticed.
    for changes in watch(folder, stop_event=stop, step=50, debounce=200, rust_timeout=250, yield_on_timeout=True):
        for _, name in changes:
            path = Path(name)
            if is_media_name(path) and not _is_hidden(path, folder):
                waiting.saw(path)
        yield from waiting.complete()


def _is_hidden(path: Path, folder: Path) -> bool:
    try:
        inside = path.relative_to(folder.absolute())
    except ValueError:
        inside = Path(path.name)
    return any(part.startswith(".") for part in inside.parts)


class _Waiting:
    """Files seen to change, until they have been still for :data:`SETTLED` seconds."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[tuple[int, int] | None, float]] = {}
        self._given: dict[Path, tuple[int, int]] = {}

    def saw(self, path: Path) -> None:
        self._seen[path] = (mark_of(path), time.monotonic())

    def complete(self) -> list[Path]:
        """Files that have been still long enough, the first to settle first."""
        done = []
        for path, (mark, since) in list(self._seen.items()):
            now = mark_of(path)
            if now is None:
                del self._seen[path]
            elif now != mark:
                self._seen[path] = (now, time.monotonic())
            elif time.monotonic() - since >= SETTLED:
                del self._seen[path]
                # Reading a file may itself be reported as a change.
                if now[0] and self._given.get(path) != now:
                    self._given[path] = now
                    done.append(path)
        return done


def mark_of(path: Path) -> tuple[int, int] | None:
    """Size and time of last change, None for what is not there or not a file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns) if path.is_file() else None
