"""Where batches come from: self-made pairs of real faces, or crops of labelled media.

Both sources answer the same questions (`Source`): the batches of an epoch from a given step on, what
is held out, how to normalise, what to remember in a checkpoint. Order and augmentation depend only on
the seed, the epoch and the position, never on how many workers or processes share the work.
"""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from faceproof.errors import DatasetError, TrainingError
from faceproof.training import degrade, pairs, selfblend
from faceproof.training.media_crops import CropTable, Item, check_leakage, extract, read_items, split_groups
from faceproof.training.recipe import AugmentTable, Recipe
from faceproof.training.shards import FaceStore

Batches = Iterable[dict[str, torch.Tensor]]


class Source(Protocol):
    """What the loop asks of its data. Pictures are uint8; batches carry image `[N, 3, S, S]`, label `[N]` and
    optionally mask, weight and index."""

    digest: str

    def steps_per_epoch(self, recipe: Recipe) -> int: ...
    def batches(self, recipe: Recipe, epoch: int, skip: int, rank: int, world: int) -> Batches: ...
    def held_out(self) -> tuple[np.ndarray, np.ndarray]: ...
    def normalise(self, image: torch.Tensor) -> torch.Tensor: ...
    def saw(self, batch: dict[str, torch.Tensor], parts: dict[str, Any]) -> None: ...
    def mine(self, network: torch.nn.Module, recipe: Recipe, device: torch.device) -> None: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...
    def take(self, shards: list[str]) -> None: ...


def open_source(
    recipe: Recipe, data: str | Path, landmarks: str | Path | None = None, shards: list[str] | None = None
) -> Source:
    """The recipe's source, of pairs from these shards alone where they are named.

    Raises DatasetError when the data does not serve the recipe.
    """
    return PairSource(recipe, data, landmarks, shards) if recipe.mode == "pairs" else CropSource(recipe, data)


def open_loader(dataset: Any, order: list[Any], workers: int, **options: Any) -> DataLoader[Any]:
    """A loader over batches of keys, its workers forked with one thread each."""
    # OpenCV's pool must be gone before the fork: a child that so much as sets its size waits for threads it never had.
    cv2.setNumThreads(1)
    # A generator of its own: by default each loader draws from torch's global one, and a resumed run, which opens one
    # loader more, would go on with other dropout masks.
    return DataLoader(
        dataset,
        batch_sampler=order,
        num_workers=workers,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),
        **options,
    )


def _start_worker(worker: int) -> None:
    del worker
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # sent to the whole group: the loop saves first, then ends its workers
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(
        1
    )  # one process per core: threads inside would only fight, and OpenMP's do not outlive a fork


class Normaliser:
    """From uint8 pictures to what the recipe's network takes."""

    def __init__(self, recipe: Recipe) -> None:
        self.mean, self.std = recipe.input.mean, recipe.input.std

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """uint8 RGB `[N, 3, S, S]` → float32 (x / 255 - mean) / std."""
        mean = torch.tensor(self.mean, device=image.device).view(1, 3, 1, 1) * 255
        std = torch.tensor(self.std, device=image.device).view(1, 3, 1, 1) * 255
        return (image.float() - mean) / std


class PairSource(Normaliser):
    """Endless pairs from a shard folder; identities in the held-out share are never trained on.

    shards: only these, and more with `take`. What is held out stays that of the first ones, so that epochs compare.
    Raises TrainingError where the recipe asks for video encoders and PyAV is missing.
    """

    def __init__(
        self, recipe: Recipe, data: str | Path, landmarks: str | Path | None, shards: list[str] | None = None
    ) -> None:
        super().__init__(recipe)
        if recipe.pairs.codec and not degrade.available_codecs():
            raise TrainingError(
                "This recipe sends its pairs through video encoders, and PyAV is not installed",
                remedy="Run `pip install av`, or train without encoders: --set pairs.codec=0 --set pairs.jpeg=1.",
            )
        self.options = pairs.pair_options(recipe)
        self._open = partial(FaceStore, data, share=recipe.pairs.held_out, landmarks=landmarks)
        self._share = recipe.pairs.held_out
        self.shards = self._held_shards = shards
        self.store = self._open(part="train", shards=shards)
        self.held_store = self._open_held()
        self.digest = self._digest()

    def _open_held(self) -> FaceStore:
        self._held: tuple[np.ndarray, np.ndarray] | None = None
        if not self._share and self._held_shards == self.shards:
            return self.store
        return self._open(part="held_out" if self._share else "train", shards=self._held_shards)

    def _digest(self) -> str:
        return hashlib.sha256((self.store.digest() + self.held_store.digest()).encode()).hexdigest()

    def take(self, shards: list[str]) -> None:
        """Train on these shards from now on; nothing is read where they are those of before."""
        if shards != self.shards:
            self.shards = shards
            self.store = self._open(part="train", shards=shards)
            self.digest = self._digest()

    def steps_per_epoch(self, recipe: Recipe) -> int:
        return recipe.run.steps_per_epoch

    def batches(self, recipe: Recipe, epoch: int, skip: int, rank: int, world: int) -> Batches:
        groups = recipe.run.batch // (2 * self.options.group)
        if groups % world:
            raise DatasetError(
                f"run.batch = {recipe.run.batch} cannot be shared by {world} processes",
                remedy=f"Make it a multiple of {2 * self.options.group * world}.",
            )
        share = groups // world
        first = epoch * recipe.run.steps_per_epoch
        order = [
            [(first + s) * groups + rank * share + j for j in range(share)]
            for s in range(skip, recipe.run.steps_per_epoch)
        ]
        stream = pairs.PairStream(self.store, recipe.run.seed, self.options)
        return open_loader(
            stream, order, recipe.run.workers, collate_fn=pairs.collate, pin_memory=torch.cuda.is_available()
        )

    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        if self._held is None:  # always the same pairs, from people never trained on
            made = [
                pairs.make_group(self.held_store, 2**31, number, self.options)
                for number in range(160 // (2 * self.options.group))
            ]
            self._held = np.concatenate([g["image"] for g in made]), np.concatenate([g["label"] for g in made])
        return self._held

    def saw(self, batch: dict[str, torch.Tensor], parts: dict[str, Any]) -> None:
        del batch, parts

    def mine(self, network: torch.nn.Module, recipe: Recipe, device: torch.device) -> None:
        del network, recipe, device  # the stream never repeats, there is nothing to mine

    def state(self) -> dict[str, Any]:
        return {} if self.shards is None else {"shards": self.shards, "held_shards": self._held_shards}

    def restore(self, state: dict[str, Any]) -> None:
        if self.shards is None or "shards" not in state:
            return
        self.take(state["shards"])
        if state["held_shards"] != self._held_shards:
            self._held_shards = state["held_shards"]
            self.held_store = self._open_held()
            self.digest = self._digest()


class CropSource(Normaliser):
    """Crops of labelled media, split by source, balanced and augmented as the recipe says."""

    def __init__(self, recipe: Recipe, data: str | Path, table: CropTable | None = None) -> None:
        super().__init__(recipe)
        if table is None:
            data = Path(data)
            cache = (data if data.is_dir() else data.parent) / ".faceproof"
            table = extract(read_items(data), recipe.input.size, recipe.input.crop, cache, down=recipe.input.down)
        train, held = split_groups(_with_faces(table), 0.15, recipe.run.seed)
        check_leakage([i for i in table.items if i.group in train], [i for i in table.items if i.group in held])
        self.table, self.held = table.part(train), table.part(held)
        self.digest = table.digest()
        self.hard: list[int] = []

    def class_weights(self) -> tuple[float, float]:
        """Weights (real, fake) that give both classes the same sum."""
        fakes = float(self.table.labels.mean())
        return 0.5 / (1 - fakes), 0.5 / fakes

    def order(self, recipe: Recipe, epoch: int) -> np.ndarray:
        """Indices of an epoch, shuffled, balanced as asked, with a share of hard ones; depends on seed and epoch only."""
        rng = np.random.default_rng([recipe.run.seed, epoch])
        labels = self.table.labels > 0.5
        reals, fakes = np.flatnonzero(~labels), np.flatnonzero(labels)
        if recipe.run.balance == "undersample":
            count = min(len(reals), len(fakes))
            chosen = np.concatenate([rng.permutation(reals)[:count], rng.permutation(fakes)[:count]])
        elif recipe.run.balance == "sampler":
            half = len(labels) // 2
            chosen = np.concatenate([_fill(reals, half, rng), _fill(fakes, half, rng)])
        else:
            chosen = np.arange(len(labels))
        chosen = rng.permutation(chosen)
        if self.hard and recipe.run.hard_negatives:
            count = int(len(chosen) * recipe.run.hard_negatives)
            chosen = rng.permutation(np.concatenate([chosen[count:], rng.choice(self.hard, count)]))
        return chosen

    def steps_per_epoch(self, recipe: Recipe) -> int:
        return max(1, len(self.order(recipe, 0)) // recipe.run.batch)

    def batches(self, recipe: Recipe, epoch: int, skip: int, rank: int, world: int) -> Batches:
        if recipe.run.batch % world:
            raise DatasetError(f"run.batch = {recipe.run.batch} cannot be shared by {world} processes")
        order, size = self.order(recipe, epoch), recipe.run.batch
        if len(order) < size:
            order = np.resize(order, size)
        share = size // world
        chunks = [
            order[s * size + rank * share : s * size + (rank + 1) * share] for s in range(skip, len(order) // size)
        ]
        keys = [[(epoch, int(i)) for i in chunk] for chunk in chunks]
        weights = self.class_weights() if recipe.run.balance == "weights" else None
        crops = _Crops(self.table, recipe.augment, recipe.run.seed, weights)
        return open_loader(crops, keys, recipe.run.workers)

    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        return self.held.pictures, self.held.labels

    def held_groups(self) -> np.ndarray:
        """Whose each held-out crop is, `[N]`: the twelve of a video are one witness."""
        return np.array([self.held.items[item].group for item in self.held.item])

    def saw(self, batch: dict[str, torch.Tensor], parts: dict[str, Any]) -> None:
        del batch, parts

    def mine(self, network: torch.nn.Module, recipe: Recipe, device: torch.device) -> None:
        """Score all training crops; the tenth with the highest loss is the next epoch's pool of hard ones."""
        from faceproof.training.loop import score_pictures

        scores = score_pictures(network, self.table.pictures, self, device, recipe.run.precision)
        loss = np.logaddexp(0, np.where(self.table.labels > 0.5, -scores, scores))
        self.hard = np.argsort(-loss)[: max(1, len(loss) // 10)].tolist()

    def state(self) -> dict[str, Any]:
        return {"hard": self.hard}

    def restore(self, state: dict[str, Any]) -> None:
        self.hard = list(state["hard"])

    def take(self, shards: list[str]) -> None:
        del shards  # labelled media lie in files, not in shards


def _with_faces(table: CropTable) -> list[Item]:
    return [table.items[i] for i in np.unique(table.item)]


def _fill(indices: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of `indices`: each used equally often before any is used once more."""
    rounds = [rng.permutation(indices) for _ in range(-(-count // len(indices)))]
    return np.concatenate(rounds)[:count]


class _Crops(torch.utils.data.Dataset[dict[str, Any]]):
    """Dataset whose key is (epoch, index); the augmentation is seeded by seed, epoch and index."""

    def __init__(self, table: CropTable, augment: AugmentTable, seed: int, weights: tuple[float, float] | None) -> None:
        self.table, self.seed, self.weights = table, seed, weights
        self.transform, self.augment = build_transform(augment), augment

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        picture = self.table.pictures[index]
        rng = np.random.default_rng([self.seed, epoch, index])
        if self.augment.jpeg and rng.random() < self.augment.jpeg:
            picture = selfblend.jpeg(picture, int(rng.integers(60, 101)))
        if self.augment.noise and rng.random() < self.augment.noise:
            picture = np.clip(picture + rng.normal(0, rng.uniform(3, 7), picture.shape), 0, 255).astype(np.uint8)
        image = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
        if self.transform is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(rng.integers(2**31)))
                image = self.transform(image)
        item: dict[str, Any] = {"image": image, "label": self.table.labels[index], "index": index}
        if self.weights:
            item["weight"] = np.float32(self.weights[int(self.table.labels[index] > 0.5)])
        return item


def build_transform(table: AugmentTable) -> Any:
    """torchvision v2 transform of uint8 pictures `[3, S, S]`, or None when the recipe asks for none."""
    from torchvision.transforms import v2

    steps: list[Any] = []
    if table.flip:
        steps.append(v2.RandomHorizontalFlip(table.flip))
    if table.rotate or table.translate or table.zoom:
        shift = (table.translate, table.translate) if table.translate else None
        scale = (1 - table.zoom, 1 + table.zoom) if table.zoom else None
        steps.append(
            v2.RandomAffine(table.rotate, translate=shift, scale=scale, interpolation=v2.InterpolationMode.BILINEAR)
        )
    if table.brightness or table.contrast or table.saturation or table.hue:
        steps.append(v2.ColorJitter(table.brightness, table.contrast, table.saturation, table.hue))
    if table.grey:
        steps.append(v2.RandomGrayscale(table.grey))
    if table.blur_sigma:
        steps.append(v2.GaussianBlur(3, table.blur_sigma))
    if table.erase:
        steps.append(v2.RandomErasing(table.erase))
    return v2.Compose(steps) if steps else None


class Watch:
    """Labelled media that is only ever scored: a picture counts by its face, a video by the mean over its frames."""

    def __init__(self, table: CropTable) -> None:
        self.table, self.pictures = table, table.pictures

    def judge(self, logits: np.ndarray) -> dict[str, float]:
        """AUROC of stills and videos (and per method, against all reals); `watch` is the mean of the two."""
        from faceproof.training.loop import auroc

        probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
        items = np.unique(self.table.item)
        score = np.array([probability[self.table.item == i].mean() for i in items])
        label = np.array([self.table.items[i].label for i in items])
        video = np.array([bool(self.table.is_video[self.table.item == i][0]) for i in items])
        method = np.array([self.table.items[i].method for i in items])
        metrics = {}
        for name, part in (("stills", ~video), ("videos", video)):
            if len(set(label[part])) == 2:
                metrics[name] = auroc(label[part], score[part])
                for one in sorted(set(method[part & (label == 1)]) - {""}):
                    chosen = part & ((label == 0) | (method == one))
                    metrics[f"{name}_{one}"] = auroc(label[chosen], score[chosen])
        metrics["watch"] = float(np.mean([metrics[n] for n in ("stills", "videos") if n in metrics]))
        return metrics


#: Watch sets are cut once at this crop (in face boxes) and side; every crop and size tried is taken out of it.
WATCH_CROP, WATCH_SIDE = 1.3, 256


def open_watch(data: str | Path, recipe: Recipe) -> Watch:
    """Cut and cache the faces of a watch set. The cache lies in the user's cache folder, never beside the data."""
    from platformdirs import user_cache_path

    return Watch(
        extract(
            read_items(data),
            recipe.input.size,
            recipe.input.crop,
            user_cache_path("faceproof") / "watch",
            down=recipe.input.down,
        )
    )
