"""Opening files that may be anything, and finding media in folders."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

from faceproof.errors import (
    MediaCorruptError,
    MediaEmptyError,
    MediaError,
    MediaLimitError,
    MediaNotFoundError,
    MediaPermissionError,
    MediaUnsupportedError,
)

PICTURE_EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".avifs"}
    # Telephones' and cameras' pictures. Without the extra they are refused with the reason, never passed over in silence.
    | {".heic", ".heif", ".hif"}
)
VIDEO_EXTENSIONS = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg"}
    | {".flv", ".wmv", ".asf", ".ogv", ".3gp", ".3g2"}
)
_PIECE = 1 << 20

EXTENSIONS = PICTURE_EXTENSIONS | VIDEO_EXTENSIONS

MediaKind = Literal["image", "video"]


def media_kind(path: Path) -> MediaKind | None:
    """ "image" or "video" by the file's suffix, None for anything else. The decoder has the last word."""
    suffix = path.suffix.lower()
    if suffix in PICTURE_EXTENSIONS:
        return "image"
    return "video" if suffix in VIDEO_EXTENSIONS else None


def shown(path: Path) -> str:
    """A name fit for a message: quoted, with line breaks and undecodable bytes escaped."""
    return ascii(str(path)) if any(not c.isprintable() for c in str(path)) else f"'{path}'"


@contextmanager
def open_regular(path: Path, *, max_bytes: int | None = None) -> Iterator[BinaryIO]:
    """Open a regular, non-empty file for reading; never block on a pipe or a device."""
    # O_NONBLOCK: opening a pipe without a writer would wait for ever before its kind could be asked.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise _why_not_opened(path, error) from error
    with _owned(descriptor, path) as file:
        status = os.fstat(file.fileno())
        if status.st_size == 0:
            raise MediaEmptyError(f"{shown(path)} is empty")
        if max_bytes is not None and status.st_size > max_bytes:
            raise MediaLimitError(f"{shown(path)} has {status.st_size} bytes, over the limit of {max_bytes}")
        yield file


def _owned(descriptor: int, path: Path) -> BinaryIO:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
    raise MediaUnsupportedError(f"{shown(path)} is {kind}", remedy="Give the path of a picture or a video file.")


def _why_not_opened(path: Path, error: OSError | ValueError) -> MediaError:
    if isinstance(error, ValueError):  # a NUL in the name
        return MediaNotFoundError(f"{shown(path)} is not a file name")
    if isinstance(error, PermissionError):
        return MediaPermissionError(f"{shown(path)} may not be read")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        if path.is_symlink():
            return MediaNotFoundError(
                f"{shown(path)} is a symbolic link to nothing", remedy="Mend the link or give the file itself."
            )
        return MediaNotFoundError(f"{shown(path)} does not exist")
    if error.errno == errno.ELOOP:
        return MediaNotFoundError(
            f"{shown(path)} is a symbolic link that leads back to itself",
            remedy="Mend the link or give the file itself.",
        )
    if error.errno == errno.ENAMETOOLONG:
        return MediaNotFoundError(f"{shown(path)} does not exist: the name is too long")
    if error.errno in (errno.ENXIO, errno.ENODEV):  # a socket, a device without a driver
        return MediaUnsupportedError(
            f"{shown(path)} is not a regular file", remedy="Give the path of a picture or a video file."
        )
    if isinstance(error, IsADirectoryError):
        return MediaUnsupportedError(f"{shown(path)} is a folder", remedy="Give the path of a picture or a video file.")
    return MediaCorruptError(f"{shown(path)} cannot be opened: {error.strerror}")


def sha256_of(file: BinaryIO, path: Path) -> str:
    """Digest of the whole file, read in pieces; the position returns to the start."""
    try:
        file.seek(0)
        digest = hashlib.sha256()
        while piece := file.read(_PIECE):
            digest.update(piece)
        file.seek(0)
    except OSError as error:
        raise MediaCorruptError(f"{shown(path)} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def is_media_name(path: str | os.PathLike[str]) -> bool:
    """Whether a name looks like media. Only for choosing files in a folder: what a file is, its content says."""
    return Path(path).suffix.lower() in EXTENSIONS


def walk(paths: Iterable[str | os.PathLike[str]], *, passed_over: list[Path] | None = None) -> Iterator[Path]:
    """Files to look at: those given, whatever their names, and the media in the folders given.

    Folders are walked to the bottom in order of name; hidden files and folders are skipped, links to folders
    are followed once, and no file is given twice. What does not exist is given too, to be reported by whoever opens it.
    ``passed_over`` collects the files in folders whose names are not those of media.
    """
    seen_files: set[str] = set()
    for given in paths:
        path = Path(given)
        for found in _in_folder(path, set(), passed_over) if path.is_dir() else (path,):
            key = os.path.realpath(found)
            if key not in seen_files:
                seen_files.add(key)
                yield found


def _in_folder(folder: Path, seen_folders: set[str], passed_over: list[Path] | None) -> Iterator[Path]:
    key = os.path.realpath(folder)
    if key in seen_folders:
        return
    seen_folders.add(key)
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        yield folder  # given back, so that opening it says why
        return
    for name in names:
        if name.startswith("."):
            continue
        path = folder / name
        if path.is_dir():
            yield from _in_folder(path, seen_folders, passed_over)
        elif is_media_name(name):
            yield path
        elif passed_over is not None:
            passed_over.append(path)
