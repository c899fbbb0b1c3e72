"""Starting the servers that ``scripts/test-servers.sh`` installs, each from its own environment."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

SERVERS = Path(__file__).parent.parent / "build" / "servers"


def server_bin(name: str) -> Path:
    """The ``bin`` folder of a server's environment; skips the test without it, fails it when ``FACEPROOF_SERVERS=1``."""
    folder = SERVERS / name
    if not (folder / ".made").exists():
        message = f"{name} is not installed; run scripts/test-servers.sh"
        if os.environ.get("FACEPROOF_SERVERS"):
            pytest.fail(message)
        pytest.skip(message)
    return folder / "bin"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str | Path], ready: str, *, log: Path, env: dict[str, str] | None = None, seconds: float = 120
) -> Iterator[None]:
    """Run a server until the block ends; enter when ``ready`` answers."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=out, stderr=out, env={**os.environ, **(env or {})}
        )
        try:
            end = time.monotonic() + seconds
            while True:
                try:
                    with urllib.request.urlopen(ready, timeout=2):
                        break
                except (urllib.error.URLError, OSError):
                    if process.poll() is not None or time.monotonic() > end:
                        pytest.fail(f"{command[0]} did not start:\n{log.read_text(errors='replace')[-3000:]}")
                    time.sleep(0.2)
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
