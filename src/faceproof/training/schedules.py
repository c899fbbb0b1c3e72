"""Optimisers, learning rates, averaged weights and frozen layers, as recipes name them."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import nn

from faceproof.training.networks import backbone_of
from faceproof.training.recipe import OptimiserTable, Recipe, ScheduleTable


def build_optimiser(network: nn.Module, table: OptimiserTable) -> torch.optim.Optimizer:
    """Two groups, backbone and head; the head's rate is `head_lr_factor` times higher, unless all is head."""
    backbone = backbone_of(network)
    inside = {id(parameter) for parameter in backbone.parameters()} if backbone is not None else set()
    body = [parameter for parameter in network.parameters() if id(parameter) in inside]
    head = [parameter for parameter in network.parameters() if id(parameter) not in inside]
    factor = table.head_lr_factor if body else 1.0
    groups: list[dict[str, Any]] = [
        {"params": p, "lr": table.lr * f, "factor": f} for p, f in ((body, 1.0), (head, factor)) if p
    ]
    if table.kind == "adamw":
        return torch.optim.AdamW(groups, lr=table.lr, weight_decay=table.weight_decay)
    if table.kind == "adam":
        return torch.optim.Adam(groups, lr=table.lr, weight_decay=table.weight_decay)
    return torch.optim.SGD(
        groups, lr=table.lr, weight_decay=table.weight_decay, momentum=table.momentum, nesterov=table.nesterov
    )


class LearningRate:
    """Sets the rate before every step; `epoch_done` lets a plateau react. State is a plain dict."""

    def __init__(self, table: ScheduleTable, base: float, total_steps: int) -> None:
        self.table, self.base, self.total = table, base, max(1, total_steps)
        self.scale, self.best, self.waited = 1.0, -math.inf, 0

    def at(self, step: int) -> float:
        """The backbone's rate at `step` (from 0)."""
        warm = min(1.0, (step + 1) / self.table.warmup_steps) if self.table.warmup_steps else 1.0
        done = min(1.0, step / self.total)
        shape = {"cosine": 0.5 + 0.5 * math.cos(math.pi * done), "poly": (1 - done) ** 0.9}.get(
            self.table.kind, self.scale
        )
        return max(self.base * warm * shape, self.table.min_lr)

    def apply(self, optimiser: torch.optim.Optimizer, step: int) -> float:
        rate = self.at(step)
        for group in optimiser.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)
        return rate

    def epoch_done(self, score: float) -> None:
        if self.table.kind != "plateau":
            return
        if score > self.best:
            self.best, self.waited = score, 0
            return
        self.waited += 1
        if self.waited > self.table.patience:
            self.scale, self.waited = self.scale * self.table.factor, 0

    def state(self) -> dict[str, float]:
        return {"base": self.base, "scale": self.scale, "best": self.best, "waited": self.waited}

    def restore(self, state: dict[str, float]) -> None:
        self.base, self.scale, self.best, self.waited = (
            state["base"],
            state["scale"],
            state["best"],
            int(state["waited"]),
        )


class AveragedWeights:
    """Exponential moving average of weights and BatchNorm statistics; the average is what gets scored and shipped."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).eval()
        self.network.requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        # the first steps average over few weights, or the random start would linger for 1 / (1 - decay) steps
        decay = min(self.decay, (1 + step) / (10 + step))
        for mine, theirs in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if mine.dtype.is_floating_point:
                mine.lerp_(theirs.to(mine.dtype), 1 - decay)
            else:
                mine.copy_(theirs)


def freeze(network: nn.Module, train: str | int, freeze_batchnorm: bool) -> None:
    """Choose what learns: "all", "head", or the last `train` layers of the backbone and the head.

    A layer is a module that owns parameters itself. Frozen BatchNorm keeps its ImageNet statistics;
    call `hold_batchnorm` after every `network.train()`.
    """
    body = backbone_of(network)
    network.requires_grad_(True)
    if body is not None and train != "all":
        body.requires_grad_(False)
        if isinstance(train, int):
            layers = [m for m in body.modules() if next(m.parameters(recurse=False), None) is not None]
            for layer in layers[-train:]:
                for parameter in layer.parameters(recurse=False):
                    parameter.requires_grad_(True)
    if freeze_batchnorm and body is not None:
        for module in body.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.requires_grad_(False)


def hold_batchnorm(network: nn.Module, frozen: bool) -> None:
    """Put BatchNorm into evaluation mode: all of it when `frozen`, else only where a layer's weights do not learn."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (
            frozen or (module.weight is not None and not module.weight.requires_grad)
        ):
            module.eval()


class Phases:
    """Which of the recipe's phases is on, and what it freezes."""

    def __init__(self, recipe: Recipe) -> None:
        self.freeze_batchnorm = recipe.network.freeze_batchnorm
        self._entered = -1

    def _of(self, epoch: int, recipe: Recipe) -> int:
        return max((i for i, p in enumerate(recipe.phases) if epoch >= p.from_epoch), default=-1)

    def enter_silently(self, epoch: int, network: nn.Module, recipe: Recipe) -> None:
        """On resume: freeze as the phase does, leave the restored rate alone."""
        number = self._of(epoch, recipe)
        if number >= 0:
            self._entered = number
            self.freeze_batchnorm = recipe.phases[number].freeze_batchnorm
            freeze(network, recipe.phases[number].train, self.freeze_batchnorm)

    def enter(self, epoch: int, network: nn.Module, rate: LearningRate, recipe: Recipe) -> bool:
        """Begin the phase of this epoch, if it is a new one; whether it is."""
        if self._of(epoch, recipe) <= self._entered:
            return False
        self.enter_silently(epoch, network, recipe)
        rate.base, rate.scale, rate.waited = recipe.phases[self._entered].lr, 1.0, 0
        return True
