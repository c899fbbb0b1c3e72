"""Faceproof in a process of its own, so that signals and its end are its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

COMMAND = "from faceproof.cli import main; main()"


def started(home: Path, *words: object, program: str = COMMAND) -> subprocess.Popen[str]:
    """``program`` with ``words`` as its arguments and ``home`` as its model folder, its output in pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "FACEPROOF_HOME": str(home)},
        preexec_fn=_hear_ctrl_c,
    )


def _hear_ctrl_c() -> None:
    # Whoever runs the tests in the background of a script has them, and their children, ignore it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
