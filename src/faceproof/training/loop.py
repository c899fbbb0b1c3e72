"""The training loop: one function that reads from top to bottom.

`train` builds network, data, optimiser and schedule from a recipe, then repeats: step, average, log;
at the end of an epoch: score, keep the best, save. Every step's randomness is derived from the seed
and the step's number or stored in the checkpoint, so a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from faceproof.errors import TrainingError
from faceproof.training import checkpoints, losses
from faceproof.training.committee import load_teacher
from faceproof.training.data import Batches, Normaliser, Source, Watch, open_source, open_watch
from faceproof.training.journal import Journal
from faceproof.training.networks import Prediction, build_network, widen_depthwise
from faceproof.training.recipe import Recipe
from faceproof.training.schedules import AveragedWeights, LearningRate, build_optimiser, freeze, hold_batchnorm


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
    quiet: bool = False,
) -> TrainingResult:
    """Run a recipe and return where its best weights are.

    data: a shard folder (pairs) or a folder/manifest of real and fake media (supervised). out: new or
    empty unless `resume`. watch: labelled media scored after every epoch; its score then chooses the
    checkpoint, and it never trains. max_steps: stop early, as Ctrl-C would. Under `fabric run` or
    torchrun, `devices` and `nodes` come from the launcher.

    Raises TrainingError (NaN loss, out of memory, other recipe or data on resume, used folder) and
    DatasetError (data unusable).
    """  # fmt: skip
    out = Path(out)
    last, best = out / "last.pt", out / "best.pt"
    if last.exists() and not resume:
        raise TrainingError(
            f"{out} already holds a run", remedy="Add --resume to go on with it, or choose a new folder."
        )

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

    source = open_source(recipe, data, landmarks)
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
    phase = _Phase(recipe)
    if resume:
        stored = checkpoints.load(last)
        _refuse_mismatch(stored, recipe, source, last)
        phase.enter_silently(stored["progress"]["epoch"], bare, recipe)
        bare.load_state_dict(stored["network"])
        optimiser.load_state_dict(stored["optimiser"])
        rate.restore(stored["rate"])
        if average:
            average.network.load_state_dict(stored["average"])
        source.restore(stored["source"])
        state = stored["progress"]
        checkpoints.restore_random_state(stored["random"])
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
        }
        checkpoints.save(path, content | extra)

    stopped = "finished"
    with (
        Journal(
            out,
            total=recipe.run.epochs * steps_per_epoch,
            start=state["step"],
            quiet=quiet or not fabric.is_global_zero,
        ) as journal,
        _Interrupt() as interrupt,
    ):
        while state["epoch"] < recipe.run.epochs and stopped == "finished":
            epoch = state["epoch"]
            phase.enter(epoch, bare, rate, recipe)
            batches: Batches = source.batches(
                recipe, epoch, state["step_in_epoch"], fabric.global_rank, fabric.world_size
            )
            for batch in batches:
                started = time.perf_counter()
                image = source.normalise(batch["image"].to(fabric.device, non_blocking=True)).contiguous(
                    memory_format=channels_last
                )
                network.train()
                hold_batchnorm(bare, phase.freeze_batchnorm)
                lr = rate.apply(optimiser, state["step"])
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
                    if not _out_of_memory(error):
                        raise
                    raise _explain_memory(bare, source, batch, recipe, fabric.device) from error
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
                        "pictures_per_s": len(image) * fabric.world_size / (time.perf_counter() - started),
                    },
                )
                source.saw(batch, parts)
                reached = max_steps is not None and state["step"] >= max_steps
                if interrupt.asked or (reached and state["step_in_epoch"] < steps_per_epoch):
                    stopped = "interrupted" if interrupt.asked else "max_steps"
                    break
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
            if max_steps is not None and state["step"] >= max_steps:
                stopped = "max_steps"
            if interrupt.asked:
                stopped = "interrupted"
    return TrainingResult(out, best, state["best"], state["epoch"], stopped, state["history"])


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


class _Phase:
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

    def enter(self, epoch: int, network: nn.Module, rate: LearningRate, recipe: Recipe) -> None:
        if self._of(epoch, recipe) > self._entered:
            self.enter_silently(epoch, network, recipe)
            rate.base, rate.scale, rate.waited = recipe.phases[self._entered].lr, 1.0, 0


class _Interrupt:
    """Turns the first Ctrl-C (or SIGTERM) into a wish to stop after this step; the second one kills as usual."""

    def __enter__(self) -> _Interrupt:
        self.asked = False
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: object) -> None:
        del frame
        self.asked = True
        signal.signal(number, self._before[number])

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _save_bad_batch(path: Path, batch: dict[str, torch.Tensor], value: float, rank: int) -> None:
    path = path.with_name(f"{path.stem}_rank{rank}.pt") if rank else path
    checkpoints.save(path, {"batch": batch, "loss": value})
    raise TrainingError(
        f"The loss became {value}; the batch is kept in {path}",
        remedy="Lower optimiser.lr, or set optimiser.clip, then go on with --resume.",
    )


def _out_of_memory(error: RuntimeError) -> bool:
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "out of memory" in str(error).lower()
        or "can't allocate memory" in str(error)
    )


def _explain_memory(
    network: nn.Module, source: Source, batch: dict[str, torch.Tensor], recipe: Recipe, device: torch.device
) -> TrainingError:
    """Halve the batch until a step fits, so that the message can name a size that works."""
    size = len(batch["image"]) // 2
    while size >= 1 and not _fits(network, source, {k: v[:size] for k, v in batch.items()}, recipe, device):
        size //= 2
    if size < 1:
        return TrainingError(
            "Not even one picture fits into memory",
            remedy="Choose a smaller input.size or backbone, or a machine with more memory.",
        )
    return TrainingError(
        f"A batch of {len(batch['image'])} does not fit into memory",
        remedy=f"run.batch = {size} fits: add --set run.batch={size}.",
    )


def _fits(
    network: nn.Module, source: Source, batch: dict[str, torch.Tensor], recipe: Recipe, device: torch.device
) -> bool:
    if device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        _loss(network, source.normalise(batch["image"].to(device)), batch, recipe, device)[0].backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        if not _out_of_memory(error):
            raise
        return False
    finally:
        network.zero_grad(set_to_none=True)
    return True


def _refuse_mismatch(stored: dict[str, Any], recipe: Recipe, source: Source, path: Path) -> None:
    # length and workers may change between sessions, what is learned may not
    free = ("epochs", "workers", "early_stop", "save_every")
    # read as a recipe first: a key that is newer than the checkpoint has its default there
    mine, theirs = (one.model_dump(mode="json") for one in (recipe, checkpoints.recipe_of(stored, path)))
    for table in (mine, theirs):
        for key in free:
            table["run"].pop(key, None)
    for table in (mine, theirs):
        table.pop("card", None)  # words, not learning
    different = [key for key in mine if mine[key] != theirs.get(key)]
    if different:
        raise TrainingError(
            f"The checkpoint was made with another recipe (differs in: {', '.join(different)})",
            remedy="Resume with the recipe in the checkpoint, or choose a new folder.",
        )
    if stored["data"] != source.digest:
        raise TrainingError(
            "The data changed since the checkpoint was written",
            remedy="Restore the data, or start a new run with network.init set to this checkpoint.",
        )
