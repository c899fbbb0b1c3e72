"""`faceproof faces`: the faces themselves, as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command(name="faces")(faces)


def faces(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A picture or video.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the crops; made if missing.")],
    frames: Annotated[str, typer.Option(metavar="S", help="A count such as 32, every:K, or all.")] = "32",
    margin: Annotated[float, typer.Option(min=1.0, help="Side of the square crop as a multiple of the face.")] = 1.3,
    mode: Annotated[str, typer.Option("--faces", help="thorough, or fast: may miss small faces.")] = "thorough",
) -> None:
    """Write every face found as a PNG named by frame and person, and a table faces.csv beside them.

    Somebody who turns away and comes back may have two numbers here; `scan` puts such pieces together.
    """
    import csv

    import cv2

    from faceproof import faces as room
    from faceproof import media
    from faceproof.cli.terminal import one_line, out_console
    from faceproof.detectors.spec import Margin
    from faceproof.errors import OptionError, OutputError

    if mode not in ("thorough", "fast"):
        raise OptionError(f"--faces cannot be {mode!r}", remedy="Use thorough or fast.")
    media.parse_sampling(frames)
    square = Margin(kind="square", value=margin)
    detector = room.FaceDetector(mode=mode)  # type: ignore[arg-type]
    tracker = room.Tracker()
    stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in path.stem) or "media"
    count, people = 0, set()
    info = media.probe(path)
    try:
        out.mkdir(parents=True, exist_ok=True)
        # A row as soon as its picture is there: whoever stops it has a table of what was written.
        with (out / "faces.csv").open("w", newline="", encoding="utf-8", buffering=1) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["name", "frame", "time", "person", "x0", "y0", "x1", "y1", "detection_score"])
            for frame in media.read_frames(info, frames):
                found = detector.detect(frame.image)
                for face, track in zip(found, tracker.update(frame, found), strict=True):
                    name = f"{stem}_f{frame.index:06d}_p{track}.png"
                    crop = room.cut(frame.image, face.box, square)
                    done, png = cv2.imencode(".png", crop[:, :, ::-1])
                    if not done:
                        raise OutputError(f"cannot encode {name}")
                    (out / name).write_bytes(png.tobytes())
                    box = [f"{value:.1f}" for value in face.box]
                    writer.writerow([name, frame.index, f"{frame.time:.3f}", track, *box, f"{face.score:.4f}"])
                    count += 1
                    people.add(track)
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error.strerror}") from error
    if not count:
        out_console().print("No face was found. If there is one, a larger or upright copy may help.")
        return
    faces_of = (
        f"{count} {'face' if count == 1 else 'faces'} of {len(people)} {'person' if len(people) == 1 else 'people'}"
    )
    out_console().print(f"{faces_of} in {one_line(str(out))}")
