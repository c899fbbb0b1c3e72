"""`faceproof faces`: the faces themselves, as pictures."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Annotated, TextIO

import typer


def register(app: typer.Typer) -> None:
    app.command(name="faces")(faces)


def faces(
    path: Annotated[Path, typer.Argument(metavar="PATH", readable=False, help="A picture or video.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the crops; made if missing.")],
    frames: Annotated[str, typer.Option(metavar="S", help="A count such as 32, every:K, or all.")] = "32",
    margin: Annotated[float, typer.Option(min=1.0, help="Side of the square crop as a multiple of the face.")] = 1.3,
    mode: Annotated[str, typer.Option("--faces", help="thorough, or fast: may miss small faces.")] = "thorough",
) -> None:
    """Write every face found as a PNG named by frame and person, and a table faces.csv beside them.

    Somebody who turns away and comes back has one number once all was seen, as in `scan`; of a run that is stopped, two.
    """
    import cv2

    from faceproof import faces as room
    from faceproof import media
    from faceproof.cli.terminal import one_line, out_console, put, say
    from faceproof.cli.usage import check_sampling
    from faceproof.detectors.catalog import DEFAULT_DETECTOR, find_spec
    from faceproof.detectors.spec import Margin
    from faceproof.errors import OptionError, OutputError
    from faceproof.results import Reason
    from faceproof.wording import REMEDIES

    if mode not in ("thorough", "fast"):
        raise OptionError(f"--faces cannot be {mode!r}", remedy="Use thorough or fast.")
    check_sampling(frames, auto=False)
    square = Margin(kind="square", value=margin)
    certain = find_spec(DEFAULT_DETECTOR).spec.verdict.min_detection
    detector = room.FaceDetector(mode=mode)  # type: ignore[arg-type]
    tracker = room.Tracker()
    stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in path.stem) or "media"
    written: list[_Written] = []
    info = media.probe(path)
    try:
        out.mkdir(parents=True, exist_ok=True)
        # A row as soon as its picture is there: whoever stops it has a table of what was written.
        with (out / "faces.csv").open("w", newline="", encoding="utf-8", buffering=1) as file:
            table = _Table(file)
            for frame in media.read_frames(info, frames):
                found = detector.detect(frame.image, still=info.kind == "image")
                for face, track in zip(found, tracker.update(frame, found), strict=True):
                    x0, y0, x1, y1 = (float(value) for value in face.box)
                    one = _Written(stem, frame.index, frame.time, track, (x0, y0, x1, y1), float(face.score))
                    crop = room.cut(frame.image, face.box, square)
                    done, png = cv2.imencode(".png", crop[:, :, ::-1])
                    if not done:
                        raise OutputError(f"cannot encode {one.name}")
                    (out / one.name).write_bytes(png.tobytes())
                    table.add(one)
                    written.append(one)
        written = _put_together(written, tracker.people(), out)
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error.strerror}") from error
    if not written:
        put(out_console(), f"No face was found. {REMEDIES[Reason.NO_FACE]}")
        return
    people = len({one.person for one in written})
    faces_of = f"{len(written)} face{'s' * (len(written) != 1)} of {people} {'person' if people == 1 else 'people'}"
    out_console().print(f"{faces_of} in {one_line(str(out))}")
    before = {picture.name for picture in out.glob("*_f*_p*.png")} - {one.name for one in written}
    if before:
        pictures = "1 picture" if len(before) == 1 else f"{len(before)} pictures"
        say(f"{pictures} of another run lie there too; faces.csv lists this run's only.")
    doubtful = _perhaps_none(written, certain)
    if doubtful:
        put(
            out_console(),
            f"Perhaps no face: person {', '.join(map(str, doubtful))}. The face search is less sure than {certain:.2f}, and "
            "`scan` does not judge them.",
        )


@dataclass(frozen=True)
class _Written:
    """One face whose picture is in the folder."""

    stem: str
    frame: int
    time: float
    person: int
    box: tuple[float, float, float, float]
    detection: float

    @property
    def name(self) -> str:
        return f"{self.stem}_f{self.frame:06d}_p{self.person}.png"


class _Table:
    """faces.csv."""

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._writer.writerow(["name", "frame", "time", "person", "x0", "y0", "x1", "y1", "detection_score"])

    def add(self, one: _Written) -> None:
        box = [f"{value:.1f}" for value in one.box]
        self._writer.writerow([one.name, one.frame, f"{one.time:.3f}", one.person, *box, f"{one.detection:.4f}"])


def _put_together(written: list[_Written], people: dict[int, int], out: Path) -> list[_Written]:
    """Pictures and table by person, where they were by track."""
    from faceproof.result_files import whole_file

    if all(people[one.person] == one.person for one in written):
        return written
    renamed = []
    # Upwards, so that a number is free before another takes it: nobody's grows, and a frame shows nobody twice.
    for one in sorted(written, key=lambda one: (one.frame, one.person)):
        now = replace(one, person=people[one.person])
        if now.name != one.name:
            (out / one.name).replace(out / now.name)
        renamed.append(now)
    with whole_file(out / "faces.csv") as fresh, fresh.open("w", newline="", encoding="utf-8") as file:
        table = _Table(file)
        for one in renamed:
            table.add(one)
    return renamed


def _perhaps_none(written: list[_Written], certain: float) -> list[int]:
    """The people whom the search is less sure of than that: median over their faces, as the verdict's rule has it."""
    scores: dict[int, list[float]] = {}
    for one in written:
        scores.setdefault(one.person, []).append(one.detection)
    return [person for person, values in sorted(scores.items()) if median(values) < certain]
