"""Where one shot ends and the next begins, from one frame to the next one looked at."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from faceproof.faces.appearance import colour_shares

Floats = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]

# A cut changes both what colours there are and where: moving people change the second, a flash or a pan the first.
_COLOURS_KEPT = 0.62
_LAYOUT_KEPT = 0.45
# So little of the colours is left that the layout need not be asked.
_COLOURS_LOST = 0.25
# Above both, the view is beyond doubt the one of before: 99 of 100 frames of a shot, 0.4 s apart, are; frames of different
# videos reached 0.56 and 0.32.
_SURELY_COLOURS, _SURELY_LAYOUT = 0.8, 0.7


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """What a frame shows as a whole, from its thumbnail: brightness by place, and shares of colours by quarter."""

    layout: Floats
    colours: Floats


def setting_of(image: Image) -> Setting:
    """The setting of a uint8 RGB frame."""
    thumbnail = _thumbnail(image)
    return Setting(_layout(thumbnail), _colours(thumbnail))


class SceneWatch:
    """Tells cuts from movement by a thumbnail and colour histograms of each quarter of the frame.

    ``goes_on``: whether the frame given last shows, beyond doubt, the view of the one before it. Neither that nor a cut is
    what may be either: a fast pan, or a cut to somebody framed alike.
    """

    goes_on = False

    def __init__(self) -> None:
        self._before: Setting | None = None

    def is_cut(self, now: Setting) -> bool:
        """Whether this frame belongs to another shot than the frame given before it. The first frame is no cut."""
        before, self._before = self._before, now
        self.goes_on = False
        if before is None:
            return False
        kept = float(np.minimum(now.colours, before.colours).sum())
        if kept < _COLOURS_LOST:
            return True
        layout = float(now.layout @ before.layout)
        self.goes_on = kept >= _SURELY_COLOURS and layout >= _SURELY_LAYOUT
        return kept < _COLOURS_KEPT and layout < _LAYOUT_KEPT


def _thumbnail(image: Image) -> Image:
    height, width = image.shape[:2]
    step = max(1, min(height, width) // 144)
    some = image[::step, ::step]
    # Channel by channel: NumPy copies long rows of bytes faster than many runs of three.
    near = np.empty(some.shape, np.uint8)
    for channel in range(3):
        near[:, :, channel] = some[:, :, channel]
    return np.asarray(cv2.resize(near, (64, 36), interpolation=cv2.INTER_AREA), np.uint8)


def _layout(thumbnail: Image) -> Floats:
    grey = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY).astype(np.float32).ravel()
    grey -= grey.mean()
    return np.asarray(grey / (np.linalg.norm(grey) + 1e-3), np.float32)


def _colours(thumbnail: Image) -> Floats:
    lab = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2LAB)
    quarters = [lab[y : y + 18, x : x + 32] for y in (0, 18) for x in (0, 32)]
    shares = [colour_shares(quarter, (8, 8, 8)) for quarter in quarters]
    return np.concatenate(shares) / np.float32(len(shares))
