"""Small convolutional autoencoders that paint faces again, as the networks behind many forgeries do.

Deepfakes and NeuralTextures end in a decoder: texture passes a narrow code and comes back with the decoder's own
grain. A handful of tiny autoencoders, one per way of growing a picture and per width of code, are trained for half a
minute on real faces; `pairs` then sends the forged part of some fakes through one of them.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceproof.errors import TrainingError
from faceproof.training import checkpoints
from faceproof.training.shards import FaceStore

#: (how the decoder grows its picture, channels of the code at 1/4 of the side)
VARIANTS = (("transposed", 4), ("nearest", 6), ("shuffle", 5), ("transposed", 10), ("nearest", 14), ("shuffle", 12))
_MULTIPLE = 4


class FaceAutoencoder(nn.Module):
    """float32 `[N, 3, S, S]` in [0, 1], S a multiple of 4 → the same picture after a code of `[N, code, S/4, S/4]`."""

    def __init__(self, grow: str, code: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 24, 3, 2, 1), nn.LeakyReLU(0.1),
            nn.Conv2d(24, 48, 3, 2, 1), nn.LeakyReLU(0.1),
            nn.Conv2d(48, code, 3, 1, 1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(code, 48, 3, 1, 1), nn.LeakyReLU(0.1), _grow(grow, 48, 24), nn.LeakyReLU(0.1), _grow(grow, 24, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x - 0.5)) + 0.5


def _grow(kind: str, inputs: int, outputs: int) -> nn.Module:
    if kind == "transposed":
        return nn.ConvTranspose2d(inputs, outputs, 4, 2, 1)
    if kind == "nearest":
        return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, 1, 1))
    if kind == "shuffle":
        return nn.Sequential(nn.Conv2d(inputs, outputs * 4, 3, 1, 1), nn.PixelShuffle(2))
    raise ValueError(f"unknown way to grow {kind!r}; known: transposed, nearest, shuffle")


def train_autoencoders(
    store: FaceStore, out: str | Path, *, steps: int = 400, batch: int = 8, side: int = 112, seed: int = 0
) -> list[float]:
    """Train one autoencoder per variant on `store` and write them to `out`; returns each one's last mean error.

    The loss is the mean absolute error of pixels and of their horizontal and vertical differences, so that edges come
    back and pores do not have to. Errors are in units of the full range, averaged over the last 50 steps.
    """
    states, errors = [], []
    for number, (grow, code) in enumerate(VARIANTS):
        torch.manual_seed(seed + number)
        rng = np.random.default_rng([seed, number])
        network = FaceAutoencoder(grow, code)
        optimiser = torch.optim.Adam(network.parameters(), 3e-3)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
        recent: list[float] = []
        for _ in range(steps):
            picture = _batch(store, rng, batch, side)
            painted = network(picture)
            error = F.l1_loss(painted, picture)
            loss = error + sum(F.l1_loss(painted.diff(dim=d), picture.diff(dim=d)) for d in (2, 3))
            torch.autograd.backward(loss)
            optimiser.step()
            rate.step()
            optimiser.zero_grad(set_to_none=True)
            recent = [*recent[-49:], float(error.detach())]
        states.append(network.state_dict())
        errors.append(float(np.mean(recent)))
    checkpoints.save(Path(out), {"variants": [list(v) for v in VARIANTS], "states": states})
    return errors


def _batch(store: FaceStore, rng: np.random.Generator, count: int, side: int) -> Tensor:
    pictures = np.empty((count, side, side, 3), np.uint8)
    for k in range(count):
        image = store.draw(rng).image
        pictures[k] = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


@lru_cache(maxsize=2)
def load_autoencoders(path: str) -> tuple[FaceAutoencoder, ...]:
    """The autoencoders written by `train_autoencoders`, ready to paint; once per process.

    Raises TrainingError when the file is missing or holds something else.
    """
    if not Path(path).is_file():
        raise TrainingError(
            f"The autoencoders {path} do not exist", remedy="Make them with: faceproof train autoencoders"
        )
    stored = checkpoints.load(Path(path))
    if "variants" not in stored or "states" not in stored:
        raise TrainingError(f"{path} holds no autoencoders", remedy="Make them with: faceproof train autoencoders")
    networks = []
    for (grow, code), state in zip(stored["variants"], stored["states"], strict=True):
        network = FaceAutoencoder(grow, code)
        network.load_state_dict(state)
        networks.append(network.eval())
    return tuple(networks)


@torch.inference_mode()
def paint(image: np.ndarray, path: str, rng: np.random.Generator) -> np.ndarray:
    """Send a picture through one of the autoencoders at a random working size; RGB uint8 `[side, side, 3]` in and out."""
    networks = load_autoencoders(path)
    network = networks[int(rng.integers(len(networks)))]
    side = image.shape[0]
    working = max(48, min(side, int(side / rng.uniform(1.0, 1.6))) // _MULTIPLE * _MULTIPLE)
    small = cv2.resize(image, (working, working), interpolation=cv2.INTER_AREA)
    painted = network(torch.from_numpy(small).permute(2, 0, 1)[None].float() / 255)[0]
    out = (painted.clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).numpy()
    out = cv2.resize(out, (side, side), interpolation=cv2.INTER_CUBIC)
    # a forger's decoder was trained on this very face and keeps its colours: give the slow differences back
    slow = cv2.blur(image.astype(np.float32) - out, (side // 6, side // 6), borderType=cv2.BORDER_REFLECT_101)
    return np.clip(out + slow + 0.5, 0, 255).astype(np.uint8)
