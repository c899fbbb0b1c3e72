"""Short clips of people the network never saw, genuine and forged: what bands and calibration are chosen on.

A verdict on a video rests on the mean of many faces, one on a still on a single face, so a set of single faces cannot
say how often a clip is called forged. Here every held-out face becomes a pair of clips: framed once, forged once, moved
through a few frames, and sent through one sensor and one encoder, so that the frames of a clip are as alike as those of a
real one, or more: the person neither turns nor speaks, and averaging helps less than it would.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from faceproof.training import degrade, pairs, selfblend
from faceproof.training.recipe import Recipe
from faceproof.training.shards import FaceStore

#: Sides of the framed picture in face boxes: as much as the shards hold around a face.
_FRAMED = 1.5
#: How far a face detector's box wanders from frame to frame, in box sides: shift, and size.
_WANDER = 0.03, 0.04


@dataclass(frozen=True)
class Clip:
    """A few frames of one person. frames: uint8 RGB `[T, S, S, 3]`; boxes: float32 `[T, 4]`, x0 y0 x1 y1 of the face;
    label: 1 forged, 0 genuine; source: whose face it is; name: unique among all clips."""

    frames: np.ndarray
    boxes: np.ndarray
    label: int
    source: str
    name: str


@dataclass(frozen=True)
class FootageOptions:
    """faces: frames of a clip. rounds: pairs of clips of every picture. side: smallest and largest face in pixels,
    drawn evenly in the logarithm. seed: the same one gives the same clips."""

    faces: int = 8
    rounds: int = 3
    side: tuple[float, float] = (48.0, 256.0)
    seed: int = 0


def held_out_footage(store: FaceStore, recipe: Recipe, options: FootageOptions) -> Iterator[tuple[Clip, Clip]]:
    """A genuine clip and its forged twin of every picture in `store`, `options.rounds` times over."""
    # the recipe's forgeries and encoders; framing and size are a clip's own
    how = replace(pairs.pair_options(recipe), crop=(_FRAMED, _FRAMED), down=0.0, jitter=0.0)
    for turn in range(options.rounds):
        for index in range(len(store)):
            yield make_clips(store, index, turn, how, options)


def make_clips(
    store: FaceStore, index: int, turn: int, how: pairs.PairOptions, options: FootageOptions
) -> tuple[Clip, Clip]:
    """Picture `index` as a genuine clip and a forged one, wholly determined by seed, turn and index."""
    rng = np.random.default_rng([options.seed, turn, index])
    face = store[index]
    low, high = np.log(options.side)
    side = max(2 * degrade.SLACK, round(float(np.exp(rng.uniform(low, high))) * _FRAMED / 16) * 16)
    framed, points = pairs.frame_face(face.image, face.points, face.box_side, face.centre, side, rng, how)
    stranger = store.draw(rng)
    other = (stranger.image, stranger.points) if stranger.identity != face.identity else None
    if rng.random() < 0.4:  # the clip a forger starts from was compressed once already
        framed = selfblend.jpeg(framed, int(rng.uniform(50, 95)))
    real, fake, _ = selfblend.make_pair(framed, points, rng, other, how.blend)
    seen, offsets = _film(degrade.sensor([real, fake], rng, how.degrade), side, options.faces, rng, how.degrade)
    boxes = _boxes(offsets, side, rng)
    name = f"{face.identity}#{index}.{turn}"
    real_clip, fake_clip = (
        Clip(seen[:, label], boxes, label, face.identity, f"{name}.{word}")
        for label, word in enumerate(("real", "fake"))
    )
    return real_clip, fake_clip


def _film(
    pair: list[np.ndarray], side: int, length: int, rng: np.random.Generator, options: degrade.DegradeOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Both pictures of a pair moving alike through one encoder: uint8 `[T, 2, side, side, 3]` and offsets `[T, 2]`."""
    step = rng.normal(0, 1.2, 2) + rng.normal(0, 0.7, (length, 2))
    start = rng.integers(0, degrade.SLACK + 1, 2)
    offsets = np.clip(np.round(start + np.cumsum(step, 0)), 0, degrade.SLACK).astype(int)
    shown = np.stack([[tile[y : y + side, x : x + side] for tile in pair] for x, y in offsets])
    codecs = [name for name in degrade.available_codecs() if name in options.codecs]
    if not codecs or rng.random() >= options.codec:
        if rng.random() < max(options.jpeg, 0.8 if not codecs else 0.0):
            quality = int(rng.uniform(30, 95))
            shown = np.stack([[selfblend.jpeg(tile, quality) for tile in two] for two in shown])
        return shown, offsets
    if rng.random() < 0.6:  # a little sensor noise, or every P frame is a pure copy
        grain = rng.integers(-2, 3, (length, 1, side, side, 1), dtype=np.int16)
        shown = np.clip(shown + grain, 0, 255).astype(np.uint8)
    on_top = int(rng.integers(0, 2))  # the edge of the frame must not tell which is which
    frames = shown[:, [on_top, 1 - on_top]].reshape(length, 2 * side, side, 3)
    odds = np.array([options.codecs[name] for name in codecs], np.float64)
    codec = str(rng.choice(codecs, p=odds / odds.sum()))
    preset = str(rng.choice(["ultrafast", "superfast", "veryfast", "faster"], p=[0.15, 0.3, 0.35, 0.2]))
    frames = degrade.transcode(frames, codec, degrade.draw_crf(rng, options), preset)
    if rng.random() < 0.15:  # re-uploaded: encoded twice
        again = "libx264" if "libx264" in codecs else codec
        frames = degrade.transcode(frames, again, degrade.draw_crf(rng, options))
    halves = frames.reshape(length, 2, side, side, 3)
    return halves[:, [on_top, 1 - on_top]], offsets


def _boxes(offsets: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Where a face detector would see the face: its place in every frame, give or take."""
    shift, size = _WANDER
    length = len(offsets)
    face = side / _FRAMED
    centre = (side + degrade.SLACK) / 2 - offsets + rng.normal(0, shift, (length, 2)) * face
    half = face / 2 * (1 + rng.normal(0, size, (length, 1)))
    return np.clip(np.concatenate([centre - half, centre + half], 1), 0, side).astype(np.float32)


def no_smaller_than(options: FootageOptions, least: float) -> FootageOptions:
    """`options` with no face smaller than `least` pixels: smaller ones are not judged."""
    low, high = options.side
    return replace(options, side=(min(max(low, least), high), high))
