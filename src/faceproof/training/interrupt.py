"""Ctrl-C during a run: stop after this step, saved."""

from __future__ import annotations

import signal
import threading
from typing import Any


class Interrupt:
    """Turns the first Ctrl-C (or SIGTERM) into a wish to stop after this step; the second one kills as usual."""

    def __enter__(self) -> Interrupt:
        self.asked = False
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: object) -> None:
        del frame
        self.asked = True
        signal.signal(number, self._before[number])

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
