"""Where words leave the process: standard output and error, whose reader may go away, whose disk may be full, or which may
be closed from the start.

A reader that goes away (``| head -1``, a pager that was left) is no failure: the rest of the words is dropped, and the
verb does what else it was asked for. Python would end it in the middle instead, before the evidence is written.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

STREAMS = ("stdout", "stderr")


class Outlet(io.FileIO):
    """A descriptor to write to. When that is in vain, everything from then on is dropped, and the verb goes on.

    ``dropped_for`` says why: a :class:`BrokenPipeError` where nobody reads any more, another :class:`OSError` where what was
    said is lost (a full disk).
    """

    dropped_for: OSError | None = None

    def write(self, data: Buffer) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.dropped_for = error
            # The descriptor stays taken: the next file that is opened must not get its number, and the words with it.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return memoryview(data).nbytes


def outfit() -> None:
    """Put an :class:`Outlet` under standard output and error, terminals aside; where one is closed, words go nowhere."""
    for number, name in enumerate(STREAMS, 1):
        stream = getattr(sys, name)
        if stream is None:
            # Not closed when the interpreter ends, which would complain to a standard error that is not there.
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8", closefd=False))
        elif not stream.isatty():
            stream.flush()
            made = io.TextIOWrapper(
                io.BufferedWriter(Outlet(number, "w", closefd=False)),
                encoding=stream.encoding,
                errors=stream.errors,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, made)


def nobody_reads() -> bool:
    """Whether the reader of standard output has gone away. Known only once something was written after it went."""
    return isinstance(_dropped_for(), BrokenPipeError)


def check_all_said() -> None:
    """Raises :class:`faceproof.errors.OutputError` where standard output could not take what a reader still waits for."""
    if sys.stdout is not None:
        sys.stdout.flush()
    error = _dropped_for()
    if error is not None and not isinstance(error, BrokenPipeError):
        from faceproof.errors import OutputError

        raise OutputError(
            f"cannot write to standard output: {error.strerror}", remedy="Free space, or send it elsewhere."
        )


def _dropped_for() -> OSError | None:
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.dropped_for if isinstance(raw, Outlet) else None
