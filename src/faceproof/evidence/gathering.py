"""All evidence on one file, gathered once and then written in whatever form is asked for."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from faceproof.batch import ScanOptions
from faceproof.detectors.detector import Detector
from faceproof.detectors.spec import DetectorSpec
from faceproof.evidence.heatmap import HeatMethod
from faceproof.evidence.moments import MOMENTS, Shown, score_ranges, show
from faceproof.evidence.provenance import Provenance, read_provenance
from faceproof.results import Report


@dataclass(frozen=True)
class Evidence:
    """What a page or a folder is written from.

    ranges: by person, how far the score depends on the frames looked at. made: when it was gathered, by this machine's
    clock, UTC. options: what the scan was run with, for repeating it.
    """

    report: Report
    spec: DetectorSpec
    options: ScanOptions
    shown: Shown
    ranges: dict[int, tuple[float, float]]
    provenance: Provenance
    made: datetime

    @property
    def name(self) -> str:
        """The judged file's name without its folder."""
        return Path(self.report.media.path).name

    @property
    def shown_name(self) -> str:
        """The name for reading: characters that would reorder or hide others are written as escapes."""
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in self.name)

    def command(self) -> str:
        """The command line that repeats the scan, quoted for a POSIX shell."""
        words = ["faceproof", "scan", self.name, "--detector", self.report.detector.name]
        words += ["--frames", self.options.frames, "--faces", self.options.faces]
        words += ["--precision", self.report.detector.precision]
        if self.name.startswith("-"):
            words[2] = f"./{self.name}"
        return shlex.join(words)

    def shown_command(self) -> str:
        """The command for reading and copying; names with characters that hide others are quoted as bash does."""
        command = self.command()
        if command.isprintable():
            return command
        escaped = self.name.encode("unicode_escape").decode().replace("'", "\\'")
        return command.replace(shlex.quote(self.name), f"$'{escaped}'")


def gather(
    report: Report,
    detector: Detector,
    path: str | os.PathLike[str],
    *,
    options: ScanOptions | None = None,
    tracks: Sequence[int] | None = None,
    per_track: int = MOMENTS,
    method: HeatMethod | None = None,
) -> Evidence:
    """Cut faces and heat again from the reported file and read where it comes from.

    ``path`` is where the file lies now; ``options`` what the report was scanned with. Raises what
    :func:`faceproof.evidence.moments.show` raises.
    """
    options = options or ScanOptions(detector=report.detector.name)
    shown = show(report, detector, path, tracks=tracks, per_track=per_track, method=method, limits=options.limits)
    return Evidence(
        report=report,
        spec=detector.spec,
        options=options,
        shown=shown,
        ranges=score_ranges(report, detector.spec),
        provenance=read_provenance(path, limits=options.limits),
        made=datetime.now(UTC).replace(microsecond=0),
    )
