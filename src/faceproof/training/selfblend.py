"""Make a forgery out of a real face: the pair the network learns from.

`make_pair` takes one real picture and returns (real, fake, mask). Three kinds, drawn at random:

* **self-blend** - the face blended onto itself after one copy was re-coloured, re-sampled and shifted
  (after the idea of Shiohara & Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022);
* **swap** - another person's face, aligned by landmarks and colour-matched, blended in (Face X-ray, CVPR 2020);
* **re-enactment** - the same face with a moved mouth or expression, drawn anew by a smoothing decoder, a
  rasteriser or a trained autoencoder.

Real and fake are equal outside the mask, exactly; what follows (`degrade`) is done to both alike, so
the only thing to learn is the forgery. Pictures are RGB uint8 `[side, side, 3]`, landmarks float32
`[masks.POINTS, 2]` in pixels, masks float32 `[side, side]` in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from faceproof.training import masks, warps


@dataclass(frozen=True)
class BlendOptions:
    """How often each kind of forgery is made; what is left of 1 are self-blends.

    blur: share of the faces drawn anew that merely lose their finest detail, as a renderer close to its video does.
    """

    swap: float = 0.25
    reenact: float = 0.35
    blur: float = 0.0
    #: File of `faceproof train autoencoders`; with one, a third of the painted faces went through a real decoder.
    autoencoders: str = ""


def shift_colour(image: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """Random channel shift, hue, saturation, brightness and contrast; RGB uint8 in and out."""
    if rng.random() < 0.5:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.float32)
        hsv[..., 0] = (hsv[..., 0] + rng.uniform(-7, 7) * strength) % 180
        hsv[..., 1] *= 1 + rng.uniform(-0.3, 0.3) * strength
        hsv[..., 2] *= 1 + rng.uniform(-0.2, 0.2) * strength
        image = cv2.cvtColor(np.clip(hsv, 0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB)
    gain = 1 + rng.uniform(-0.15, 0.15) * strength
    shift = rng.uniform(-18, 18) * strength * 0.6 + (
        rng.uniform(-18, 18, 3) * strength if rng.random() < 0.4 else np.zeros(3)
    )
    table = np.arange(256, dtype=np.float32)[:, None]
    return cv2.LUT(image, np.clip((table - 128) * gain + 128 + shift, 0, 255).astype(np.uint8)[:, None])


def shift_frequency(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lose or exaggerate detail: down and up again, sharpen, blur, JPEG or a re-rendering; RGB uint8 in and out."""
    side = image.shape[0]
    kind = rng.random()
    if kind < 0.35:
        small = max(16, int(side / rng.uniform(1.15, 2.2)))
        shrink = cv2.INTER_AREA if rng.random() < 0.6 else cv2.INTER_NEAREST
        grow = cv2.INTER_LINEAR if rng.random() < 0.6 else cv2.INTER_CUBIC
        return cv2.resize(cv2.resize(image, (small, small), interpolation=shrink), (side, side), interpolation=grow)
    if kind < 0.6:
        return sharpen(image, rng)
    if kind < 0.75:
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.4))
    if kind < 0.82:
        return jpeg(image, int(rng.uniform(25, 80)))
    if kind < 0.9:  # grain of another camera
        grain = rng.normal(0, rng.uniform(2, 8), (*image.shape[:2], 1))
        return np.clip(image + grain, 0, 255).astype(np.uint8)
    return warps.rerender(image, rng)


def sharpen(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Unsharp masking of random strength; RGB uint8 in and out."""
    amount = rng.uniform(0.3, 1.4)
    return cv2.addWeighted(image, 1 + amount, cv2.GaussianBlur(image, (0, 0), rng.uniform(0.7, 1.5)), -amount, 0)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """One JPEG round trip; RGB uint8 in and out."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def blend(target: np.ndarray, source: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`target` where the mask is 0, `source` where it is 1; untouched pixels stay bit-identical. RGB uint8."""
    weight = mask[..., None]
    mixed = target + (source.astype(np.float32) - target) * weight
    return np.clip(mixed + 0.5, 0, 255).astype(np.uint8)


def match_colour(source: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Give `source` the mean and spread `target` has inside the mask (Reinhard et al., 2001, in RGB); uint8."""
    inside = (mask > 0.5).astype(np.uint8)
    if int(inside.sum()) < 16:
        return source
    source_mean, source_std = cv2.meanStdDev(source, mask=inside)
    target_mean, target_std = cv2.meanStdDev(target, mask=inside)
    gain = np.clip(target_std / (source_std + 1e-3), 0.5, 2.0)
    table = (np.arange(256, dtype=np.float32)[:, None] - source_mean.T) * gain.T + target_mean.T
    return cv2.LUT(source, np.clip(table, 0, 255).astype(np.uint8)[:, None])


def _nudge(source: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Misalign source and mask together: up to 3 % sideways, 2 % up or down, 5 % scale, 2 degrees."""
    side = source.shape[0]
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(-2, 2), rng.uniform(0.95, 1 / 0.95))
    matrix[:, 2] += rng.uniform(-1, 1, 2) * side * np.array([0.03, 0.02], np.float64)
    source = cv2.warpAffine(source, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return source, cv2.warpAffine(mask, matrix, (side, side), flags=cv2.INTER_LINEAR)


def _strength(rng: np.random.Generator) -> float:
    return float(rng.choice([0.25, 0.5, 0.75, 1.0], p=[0.05, 0.1, 0.2, 0.65]))


def self_blend(
    image: np.ndarray, points: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The face onto itself; returns (real, fake, mask). The real may be the one that carries the colour change."""
    changed = shift_colour(image, rng, rng.uniform(0.2, 1.0))
    if rng.random() < 0.8:
        changed = shift_frequency(changed, rng)
    source, target = (changed, image) if rng.random() < 0.5 else (image, changed)
    mask = masks.hull(masks.region(points, rng), image.shape[0], rng)
    source, mask = _nudge(source, mask, rng)
    if rng.random() < 0.3:
        source = masks.remap(source, masks.displacement(image.shape[0], image.shape[0] * 0.006, 6, rng))
    mask = masks.soften(mask, rng) * _strength(rng)
    return target, blend(target, source, mask), mask


def draw_anew(image: np.ndarray, points: np.ndarray, rng: np.random.Generator, options: BlendOptions) -> np.ndarray:
    """Have a forger's program draw the face: a smoothing decoder, a graphics engine or a trained one; RGB uint8."""
    if options.blur and rng.random() < options.blur:
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.45, 1.6))
    kind = rng.random()
    if kind < 0.3:
        return warps.rasterise(image, points, rng)
    if kind < 0.65 and options.autoencoders:
        from faceproof.training.autoencoder import paint  # torch: only where a trained painter is wanted

        return paint(image, options.autoencoders, rng)
    return warps.rerender(image, rng)


def swap(
    image: np.ndarray,
    points: np.ndarray,
    other: np.ndarray,
    other_points: np.ndarray,
    rng: np.random.Generator,
    options: BlendOptions = BlendOptions(),
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Another face in place of this one; returns (real, fake, mask)."""
    side = image.shape[0]
    steady = slice(masks.PARTS["left_eye"].start, None)  # eyes, brows, nose: parts an open mouth does not move
    fit, _ = cv2.estimateAffinePartial2D(other_points[steady], points[steady], method=cv2.LMEDS)
    if fit is None:
        return self_blend(image, points, rng)
    source = cv2.warpAffine(other, fit, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    region = str(rng.choice(["face", "brows_to_chin", "inner", "lower"], p=[0.4, 0.4, 0.1, 0.1]))
    mask = masks.hull(masks.region(points, rng, region), side, rng)
    if rng.random() < 0.9:
        source = match_colour(source, image, mask)
    # a pasted face may be the softer part (a network painted it) or the sharper one (a graphics engine did, into a
    # compressed clip): show both, or "smooth inside" becomes the only sign of a forgery
    kind = rng.random()
    if kind < 0.3:
        source = draw_anew(source, points, rng, options)
    elif kind < 0.5:
        source = sharpen(source, rng)
    elif kind < 0.75:
        image = shift_frequency(image, rng)
    mask = masks.soften(mask, rng, hard=0.25) * float(rng.choice([0.75, 1.0], p=[0.2, 0.8]))
    return image, blend(image, source, mask), mask


def reenact(
    image: np.ndarray, points: np.ndarray, rng: np.random.Generator, options: BlendOptions = BlendOptions()
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same face with another expression and skin drawn anew; returns (real, fake, mask)."""
    source = warps.change_expression(image, points, rng)
    treatment = rng.random()
    if treatment < 0.75:
        source = draw_anew(source, points, rng, options)
    elif treatment < 0.82:  # rendered sharper than the clip around it
        source = sharpen(source, rng)
    elif treatment < 0.9:
        image = shift_frequency(image, rng)
    if rng.random() < 0.4:
        source = shift_colour(source, rng, 0.35)
    kind = str(rng.choice(["face", "brows_to_chin", "lower", "mouth", "nose_mouth"], p=[0.25, 0.15, 0.35, 0.15, 0.1]))
    mask = masks.hull(masks.region(points, rng, kind), image.shape[0], rng)
    mask = masks.soften(mask, rng)
    return image, blend(image, source, mask), mask


def make_pair(
    image: np.ndarray,
    points: np.ndarray,
    rng: np.random.Generator,
    other: tuple[np.ndarray, np.ndarray] | None = None,
    options: BlendOptions = BlendOptions(),
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One real picture and a forgery of it: (real, fake, mask), equal outside the mask.

    `other` is another person's (picture, landmarks); without it swaps become self-blends. The same
    generator state gives the same pair.
    """  # fmt: skip
    kind = rng.random()
    if kind < options.swap and other is not None:
        return swap(image, points, other[0], other[1], rng, options)
    if options.swap <= kind < options.swap + options.reenact:
        return reenact(image, points, rng, options)
    return self_blend(image, points, rng)
