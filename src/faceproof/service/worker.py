"""Worker processes: each confined, each running one job at a time, replaced when it dies.

``python -m faceproof.service.worker NAME`` is one such process; it reads its settings from the environment.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from types import FrameType

import structlog

from faceproof.service import jobs
from faceproof.service.site import Site

log = structlog.get_logger()

IDLE = 0.2
STOP_WAIT = 10.0


def worker_name() -> str:
    """Unlike any other worker's, on this machine or another."""
    return f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(4)}"


def work(name: str, parent: int) -> None:
    """Run jobs until told to stop or until the process that started this one is gone. The body of a worker process."""
    from sqlalchemy.exc import SQLAlchemyError

    from faceproof.errors import FaceproofError
    from faceproof.service import logs
    from faceproof.service.confinement import confine
    from faceproof.service.running import run_job
    from faceproof.service.settings import Settings

    settings = Settings.read()
    logs.configure(settings.log_format)
    confine(settings)
    stop = threading.Event()

    def told(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, told)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent answers it
    site = Site.open(settings)
    try:
        while not stop.is_set() and os.getppid() == parent:
            try:
                busy = run_job(site, name) is not None
            except (SQLAlchemyError, FaceproofError):
                log.exception("worker could not reach the job table", worker=name)
                stop.wait(2.0)
                continue
            if not busy:
                stop.wait(IDLE)
    finally:
        site.close()


class Crew:
    """Keeps a number of worker processes alive and takes back the jobs of those that die."""

    def __init__(self, site: Site, count: int) -> None:
        self._site = site
        self._count = count
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="faceproof-crew", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let workers finish for some seconds, then end them; their jobs go back into the queue."""
        self._stop.set()
        self._thread.join()
        for process in self._running.values():
            process.terminate()
        ends = time.monotonic() + STOP_WAIT
        for process in self._running.values():
            try:
                process.wait(max(0.1, ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for name in self._running:
            self._take_back(name)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers now alive."""
        return [process.pid for process in list(self._running.values()) if process.poll() is None]

    def _watch(self) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        from faceproof.errors import FaceproofError

        while not self._stop.is_set():
            try:
                for name, process in list(self._running.items()):
                    if process.poll() is not None:
                        log.warning("worker ended", worker=name, code=process.returncode)
                        self._take_back(name)
                        del self._running[name]
                while len(self._running) < self._count and not self._stop.is_set():
                    self._hire()
            except (SQLAlchemyError, OSError, FaceproofError):  # a full disk is a FaceproofError, and passes
                log.exception("crew could not be kept whole")
            self._stop.wait(0.2)

    def _hire(self) -> None:
        name = worker_name()
        environment = {**os.environ, **self._site.settings.environment()}
        # The cores are shared by the workers, not fought over.
        threads = self._site.settings.threads or max(1, (os.cpu_count() or 1) // max(1, self._count))
        environment.update(FACEPROOF_THREADS=str(threads), OMP_NUM_THREADS=str(threads))
        command = [sys.executable, "-m", "faceproof.service.worker", name, str(os.getpid())]
        self._running[name] = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)

    def _take_back(self, name: str) -> None:
        for job_id in jobs.release_dead(self._site.store, attempts=self._site.settings.attempts, worker=name):
            log.warning("job put back", job=job_id, worker=name)


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]))
