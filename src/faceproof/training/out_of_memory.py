"""What to say when a batch does not fit into memory: which batch would have."""

from __future__ import annotations

from collections.abc import Callable

import torch

from faceproof.errors import TrainingError


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch's error says that memory ran out, on the CPU or a device."""
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "out of memory" in str(error).lower()
        or "can't allocate memory" in str(error)
    )


def explain(
    batch: dict[str, torch.Tensor], step: Callable[[dict[str, torch.Tensor]], None], device: torch.device
) -> TrainingError:
    """Halve the batch until `step` goes through, so that the message can name a size that works."""
    size = len(batch["image"]) // 2
    while size >= 1 and not _fits({key: value[:size] for key, value in batch.items()}, step, device):
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
    batch: dict[str, torch.Tensor], step: Callable[[dict[str, torch.Tensor]], None], device: torch.device
) -> bool:
    if device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        step(batch)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True
