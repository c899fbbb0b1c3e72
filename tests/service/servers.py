"""Real servers of the tests' own: on free ports, in temporary folders, ended with the tests.

Where one is not installed the tests that need it are skipped, except under ``CI=true``: there they fail.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest


def require(*names: str) -> str:
    """The first program of these that is installed."""
    for name in names:
        found = shutil.which(name) or next(
            iter(sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")))), None
        )
        if found:
            return found
    words = f"{names[0]} is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{words}, and CI must not skip it", pytrace=False)
    pytest.skip(words)


def port_of_its_own() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + 90
    while time.monotonic() < ends:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on {port}")


class Redis:
    """A Redis that keeps nothing, so that a restart loses every message."""

    def __init__(self) -> None:
        self._program = require("redis-server")
        self.port = port_of_its_own()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_for_port(self.port, self._process)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


class PostgreSQL:
    """A PostgreSQL cluster in a temporary folder; it refuses to run as root, so it runs as ``postgres`` then."""

    def __init__(self) -> None:
        initdb, server = require("initdb"), require("postgres")
        self.port = port_of_its_own()
        user = "postgres" if os.getuid() == 0 else None
        # Not below pytest's own folder, which only root may enter.
        self._folder = folder = Path(tempfile.mkdtemp(prefix="faceproof-postgresql-"))
        if user:
            owner = pwd.getpwnam(user)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        subprocess.run(
            [initdb, "-D", str(folder / "db"), "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            user=user,
            capture_output=True,
            cwd="/",
        )
        self._process = subprocess.Popen(
            [
                *(server, "-D", str(folder / "db"), "-p", str(self.port), "-c", "listen_addresses=127.0.0.1"),
                *("-c", f"unix_socket_directories={folder}", "-c", "fsync=off", "-c", "logging_collector=off"),
            ],
            user=user,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        wait_for_port(self.port, self._process)
        self._made = 0

    def database(self) -> str:
        """A new, empty database."""
        import psycopg

        self._made += 1
        name = f"test_{self._made}"
        for _ in range(50):  # the port opens a moment before the server takes connections
            try:
                with psycopg.connect(
                    f"postgresql://tester@127.0.0.1:{self.port}/postgres", autocommit=True
                ) as connection:
                    connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
                break
            except psycopg.OperationalError:
                time.sleep(0.1)
        return f"postgresql://tester@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
