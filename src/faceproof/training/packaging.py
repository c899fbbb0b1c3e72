"""The end of a run: the best checkpoint becomes a file that ships, with its calibration and its card."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from faceproof.detectors.detector import Detector
from faceproof.detectors.golden import known_answers
from faceproof.detectors.spec import (
    Calibration,
    DetectorSpec,
    Faces,
    Input,
    Licence,
    Margin,
    Output,
    VerdictRule,
    Weights,
)
from faceproof.detectors.spec_text import spec_to_toml
from faceproof.runtime import load_network
from faceproof.training import card, pairs
from faceproof.training.committee import load_committee
from faceproof.training.data import CropSource, Normaliser, Watch, open_watch
from faceproof.training.export import Parity, check_parity, export_onnx, fit_platt
from faceproof.training.loop import score_pictures
from faceproof.training.recipe import Recipe
from faceproof.training.shards import FaceStore

_LIMIT = "Judges faces swapped, re-enacted or blended into real footage; not wholly generated pictures."


@dataclass(frozen=True)
class Package:
    """What was written, and what a detector's spec needs to know of it."""

    onnx: Path
    card: Path
    sha256: str
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop: float
    platt: tuple[float, float]
    parity: list[Parity]


def package(
    checkpoint: str | Path | Sequence[str | Path],
    data: str | Path,
    out: str | Path,
    *,
    name: str = "",
    landmarks: str | Path | None = None,
    watch: Watch | str | Path | None = None,
    pairs_to_score: int = 400,
) -> Package:
    """Export, check against two runtimes, calibrate on what was held out, measure, and write the card into `out`.

    Several checkpoints become one file that judges by their mean (`committee`). Calibration and the first row of the
    card use people (or sources) the network never saw; `watch` (labelled media) adds rows and touches nothing else. Also
    writes `spec.toml`, with which `faceproof detectors add` installs it, and `package.json`, what was measured.
    name: the files', by default the recipe's.
    """  # fmt: skip
    paths = [Path(checkpoint)] if isinstance(checkpoint, str | Path) else [Path(path) for path in checkpoint]
    network, recipe, members, seen, shards = load_committee(paths)
    watching = open_watch(watch, recipe) if isinstance(watch, str | Path) else watch
    name = name or recipe.name
    out = Path(out)
    onnx = out / f"{name}.onnx"
    digest = export_onnx(network, recipe.input.size, onnx)
    parity = check_parity(network, onnx, recipe.input.size)

    sources: dict[str, int] = {}
    if recipe.mode == "pairs":
        options = pairs.pair_options(recipe)
        store = FaceStore(data, "held_out", recipe.pairs.held_out, landmarks)
        groups = [pairs.make_group(store, 2**30, n, options) for n in range(-(-pairs_to_score // options.group))]
        pictures, labels = np.concatenate([g["image"] for g in groups]), np.concatenate([g["label"] for g in groups])
        learnt = FaceStore(data, "train", recipe.pairs.held_out, landmarks, shards=shards)
        sources = card.count_sources(learnt.sources)
        origin = np.repeat(np.arange(len(labels) // 2), 2)
    else:
        held = CropSource(recipe, data)
        pictures, labels = held.held_out()
        origin = held.held_groups()
    normaliser = Normaliser(recipe)
    logits = score_pictures(network, pictures, normaliser, torch.device("cpu"), "32-true")
    platt = fit_platt(logits, labels)
    measured = [
        card.bootstrap_auroc("held-out pairs" if recipe.mode == "pairs" else "held-out sources", labels, logits, origin)
    ]
    if watching is not None:
        scores = score_pictures(network, watching.pictures, normaliser, torch.device("cpu"), "32-true")
        measured += watch_rows(watching, scores)
    facts = card.CardFacts(
        name=name,
        recipe=" + ".join(one.name for one in members),
        network="; ".join(describe(one) for one in members),
        size=recipe.input.size,
        sha256=digest,
        parameters=sum(p.numel() for p in network.parameters()),
        pictures_seen=seen,
        measured=measured,
        sources=sources,
        terms=list(recipe.card.terms),
        limits=[*recipe.card.limits, _LIMIT],
        calibration=platt,
        forged=recipe.mode == "supervised",
    )
    card_path = out / f"{name}.md"
    card.write_card(facts, card_path)
    made = Package(
        onnx,
        card_path,
        digest,
        recipe.input.size,
        recipe.input.mean,
        recipe.input.std,
        recipe.input.crop,
        platt,
        parity,
    )
    (out / "spec.toml").write_text(spec_to_toml(_spec(name, recipe, made, measured)), encoding="utf-8")
    (out / "package.json").write_text(
        json.dumps(
            {**asdict(made), "onnx": onnx.name, "card": card_path.name, "measured": [asdict(m) for m in measured]},
            indent=2,
        ),
        encoding="utf-8",
    )
    return made


def describe(recipe: Recipe) -> str:
    """A network in half a line, for the card."""
    table = recipe.network
    sees = "RGB and its high pass" if table.high_pass else "RGB"
    place = f", a close-up {recipe.input.down:+.2f} face boxes below the middle" if recipe.input.down else ""
    return f"{table.architecture} on {table.backbone} ({recipe.input.size} px, {sees}{place})"


def _spec(name: str, recipe: Recipe, made: Package, measured: Sequence[card.Measured]) -> DetectorSpec:
    """The detector's record: faces cut and scaled as in training, calibrated, without a band until one is chosen."""
    ours = recipe.network.architecture == "faceproof"
    a, b = made.platt
    # a falling curve is that of a network that learnt nothing: calibrating it would turn its order round
    calibration = Calibration(method="platt", a=a, b=b, data="held out of training") if a > 0 else Calibration()
    record = DetectorSpec(
        schema_version=1,
        name=re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._") or "trained",
        version="0.1.0",
        summary=f"Trained with the recipe {recipe.name}; AUROC {measured[0].value:.3f} on {measured[0].name}.",
        licence=Licence(
            weights="terms of the training data, see the model card",
            code="Apache-2.0",
            commercial=False,
            origin=f"trained here with the recipe {recipe.name}",
        ),
        architecture=f"{recipe.network.architecture}/{recipe.network.backbone}" if ours else None,
        weights=Weights(file=made.onnx.name, sha256=made.sha256, size=made.onnx.stat().st_size),
        faces=Faces(margin=Margin(kind="square", value=made.crop)),
        input=Input(size=made.size, enlarge="cubic", reduce="area", mean=made.mean, std=made.std),
        output=Output(fake_is="high", heatmap="heatmap" if ours else None, heatmap_kind="mask" if ours else None),
        verdict=VerdictRule(min_faces=3, min_side=48),
        calibration=calibration,
    )
    answers = known_answers(
        Detector(record, load_network(made.onnx, runtime="onnx", precision="fp32")), made.onnx.parent
    )
    return record.model_copy(update={"golden": answers})


def measure(network: nn.Module, recipe: Recipe, watch: str | Path) -> list[card.Measured]:
    """Card rows of a network on labelled media, faces cut and resized as the recipe's input table says."""
    watching = open_watch(watch, recipe)
    logits = score_pictures(network, watching.pictures, Normaliser(recipe), torch.device("cpu"), "32-true")
    return watch_rows(watching, logits)


def watch_rows(watch: Watch, logits: np.ndarray) -> list[card.Measured]:
    """Card rows for a watch set: stills and videos, then each method of either against all reals."""
    table = watch.table
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    items = np.unique(table.item)
    score = np.array([probability[table.item == i].mean() for i in items])
    label = np.array([table.items[i].label for i in items])
    video = np.array([bool(table.is_video[table.item == i][0]) for i in items])
    method = np.array([table.items[i].method for i in items])
    group = np.array([table.items[i].group for i in items])
    rows = []
    for name, part in (("stills", ~video), ("videos", video)):
        if len(set(label[part])) == 2:
            rows.append(card.bootstrap_auroc(name, label[part], score[part], group[part]))
            for one in sorted(set(method[part & (label == 1)]) - {""}):
                chosen = part & ((label == 0) | (method == one))
                rows.append(card.bootstrap_auroc(f"{name}: {one}", label[chosen], score[chosen], group[chosen]))
    return rows
