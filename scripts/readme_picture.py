"""Draw docs/images/scan.svg: what a scan prints, on a made clip of a public-domain portrait.

python scripts/readme_picture.py
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import av
import cv2
import numpy as np
from rich.console import Console
from skimage import data

from faceproof import scan
from faceproof.cli.terminal import print_report

ROOT = Path(__file__).parents[1]


def make_clip(path: Path) -> None:
    """Three seconds of scikit-image's astronaut (NASA, public domain), the camera drifting over her."""
    portrait = data.astronaut()
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30, options={"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for i in range(90):
            zoom = 1.9 + 0.2 * np.sin(i / 20)
            matrix = np.float32([[zoom, 0, 320 - 225 * zoom + i / 3], [0, zoom, 240 - 130 * zoom]])
            frame = cv2.warpAffine(
                portrait, matrix, (640, 480), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
            )
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        make_clip(clip)
        report = scan(clip)
    report.media.path = "clip.mp4"
    console = Console(
        record=True, width=112, highlight=False, emoji=False, markup=False, force_terminal=True, file=io.StringIO()
    )
    console.print("$ faceproof scan clip.mp4", style="bold")
    print_report(console, report)
    console.save_svg(str(ROOT / "docs" / "images" / "scan.svg"), title="faceproof")


if __name__ == "__main__":
    main()
