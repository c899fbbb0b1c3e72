"""A contact sheet of self-made pairs, for a person to judge: real, fake and mask side by side."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from faceproof.errors import OutputError
from faceproof.training import pairs
from faceproof.training.shards import FaceStore


def contact_sheet(
    store: FaceStore, options: pairs.PairOptions, *, count: int = 32, columns: int = 4, seed: int = 0
) -> np.ndarray:
    """uint8 RGB sheet of `count` pairs (rounded up to whole groups), `columns` pairs a row, each real | fake | mask."""
    cells = []
    for number in range(-(-count // options.group)):
        group = pairs.make_group(store, seed, number, options)
        for k in range(options.group):
            mask = cv2.resize(group["mask"][2 * k + 1], (options.size, options.size), interpolation=cv2.INTER_LINEAR)
            grey = np.repeat((np.clip(mask, 0, 1) * 255).astype(np.uint8)[..., None], 3, 2)
            cells.append(np.hstack([group["image"][2 * k], group["image"][2 * k + 1], grey]))
    cells = cells[:count]
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    return np.vstack([np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)])


def write_sheet(sheet: np.ndarray, path: str | Path) -> None:
    """Write the sheet as PNG or JPEG, by the file's suffix. Raises OutputError when that fails."""
    path = Path(path)
    try:
        done = path.parent.is_dir() and cv2.imwrite(str(path), sheet[..., ::-1])
    except cv2.error as error:
        raise OutputError(f"{path} cannot be written as a picture", remedy="End the name in .png or .jpg.") from error
    if not done:
        raise OutputError(f"{path} cannot be written")


def statistics(pictures: np.ndarray) -> dict[str, list[float]]:
    """Tenth, fiftieth and ninetieth percentile of sharpness, fine detail, contrast and blockiness of RGB `[N, S, S, 3]`.

    Sharpness is the variance of the Laplacian, blockiness the jump across every eighth column relative
    to the jump across the others; both on the central 60 %. To compare self-made reals with real clips.
    """
    rows = []
    for picture in pictures:
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
        edge = grey.shape[0] // 5
        grey = grey[edge:-edge, edge:-edge]
        jumps = np.abs(np.diff(grey, axis=1)).mean(0)
        phases = [jumps[start::8].mean() for start in range(8)]
        detail = np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 1.0)).mean()
        rows.append(
            [cv2.Laplacian(grey, cv2.CV_32F).var(), detail, grey.std(), max(phases) / (np.median(phases) + 1e-6)]
        )
    found = np.percentile(np.array(rows, np.float64), [10, 50, 90], axis=0).T
    return {
        name: [round(float(v), 3) for v in values]
        for name, values in zip(("sharpness", "detail", "contrast", "blockiness"), found, strict=True)
    }
