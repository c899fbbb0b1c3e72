"""The database: SQLite or PostgreSQL behind two kinds of transactions, one that reads and one that writes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from faceproof.errors import OutputError

MIGRATIONS = Path(__file__).parent / "migrations"


class Store:
    """Transactions on one database. Safe to share between threads, not between processes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        if self.is_sqlite:
            self.engine = sa.create_engine(url, connect_args={"timeout": 30.0}, pool_size=48)
            _make_sqlite_behave(self.engine)
        else:
            self.engine = sa.create_engine(url, pool_size=8, max_overflow=24, pool_pre_ping=True)
        self._writing = self.engine.execution_options(writes=True)
        # SQLite has one writer, and those who wait for it poll: among dozens of threads some would wait for ever. So
        # the threads of a process queue up here, and only processes compete for the file.
        self._turn: AbstractContextManager[Any] = threading.Lock() if self.is_sqlite else nullcontext()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session whose changes are thrown away."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that commits when the block ends. Raises :class:`OutputError` when the disk is full."""
        try:
            with self._turn, Session(self._writing, expire_on_commit=False) as session, session.begin():
                yield session
        except OperationalError as error:
            if is_disk_full(error):
                raise OutputError("the database's disk is full", remedy="Free space and try again.") from error
            raise

    def upgrade(self) -> None:
        """Bring the schema to this version's; safe when several processes start at once."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with self.engine.connect() as connection:
            if self.is_sqlite:
                with _alone(self.url):
                    config.attributes["connection"] = connection
                    command.upgrade(config, "head")
            else:
                connection.execute(sa.text("SELECT pg_advisory_lock(5231401)"))
                connection.commit()
                try:
                    config.attributes["connection"] = connection
                    command.upgrade(config, "head")
                finally:
                    connection.rollback()
                    connection.execute(sa.text("SELECT pg_advisory_unlock(5231401)"))
                    connection.commit()

    def tidy(self) -> None:
        """Copy what SQLite's journal holds into its file, without making anyone wait. Called every few seconds."""
        if self.is_sqlite:
            with self.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        self.engine.dispose()


def is_disk_full(error: OperationalError) -> bool:
    """Whether the database refused because there is no room (SQLite's words, PostgreSQL's code 53100)."""
    return "disk is full" in str(error.orig) or getattr(error.orig, "sqlstate", None) == "53100"


@contextmanager
def _alone(url: str) -> Iterator[None]:
    """One process at a time, by a lock on a file beside the database."""
    import fcntl

    path = Path(url.removeprefix("sqlite:///"))
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_sqlite_behave(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        # The driver would begin transactions by itself, and late; the listener below does it.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout=30000")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        # Copying the journal into the file waits for the disk: housekeeping does it, not whoever happens to write.
        cursor.execute("PRAGMA wal_autocheckpoint=20000")
        cursor.execute("PRAGMA foreign_keys=ON")
        # What is deleted is overwritten: erasing a job must erase it.
        cursor.execute("PRAGMA secure_delete=ON")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _begun(connection: sa.Connection) -> None:
        # A transaction that reads first and writes later would fail when another one wrote in between.
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
