"""What a worker process may use: memory, processor time, size of files, open files. Untrusted media is decoded inside."""

from __future__ import annotations

import os
import resource
import signal
from types import FrameType

from faceproof.errors import FaceproofError
from faceproof.service.settings import Settings

NICENESS = 10


class TimeUsedUpError(FaceproofError):
    """The attempt used the processor time a job may have."""

    code = "cpu_time"
    default_remedy = "Send a shorter piece of the video, or fewer frames."


def confine(settings: Settings) -> None:
    """Bound this process for good. Call once, at the start of a worker process."""
    # Whoever waits for an answer comes before whoever waits for a scan.
    os.nice(NICENESS)
    # A driver of an accelerator reserves far more addresses than the machine has memory; there, what is written counts.
    on_cpu = settings.device in ("auto", "cpu")
    _lower(resource.RLIMIT_AS if on_cpu else resource.RLIMIT_DATA, settings.memory)
    _lower(resource.RLIMIT_FSIZE, settings.file_size)
    _lower(resource.RLIMIT_NOFILE, settings.open_files)
    _lower(resource.RLIMIT_CORE, 0)
    signal.signal(signal.SIGXCPU, _time_is_up)
    if settings.threads:
        import cv2

        cv2.setNumThreads(settings.threads)


def allow_cpu_seconds(seconds: int) -> None:
    """Let this process use so much more processor time; then :class:`TimeUsedUpError` is raised in its main thread.

    A codec that never returns to Python cannot be interrupted so; the kernel ends the process 30 s later.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + seconds + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard == resource.RLIM_INFINITY or hard > soft:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
    _Watch.hard = soft + 30


class _Watch:
    """Processor time at which the heartbeat ends the process. A hard kernel limit could never be raised again."""

    hard: float = float("inf")


def is_beyond_cpu_limit() -> bool:
    """Whether the main thread has ignored the end of its processor time for too long."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime > _Watch.hard


def _time_is_up(_signal: int, _frame: FrameType | None) -> None:
    raise TimeUsedUpError("the file took more processor time than a job may use")


def _lower(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))
