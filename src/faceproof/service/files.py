"""Where uploads and what is made from them lie: random names under one folder, or in an S3-compatible bucket."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from faceproof.errors import OutputError
from faceproof.service.tables import new_id


class Files(Protocol):
    """Named, immutable files. Names are made here (``media/<id>``, ``evidence/<job>/<file>``), never taken from users.

    ``keeps_at_once``: :meth:`keep` only gives a file another name; otherwise it may take as long as a network does.
    """

    keeps_at_once: bool

    def incoming(self) -> Path:
        """A fresh local path for bytes that are still arriving."""
        ...

    def keep(self, path: Path, name: str) -> None:
        """Move a local file in. Raises :class:`OutputError` when there is no room."""
        ...

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """The file as a local path for as long as the block runs. Raises :class:`FileNotFoundError`."""
        ...

    def path(self, name: str) -> Path | None:
        """The file's own local path, or None where it has none (a bucket) or does not exist."""
        ...

    def size(self, name: str) -> int | None:
        """Its bytes, or None when there is no such file."""
        ...

    def chunks(self, name: str, start: int, count: int) -> Iterator[bytes]:
        """``count`` bytes from ``start``."""
        ...

    def delete(self, prefix: str) -> None:
        """Delete the file of that name, or all below it."""
        ...

    def names(self, prefix: str) -> list[tuple[str, float]]:
        """Files below ``prefix`` and when each was written, in seconds since 1970."""
        ...

    def free(self) -> int | None:
        """Bytes left for files, None where there is no limit."""
        ...


class LocalFiles:
    """Files below one folder, readable by this user only."""

    keeps_at_once = True

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("incoming", "media", "evidence"):
            (root / folder).mkdir(parents=True, exist_ok=True, mode=0o700)

    def incoming(self) -> Path:
        return self.root / "incoming" / new_id()

    def keep(self, path: Path, name: str) -> None:
        target = self.root / name
        with room_needed():
            try:
                path.replace(target)
            except FileNotFoundError:
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                path.replace(target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                fresh = target.with_name(target.name + ".part")
                shutil.copyfile(path, fresh)
                fresh.replace(target)
                path.unlink()

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        path = self.root / name
        if not path.is_file():
            raise FileNotFoundError(name)
        yield path

    def path(self, name: str) -> Path | None:
        path = self.root / name
        return path if path.is_file() else None

    def size(self, name: str) -> int | None:
        try:
            return (self.root / name).stat().st_size
        except OSError:
            return None

    def chunks(self, name: str, start: int, count: int) -> Iterator[bytes]:
        with (self.root / name).open("rb") as file:
            file.seek(start)
            while count > 0 and (chunk := file.read(min(count, 1 << 18))):
                count -= len(chunk)
                yield chunk

    def delete(self, prefix: str) -> None:
        path = self.root / prefix
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def names(self, prefix: str) -> list[tuple[str, float]]:
        found = []
        for path in (self.root / prefix).rglob("*"):
            try:
                if path.is_file():
                    found.append((path.relative_to(self.root).as_posix(), path.stat().st_mtime))
            except FileNotFoundError:
                continue  # deleted while we looked
        return found

    def free(self) -> int | None:
        return shutil.disk_usage(self.root).free


def sweep_incoming(folder: Path, *, older_than: float) -> None:
    """Remove what uploads that broke off left behind, once it is ``older_than`` seconds old."""
    for path in folder.iterdir():
        try:
            if time.time() - path.stat().st_mtime > older_than:
                path.unlink()
        except FileNotFoundError:
            continue


@contextmanager
def room_needed() -> Iterator[None]:
    """Turn a full disk, a quota or the process's file-size limit into :class:`OutputError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OutputError(
                f"no room for the file: {os.strerror(error.errno)}", remedy="Free space on the server and try again."
            ) from error
        raise


def open_files(address: str, data: Path) -> Files:
    """``s3://bucket/prefix`` or nothing for files in ``data``."""
    if address:
        from faceproof.service.bucket import BucketFiles

        return BucketFiles(address, data)
    return LocalFiles(data)
