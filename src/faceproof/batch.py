"""Many files through one detector: in this process, or in several that survive a file that kills its reader."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from faceproof.detectors.detector import Detector
from faceproof.errors import FaceproofError, OptionError
from faceproof.events import EventSink
from faceproof.judge import shown_path
from faceproof.loading import FaceMode, load_for_scanning
from faceproof.media import Limits
from faceproof.results import FailedInput, Report
from faceproof.runtime.cpu import usable_cores
from faceproof.runtime.network import Precision, Runtime
from faceproof.scanning import scan


@dataclass(frozen=True)
class ScanOptions:
    """What :func:`faceproof.scan` takes, in a form that travels between processes."""

    detector: str | None = None
    frames: str = "auto"
    device: str = "auto"
    precision: Precision = "auto"
    faces: FaceMode = "thorough"
    limits: Limits | None = None
    threads: int | None = None
    runtime: Runtime = "auto"

    def load(self, path: Path | None = None) -> Detector:
        """The detector, and the face search for files of the kind that ``path`` is."""
        return load_for_scanning(
            self.detector,
            faces=self.faces,
            device=self.device,
            precision=self.precision,
            runtime=self.runtime,
            threads=self.threads,
            path=path,
        )


Outcome = Report | FailedInput


def failed_input(path: Path, error: FaceproofError) -> FailedInput:
    """The row for a file that could not be judged."""
    return FailedInput(path=shown_path(path), error=error.code, message=error.message, remedy=error.remedy)


def scan_one(path: Path, detector: Detector, options: ScanOptions, on_event: EventSink | None = None) -> Outcome:
    """A report, or the row that says why there is none. Only errors raised on purpose become rows."""
    try:
        return scan(
            path,
            detector=detector,
            frames=options.frames,
            on_event=on_event,
            faces=options.faces,
            limits=options.limits,
            threads=options.threads,
        )
    except OptionError:
        raise
    except FaceproofError as error:
        return failed_input(path, error)


def scan_many(
    paths: Sequence[Path],
    options: ScanOptions,
    *,
    jobs: int = 1,
    on_event: EventSink | None = None,
    on_start: Callable[[Path], None] | None = None,
) -> Iterator[tuple[Path, Outcome]]:
    """Judge every file once and yield as they finish, not in the order given.

    ``jobs`` processes share the cores. A file whose reader dies (a crash in a codec, the kernel's out-of-memory killer)
    is tried once more alone and then reported as failed; the others go on. ``on_event`` is called for ``jobs=1`` only.

    Raises :class:`faceproof.errors.WeightsError` and the like before the first file: nothing is scanned without a detector.
    """
    if jobs < 1:
        raise OptionError("--jobs must be at least 1")
    if jobs == 1 or len(paths) < 2:
        detector = options.load(paths[0] if paths else None)
        for path in paths:
            if on_start is not None:
                on_start(path)
            yield path, scan_one(path, detector, options, on_event)
        return
    options.load()
    jobs = min(jobs, len(paths))
    shared = replace(options, threads=options.threads or max(1, usable_cores() // jobs))
    waiting = list(reversed(paths))
    suspects: list[Path] = []
    while waiting:
        yield from _pool_run(waiting, suspects, shared, jobs)
    for path in suspects:
        yield path, _alone(path, shared)


def _pool_run(
    waiting: list[Path], suspects: list[Path], options: ScanOptions, jobs: int
) -> Iterator[tuple[Path, Outcome]]:
    """Work through ``waiting`` until it is empty or the pool breaks; files in flight then become suspects."""
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_start, initargs=(options,))
    running: dict[Future[Outcome], Path] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                path = waiting.pop()
                running[pool.submit(_work, os.fspath(path))] = path
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                # Taken out first: whoever consumes us may stop at the yield.
                path = running[future]
                outcome = future.result()
                del running[future]
                yield path, outcome
    except BrokenProcessPool:
        suspects.extend(running.values())
    except BaseException:
        _give_up(pool)
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _give_up(pool: ProcessPoolExecutor) -> None:
    """End the processes in the middle of their files, of which nobody will hear: Python would wait for them before it ends.
    (``terminate_workers`` from Python 3.14 on.)"""
    for process in list((pool._processes or {}).values()):
        process.terminate()


def _alone(path: Path, options: ScanOptions) -> Outcome:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_start, initargs=(options,)) as pool:
        try:
            return pool.submit(_work, os.fspath(path)).result()
        except BrokenProcessPool:
            return FailedInput(
                path=shown_path(path),
                error="reader_died",
                message="the process that read this file was killed",
                remedy="The file may be damaged on purpose or need more memory than there is; treat it with care.",
            )
        except BaseException:
            _give_up(pool)
            raise


# Set once in each worker process by _start.
_worker: tuple[Detector, ScanOptions] | None = None


def _start(options: ScanOptions) -> None:
    global _worker
    import signal

    # Ctrl-C reaches the whole process group; only the parent answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker = (options.load(), options)


def _work(path: str) -> Outcome:
    assert _worker is not None
    detector, options = _worker
    return scan_one(Path(path), detector, options)
