"""What every part of the service shares: settings, database, files, detectors, secret."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from faceproof.errors import OutputError
from faceproof.service.detectors import Detectors, open_detectors
from faceproof.service.files import Files, open_files
from faceproof.service.settings import Settings
from faceproof.service.store import Store


@dataclass(frozen=True)
class Site:
    """One service, seen from one process."""

    settings: Settings
    store: Store
    files: Files
    detectors: Detectors
    secret: bytes

    @classmethod
    def open(cls, settings: Settings) -> Site:
        """Open everything and bring the database up to date.

        Raises :class:`OutputError` when the data folder cannot be used, :class:`faceproof.errors.OptionError` for a
        wrong setting.
        """
        try:
            settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
            secret = settings.secret.encode() or _kept_secret(settings.data / "secret")
            files = open_files(settings.storage, settings.data)
        except OSError as error:
            raise OutputError(f"cannot use the data folder {settings.data}: {error.strerror}") from error
        store = Store(settings.database_url)
        store.upgrade()
        return cls(settings, store, files, open_detectors(settings.detector_loader, settings.detector), secret)

    def close(self) -> None:
        self.store.close()

    def ring(self, job_id: str) -> None:
        """Tell workers on the broker, if there is one, that a job waits. A lost ring is repeated by housekeeping."""
        if self.settings.broker:
            from faceproof.service.broker import ring

            ring(self, job_id)


def _kept_secret(path: Path) -> bytes:
    """The secret that signs sessions and webhooks, made on first use and readable by this user only."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_hex(32).encode())
    return path.read_bytes()
