"""The training loop: one function that reads from top to bottom.

`train` builds network, data, optimiser and schedule from a recipe, then repeats: step, average, log;
at the end of an epoch: score, keep the best, save. Every step's randomness is derived from the seed
and the step's number or stored in the checkpoint, so a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from faceproof.errors import DatasetError, OptionError, TrainingError
from faceproof.training import checkpoints, losses
from faceproof.training.committee import load_teacher
from faceproof.training.data import Batches, Normaliser, Source, Watch, open_source, open_watch
from faceproof.training.interrupt import Interrupt
from faceproof.training.journal import Journal
from faceproof.training.networks import Prediction, build_network, widen_depthwise
from faceproof.training.out_of_memory import explain, is_out_of_memory
from faceproof.training.recipe import Recipe
from faceproof.training.schedules import AveragedWeights, LearningRate, Phases, build_optimiser, freeze, hold_batchnorm
from faceproof.training.shards import look_for_shards


@dataclass
class TrainingResult:
    """What a run leaves: the folder, the best checkpoint, its score, all epochs' metrics."""

    out: Path
    best: Path
    score: float
    epochs: int
    stopped: str
    history: list[dict[str, float]] = field(default_factory=list)


def train(
    recipe: Recipe,
    data: str | Path,
    out: str | Path,
    *,
    resume: bool = False,
    watch: str | Path | None = None,
    landmarks: str | Path | None = None,
    accelerator: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    max_steps: int | None = None,
    max_minutes: float | None = None,
    growing: bool = False,
    quiet: bool = False,
) -> TrainingResult:
    """Run a recipe and return where its best weights are.

    data: a shard folder (pairs) or a folder/manifest of real and fake media (supervised). out: new or
    empty unless `resume`. watch: labelled media scored after every epoch; its score then chooses the
    checkpoint, and it never trains. max_steps, max_minutes: stop early, as Ctrl-C would. growing: shards
    are still being copied into `data`; before every epoch those that are whole by then are taken up, and a
    resumed epoch goes on with those it began with. Under `fabric run` or torchrun, `devices` and `nodes`
    come from the launcher.

    Raises TrainingError (NaN loss, out of memory, other recipe or data on resume, used folder),
    DatasetError (data unusable, no shard whole yet) and OptionError (growing data that is no shards).
    """  # fmt: skip
    out = Path(out)
    last, best = out / "last.pt", out / "best.pt"
    if last.exists() and not resume:
        raise TrainingError(
            f"{out} already holds a run", remedy="Add --resume to go on with it, or choose a new folder."
        )

    if growing and recipe.mode != "pairs":
        raise OptionError(f"Only shards may arrive while training; {recipe.name} learns from labelled media")
    started = time.monotonic()

    fabric = Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        precision=recipe.run.precision,
        strategy="ddp" if devices * nodes > 1 or "LOCAL_RANK" in os.environ else "auto",
    )
    fabric.launch()
    fabric.seed_everything(recipe.run.seed + fabric.global_rank, verbose=False)
    channels_last = torch.channels_last if fabric.device.type != "mps" else torch.contiguous_format

    stored = checkpoints.load_run(last) if resume else None
    shards: list[str] | None = None
    if growing:
        # on resume those of the stored epoch, which may be in the middle
        shards = stored["source"].get("shards") if stored else None
        shards = shards or fabric.broadcast(look_for_shards(data)[0] if fabric.is_global_zero else [])
        if not shards:
            raise DatasetError(
                f"No shard that {data}/faces.csv names is whole yet", remedy="Start when the first one is."
            )
    source = open_source(recipe, data, landmarks, shards)
    watching = open_watch(watch, recipe) if watch else None
    torch.manual_seed(recipe.run.seed)  # every process starts from the same random head
    bare = build_network(recipe).to(memory_format=channels_last)  # type: ignore[call-overload]
    if fabric.device.type == "cpu" and recipe.run.precision == "bf16-mixed":
        widen_depthwise(bare)
    freeze(bare, recipe.network.train, recipe.network.freeze_batchnorm)
    optimiser = build_optimiser(bare, recipe.optimiser)
    network, optimiser = fabric.setup(bare, optimiser)
    teacher = load_teacher(recipe, fabric.device)
    average = AveragedWeights(bare, recipe.run.ema) if recipe.run.ema else None
    steps_per_epoch = source.steps_per_epoch(recipe)
    rate = LearningRate(recipe.schedule, recipe.optimiser.lr, recipe.run.epochs * steps_per_epoch)

    state: dict[str, Any] = {"epoch": 0, "step_in_epoch": 0, "step": 0, "best": -math.inf, "waited": 0, "history": []}
    phase = Phases(recipe)
    if stored is not None:
        source.restore(stored["source"])
        checkpoints.refuse_mismatch(stored, recipe, source.digest, last, growing=growing)
        phase.enter_silently(stored["progress"]["epoch"], bare, recipe)
        network = _join_again(fabric, bare, network)
        bare.load_state_dict(stored["network"])
        optimiser.load_state_dict(stored["optimiser"])
        rate.restore(stored["rate"])
        if average:
            average.network.load_state_dict(stored["average"])
        state = stored["progress"]
        checkpoints.restore_random_state(stored["random"])
        if stored.get("scaler"):
            fabric.strategy.precision.load_state_dict(stored["scaler"])
    else:
        torch.manual_seed(recipe.run.seed + 1000 + fabric.global_rank)  # dropout differs between processes

    def keep(path: Path, **extra: Any) -> None:
        if not fabric.is_global_zero:
            return
        content: dict[str, Any] = {
            "recipe": recipe.model_dump(mode="json"),
            "data": source.digest,
            "network": bare.state_dict(),
            "average": average.network.state_dict() if average else None,
            "optimiser": optimiser.state_dict(),
            "rate": rate.state(),
            "source": source.state(),
            "progress": state,
            "random": checkpoints.random_state(),
            "scaler": fabric.strategy.precision.state_dict(),  # of fp16's losses; empty for other precisions
        }
        checkpoints.save(path, content | extra)

    def limit() -> str:
        """Which limit of this session was reached, if any."""
        if max_steps is not None and state["step"] >= max_steps:
            return "max_steps"
        if max_minutes is None:
            return ""
        over = time.monotonic() - started >= 60 * max_minutes
        # the processes of a run must stop at the same step, and their clocks differ
        return "max_minutes" if (fabric.broadcast(over) if fabric.world_size > 1 else over) else ""

    stopped, saved = "finished", time.monotonic()
    with (
        Journal(
            out,
            total=recipe.run.epochs * steps_per_epoch,
            start=state["step"],
            quiet=quiet or not fabric.is_global_zero,
        ) as journal,
        Interrupt() as interrupt,
    ):
        while state["epoch"] < recipe.run.epochs and stopped == "finished":
            epoch = state["epoch"]
            if phase.enter(epoch, bare, rate, recipe):
                network = _join_again(fabric, bare, network)
            if shards is not None and not state["step_in_epoch"]:
                looked = look_for_shards(data, shards) if fabric.is_global_zero else ([], [])
                shards, missing = fabric.broadcast(looked)
                source.take(shards)
                waiting = f"; not whole: {', '.join(missing)}" if missing else ""
                journal.note(f"epoch {epoch + 1} on {len(shards)} of {len(shards) + len(missing)} shards{waiting}")
            batches: Batches = source.batches(
                recipe, epoch, state["step_in_epoch"], fabric.global_rank, fabric.world_size
            )
            for batch in batches:
                began = time.perf_counter()
                image = source.normalise(batch["image"].to(fabric.device, non_blocking=True)).contiguous(
                    memory_format=channels_last
                )
                network.train()
                hold_batchnorm(bare, phase.freeze_batchnorm)
                lr = rate.apply(optimiser, state["step"])
                too_large = False
                try:
                    loss, parts = _loss(network, image, batch, recipe, fabric.device, teacher)
                    value = float(loss.detach())
                    if not math.isfinite(value):
                        _save_bad_batch(out / f"nan_batch_{state['step']}.pt", batch, value, fabric.global_rank)
                    fabric.backward(loss)
                    if recipe.optimiser.clip:
                        fabric.clip_gradients(
                            network, optimiser, max_norm=recipe.optimiser.clip, error_if_nonfinite=False
                        )
                    optimiser.step()
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                    too_large = True
                if too_large:  # outside of its except: the error holds every frame, and they hold the activations
                    loss = torch.zeros(())
                    raise explain(
                        batch, partial(_gradients, bare, source, recipe=recipe, device=fabric.device), fabric.device
                    )
                optimiser.zero_grad(set_to_none=True)
                if average:
                    average.update(bare, state["step"])
                state["step"] += 1
                state["step_in_epoch"] += 1
                journal.step(
                    state["step"],
                    {
                        "loss": value,
                        "lr": lr,
                        **parts,
                        "pictures_per_s": len(image) * fabric.world_size / (time.perf_counter() - began),
                    },
                )
                source.saw(batch, parts)
                reached = limit()
                if interrupt.asked or (reached and state["step_in_epoch"] < steps_per_epoch):
                    stopped = "interrupted" if interrupt.asked else reached
                    break
                pause = 60 * recipe.run.save_minutes
                if pause and time.monotonic() - saved >= pause and state["step_in_epoch"] < steps_per_epoch:
                    keep(last)
                    saved = time.monotonic()
            if stopped != "finished":
                keep(last)
                break

            judged = average.network if average else bare
            metrics = evaluate(judged, source, watching, fabric.device, recipe) if fabric.is_global_zero else {}
            metrics = fabric.broadcast(metrics)
            score = metrics.get("watch", metrics["held_out_auroc"])
            state.update(epoch=epoch + 1, step_in_epoch=0)
            state["history"].append({"epoch": epoch + 1, "step": state["step"], **metrics})
            rate.epoch_done(score)
            if recipe.run.hard_negatives:
                source.mine(judged, recipe, fabric.device)
            journal.epoch(epoch + 1, metrics)
            if score > state["best"]:
                state.update(best=score, waited=0)
                keep(best, metrics=metrics)
            else:
                state["waited"] += 1
            keep(last, metrics=metrics)
            if recipe.run.save_every and (epoch + 1) % recipe.run.save_every == 0:
                keep(out / f"epoch_{epoch + 1:03d}.pt", metrics=metrics)
            if recipe.run.early_stop and state["waited"] >= recipe.run.early_stop:
                stopped = "early"
            saved = time.monotonic()
            stopped = limit() or stopped
            if interrupt.asked:
                stopped = "interrupted"
    return TrainingResult(out, best, state["best"], state["epoch"], stopped, state["history"])


def _join_again(fabric: Fabric, bare: nn.Module, joined: nn.Module) -> nn.Module:
    """The network as its processes share it, after what learns has changed.

    Which gradients are averaged over the processes is settled when they are joined: a layer frozen later would be waited
    for without end, and one that thawed would learn in each process by itself.
    """
    return fabric.setup_module(bare) if fabric.world_size > 1 else joined


def _loss(
    network: nn.Module,
    image: torch.Tensor,
    batch: dict[str, torch.Tensor],
    recipe: Recipe,
    device: torch.device,
    teacher: nn.Module | None = None,
) -> tuple[torch.Tensor, dict[str, Any]]:
    label = batch["label"].to(device)
    weight = batch["weight"].to(device) if "weight" in batch else None
    prediction = _apart(network, image) if recipe.run.apart else network(image)
    logit = prediction.logit.float()
    options: dict[str, float] = (
        {"gamma": recipe.loss.gamma} if recipe.loss.kind == "focal" else {"smoothing": recipe.loss.smoothing}
    )
    total = losses.LOSSES[recipe.loss.kind](logit, label, weight, **options)
    parts = {"class_loss": float(total.detach()), "accuracy": float(((logit > 0) == (label > 0.5)).float().mean())}
    if recipe.loss.rank:
        rank = losses.pair_rank(logit)
        parts["rank_loss"] = float(rank.detach())
        total = total + recipe.loss.rank * rank
    if teacher is not None:
        share = recipe.distil.weight
        with torch.no_grad():
            told = teacher(image)
        taught = losses.distilled(logit, told.logit.float(), temperature=recipe.distil.temperature)
        parts["distil_loss"] = float(taught.detach())
        total = (1 - share) * total + share * taught
    if prediction.heatmap is not None and "mask" in batch and recipe.loss.mask:
        mask = losses.mask_bce(prediction.heatmap.float(), batch["mask"].to(device))
        parts["mask_loss"] = float(mask.detach())
        total = total + recipe.loss.mask * mask
    return total, parts


def _apart(network: nn.Module, image: torch.Tensor) -> Prediction:
    """The batch in two forwards, each with half of the reals and the fakes of the other pairs; rows stay in order.

    In one forward the statistics of a batch hold a picture and its own forgery, and the network learns to compare
    the two, which it can never do on a single face.
    """
    pair = torch.arange(len(image), device=image.device) // 2
    first = (torch.arange(len(image), device=image.device) + pair) % 2 == 0
    halves = [network(image[half]) for half in (first, ~first)]
    order = torch.cat([first.nonzero()[:, 0], (~first).nonzero()[:, 0]]).argsort()
    heatmaps = [half.heatmap for half in halves]
    return Prediction(
        torch.cat([half.logit for half in halves])[order],
        None if heatmaps[0] is None else torch.cat(heatmaps)[order],
    )


@torch.inference_mode()
def score_pictures(
    network: nn.Module,
    pictures: np.ndarray,
    source: Normaliser | Source,
    device: torch.device,
    precision: str,
    batch: int = 64,
) -> np.ndarray:
    """Logits float32 `[N]` of uint8 RGB pictures `[N, S, S, 3]`."""
    network.eval()
    scores = []
    lower = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    with torch.autocast(device.type, dtype=lower or torch.bfloat16, enabled=lower is not None):
        for start in range(0, len(pictures), batch):
            chunk = torch.from_numpy(pictures[start : start + batch]).permute(0, 3, 1, 2).to(device)
            scores.append(network(source.normalise(chunk)).logit.float().cpu())
    return torch.cat(scores).numpy() if scores else np.zeros(0, np.float32)


def evaluate(
    network: nn.Module, source: Source, watching: Watch | None, device: torch.device, recipe: Recipe
) -> dict[str, float]:
    """AUROC on the held-out part and, with a watch set, on its stills and videos; `watch` is the mean of the latter."""
    was_training = network.training
    pictures, labels = source.held_out()
    scored = score_pictures(network, pictures, source, device, recipe.run.precision)
    metrics = {"held_out_auroc": auroc(labels, scored)}
    if watching is not None:
        metrics.update(watching.judge(score_pictures(network, watching.pictures, source, device, recipe.run.precision)))
    network.train(was_training)
    return metrics


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve by ranks, ties halved; 0.5 when a class is missing."""
    labels = np.asarray(labels) > 0.5
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        return 0.5
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _save_bad_batch(path: Path, batch: dict[str, torch.Tensor], value: float, rank: int) -> None:
    path = path.with_name(f"{path.stem}_rank{rank}.pt") if rank else path
    checkpoints.save(path, {"batch": batch, "loss": value})
    raise TrainingError(
        f"The loss became {value}; the batch is kept in {path}",
        remedy="Lower optimiser.lr, or set optimiser.clip, then go on with --resume.",
    )


def _gradients(
    network: nn.Module, source: Source, batch: dict[str, torch.Tensor], recipe: Recipe, device: torch.device
) -> None:
    """A step without its end, to see whether it fits into memory."""
    try:
        loss, _ = _loss(network, source.normalise(batch["image"].to(device)), batch, recipe, device)
        torch.autograd.backward(loss)
    finally:
        network.zero_grad(set_to_none=True)
