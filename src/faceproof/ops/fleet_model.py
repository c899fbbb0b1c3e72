"""How a fleet behaves before it is bought: a queue model fed with measured numbers.

``W`` workers share a storage and a broker and answer to one coordinator. Each file costs its worker a fetch, whose speed is
the smaller of its own line and its share of the storage's, and a scan; the coordinator hands out and takes in one message a
file. :func:`bounds` gives the closed form (operational laws, Denning & Buzen 1978), :func:`simulate` plays it out.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from faceproof.errors import OptionError


@dataclass(frozen=True)
class FleetNumbers:
    """What a fleet is made of. Times in seconds, sizes in bytes, rates in bytes or messages a second.

    ``scan`` mean time of one scan in one worker, ``spread`` its coefficient of variation; ``file_size`` mean;
    ``worker_line`` and ``storage`` bandwidths; ``coordinator`` the messages it can hand out and take in together with its
    checkpoint; ``broker`` the same for Redis. ``start`` is how long a worker takes before its first file.
    """

    scan: float
    spread: float
    file_size: float
    worker_line: float
    storage: float
    coordinator: float
    broker: float
    start: float = 5.0

    def __post_init__(self) -> None:
        numbers = (self.scan, self.file_size, self.worker_line, self.storage, self.coordinator, self.broker)
        if min(numbers) <= 0 or self.spread < 0 or self.start < 0:
            raise OptionError("a fleet's times, sizes and rates must be positive")


@dataclass(frozen=True)
class Bound:
    """The most files a second a fleet can do, and which part holds it there."""

    files_per_second: float
    bottleneck: str


def bounds(numbers: FleetNumbers, workers: int) -> Bound:
    """The asymptotic bound for ``workers`` processes."""
    fetch = numbers.file_size / min(numbers.worker_line, numbers.storage)
    limits = {
        "workers": workers / (numbers.scan + fetch),
        "storage": numbers.storage / numbers.file_size,
        "coordinator": numbers.coordinator,
        "broker": numbers.broker,
    }
    worst = min(limits, key=lambda name: limits[name])
    return Bound(limits[worst], worst)


@dataclass(frozen=True)
class Played:
    """A simulated run: seconds it took, files a second, and the share of time each part was busy; a worker is busy while it
    holds a file, be it waiting for the storage."""

    seconds: float
    files_per_second: float
    workers_busy: float
    storage_busy: float
    coordinator_busy: float


def simulate(numbers: FleetNumbers, workers: int, files: int, *, ahead: int = 256, seed: int = 0) -> Played:
    """Play ``files`` through ``workers`` processes with at most ``ahead`` files handed out at a time.

    The storage serves fetches one after another at its full rate (the same throughput as sharing it), the coordinator
    serves messages one after another; scans take log-normal times.
    """
    if workers < 1 or files < 1 or ahead < 1:
        raise OptionError("a simulation needs workers, files and a window")
    rng = np.random.default_rng(seed)
    sigma = np.sqrt(np.log1p(numbers.spread**2))
    scans = rng.lognormal(np.log(numbers.scan) - sigma**2 / 2, sigma, files)
    message = 1 / min(numbers.coordinator, numbers.broker)
    served = numbers.file_size / numbers.storage
    own = max(numbers.file_size / numbers.worker_line - served, 0.0)
    # Events: (time, kind, number); kind 0 a worker asks, 1 a fetch begins, 2 an answer reaches the coordinator.
    idle = [(rng.uniform(0, numbers.start), worker) for worker in range(workers)]
    heapq.heapify(idle)
    coordinator_free = storage_free = 0.0
    handed: list[float] = []  # when each answer comes back, as a heap
    busy = storage_busy = coordinator_busy = 0.0
    end = 0.0
    for scan in scans:
        # The coordinator hands out when it is free and the window has room.
        ready = coordinator_free
        if len(handed) >= ahead:
            ready = max(ready, heapq.heappop(handed))
        free_at, worker = heapq.heappop(idle)
        # Half of a file's messages go out, half come in; they share the coordinator.
        coordinator_free = ready + message
        coordinator_busy += message
        begin = max(coordinator_free, free_at)
        storage_free = max(storage_free, begin) + served
        storage_busy += served
        done = storage_free + own + scan
        busy += done - begin
        heapq.heappush(idle, (done, worker))
        heapq.heappush(handed, done)
        end = max(end, done)
    return Played(end, files / end, busy / (workers * end), storage_busy / end, coordinator_busy / end)
