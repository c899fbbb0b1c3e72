"""From real faces to training batches: geometry, forgery, camera and encoder, in the order of a real clip.

A *group* of pairs shares tile size and encoder, and is wholly determined by `(seed, number)`: the
same number gives the same pixels on any machine with the same libraries, in any worker, after any
resume. A batch is one or more consecutive groups.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np

from faceproof.training import degrade, masks, selfblend

if TYPE_CHECKING:
    import torch

    from faceproof.training.recipe import Recipe
    from faceproof.training.shards import FaceStore


@dataclass(frozen=True)
class PairOptions:
    """What the network is shown.

    size: side of the network's input in pixels. heatmap: side of the mask target.
    crop: smallest and largest side of the crop, in face boxes (the longer side of the detector's box).
    down: how far below the box's centre the crop lies, in face boxes.
    jitter: how far the crop wanders from there, in crop sides. rotate: degrees.
    group: pairs that share one tile size and encoder setting.
    """

    size: int = 192
    heatmap: int = 24
    crop: tuple[float, float] = (0.72, 1.3)
    down: float = 0.0
    jitter: float = 0.05
    rotate: float = 8.0
    group: int = 4
    blend: selfblend.BlendOptions = field(default_factory=selfblend.BlendOptions)
    degrade: degrade.DegradeOptions = field(default_factory=degrade.DegradeOptions)


def pair_options(recipe: Recipe) -> PairOptions:
    """The recipe's table of pairs as options."""
    table = recipe.pairs
    return PairOptions(
        size=recipe.input.size, heatmap=recipe.input.size // 8, crop=table.crop, down=recipe.input.down,
        jitter=table.jitter, group=table.group,
        blend=selfblend.BlendOptions(table.swap, table.reenact, table.blur, table.autoencoders),
        degrade=degrade.DegradeOptions(codec=table.codec, jpeg=table.jpeg, crf=table.crf, tile=table.tile),
    )  # fmt: skip


#: Share of the picture that a forgery covers at least, and how often another one is made instead.
_VISIBLE, _TRIES = 0.01, 4
_MIRROR = {"left_eye": "right_eye", "right_eye": "left_eye", "left_brow": "right_brow", "right_brow": "left_brow"}


def mirror(points: np.ndarray, width: int) -> np.ndarray:
    """Landmarks of the mirrored picture; left and right parts trade places. float32 `[POINTS, 2]`."""
    flipped = points.copy()
    flipped[:, 0] = width - 1 - points[:, 0]
    out = flipped.copy()
    for name, twin in _MIRROR.items():
        out[masks.PARTS[name]] = flipped[masks.PARTS[twin]]
    return out


def frame_face(
    image: np.ndarray,
    points: np.ndarray,
    box_side: float,
    centre: tuple[float, float],
    side: int,
    rng: np.random.Generator,
    options: PairOptions,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut the face at video scale: uint8 `[side + SLACK, ...]` RGB and its landmarks.

    `box_side` and `centre` are the detector's box in picture pixels; `side` is the tile's side. The
    forgery is made at this scale because a video's pixels, not a photograph's, are what a forger had.
    """  # fmt: skip
    if rng.random() < 0.5:
        image = np.ascontiguousarray(image[:, ::-1])
        points = mirror(points, image.shape[1])
        centre = (image.shape[1] - 1 - centre[0], centre[1])
    crop = box_side * rng.uniform(*options.crop)
    shift = rng.uniform(-options.jitter, options.jitter, 2) * crop
    angle = rng.uniform(-options.rotate, options.rotate) if rng.random() < 0.7 else 0.0
    padded = side + degrade.SLACK
    scale = side / crop
    if scale < 0.7:  # area-average first: bilinear sampling alone would alias
        shrink = scale * 1.2
        image = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        points, centre, shift, scale = (
            points * shrink,
            (centre[0] * shrink, centre[1] * shrink),
            shift * shrink,
            scale / shrink,
        )
    matrix = cv2.getRotationMatrix2D((centre[0] + shift[0], centre[1] + shift[1]), angle, scale)
    matrix[:, 2] += padded / 2 - np.array([centre[0] + shift[0], centre[1] + shift[1]], np.float64)
    border = cv2.BORDER_REFLECT_101 if rng.random() < 0.85 else cv2.BORDER_CONSTANT
    kernel = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_LINEAR
    framed = cv2.warpAffine(image, matrix, (padded, padded), flags=kernel, borderMode=border)
    return framed, (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def _visible_pair(
    framed: np.ndarray,
    points: np.ndarray,
    rng: np.random.Generator,
    other: tuple[np.ndarray, np.ndarray] | None,
    options: selfblend.BlendOptions,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A pair whose forgery lies inside the picture: in a close-up of the mouth, forged eyes would be a wrong label."""
    for _ in range(_TRIES):
        real, fake, mask = selfblend.make_pair(framed, points, rng, other, options)
        if mask.mean() >= _VISIBLE:
            break
    return real, fake, mask


def make_group(store: FaceStore, seed: int, number: int, options: PairOptions) -> dict[str, np.ndarray]:
    """Group `number` of the endless stream `seed`.

    Returns `image` uint8 `[2g, size, size, 3]` RGB, rows 2k real and 2k + 1 its fake; `label` float32
    `[2g]`, 1 = fake; `mask` float32 `[2g, heatmap, heatmap]`, zero for reals.
    """
    rng = np.random.default_rng([seed, number])
    side = degrade.draw_tile(rng, options.degrade)
    tiles, blended = [], []
    for _ in range(options.group):
        face = store.draw(rng)
        centre = (face.centre[0], face.centre[1] + options.down * face.box_side)
        framed, points = frame_face(face.image, face.points, face.box_side, centre, side, rng, options)
        other = None
        if rng.random() < options.blend.swap * 1.5:
            stranger = store.draw(rng)
            if stranger.identity != face.identity:
                other = (stranger.image, stranger.points)
        if rng.random() < 0.4:  # the clip a forger starts from was compressed once already
            framed = selfblend.jpeg(framed, int(rng.uniform(50, 95)))
        real, fake, mask = _visible_pair(framed, points, rng, other, options.blend)
        tiles += degrade.sensor([real, fake], rng, options.degrade)
        blended.append(mask)
    filmed, offsets = degrade.film(np.stack(tiles), rng, options.degrade)
    count = len(filmed)
    images = np.empty((count, options.size, options.size, 3), np.uint8)
    targets = np.zeros((count, options.heatmap, options.heatmap), np.float32)
    for k in range(options.group):
        state = rng.bit_generator.state
        for row in (0, 1):
            rng.bit_generator.state = state  # the same kernel for both
            images[2 * k + row] = degrade.fit(filmed[2 * k + row], options.size, rng)
        x, y = offsets[2 * k + 1]
        mask = blended[k][y : y + side, x : x + side]
        targets[2 * k + 1] = cv2.resize(mask, (options.heatmap, options.heatmap), interpolation=cv2.INTER_AREA)
    labels = np.tile(np.array([0, 1], np.float32), options.group)
    return {"image": images, "label": labels, "mask": targets}


class PairStream:  # a torch Dataset in all but name: this module works without torch
    """Map-style dataset for `torch.utils.data.DataLoader`: item i is group i of the stream, whatever came before."""

    def __init__(self, store: FaceStore, seed: int, options: PairOptions, length: int = 2**40) -> None:
        self.store, self.seed, self.options, self.length = store, seed, options, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return make_group(self.store, self.seed, index, self.options)


def collate(groups: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    """Join groups into one batch of torch tensors; images become uint8 `[N, 3, size, size]`."""
    import torch as t

    images = t.from_numpy(np.concatenate([g["image"] for g in groups])).permute(0, 3, 1, 2)
    return {
        "image": images,
        "label": t.from_numpy(np.concatenate([g["label"] for g in groups])),
        "mask": t.from_numpy(np.concatenate([g["mask"] for g in groups])),
    }
