"""A small SQLite file that several processes may use at the same time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faceproof.errors import OutputError


class SqliteFile:
    """One file with the tables of ``schema`` (statements that make what is missing).

    Raises :class:`OutputError` when the file cannot be made or used.
    """

    def __init__(self, path: Path, schema: str) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error
        with self.open() as base:
            base.executescript(schema)

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes are kept together when the block ends, or not at all."""
        try:
            base = sqlite3.connect(self.path, timeout=30)
            try:
                with base:
                    yield base
            finally:
                base.close()
        except sqlite3.Error as error:
            raise OutputError(f"cannot use {self.path}: {error}") from error
