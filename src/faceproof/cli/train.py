"""`faceproof train RECIPE`, `train gather`, `train preview`, `train landmarks`, `train autoencoders`, `train package`,
`train restore`, `train average`, `train export-weights`, `train import-weights`, `train score`, `train recipes`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from faceproof.cli.usage import Verbs


class _RecipeFirst(Verbs):
    """`faceproof train RECIPE …` is short for `faceproof train run RECIPE …`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["run", *args]
        return super().resolve_command(ctx, args)


rooms = typer.Typer(
    cls=_RecipeFirst, no_args_is_help=True, help="Train a network: faceproof train RECIPE --data FOLDER --out FOLDER."
)

_DATA = typer.Option(
    "--data", metavar="PATH", help="Shards of real faces, or a folder/manifest of real and fake media."
)
_LANDMARKS = typer.Option("--landmarks", metavar="FILE", help="Dense landmarks made by `train landmarks`.")
_SET = typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe, e.g. run.batch=16.")


def register(app: typer.Typer) -> None:
    app.add_typer(rooms, name="train")


def _needs_extra() -> None:
    from importlib.util import find_spec

    from faceproof.errors import MissingExtraError

    if any(find_spec(name) is None for name in ("torch", "timm", "lightning_fabric")):
        raise MissingExtraError.of("Training", "train")


@rooms.command()
def run(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, see `train recipes`, or a TOML file.")],
    data: Annotated[Path, _DATA],
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Checkpoints, metrics and the packaged network.")
    ],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    watch: Annotated[
        Path | None,
        typer.Option(help="Labelled media scored after each epoch to choose the checkpoint; never trained on."),
    ] = None,
    landmarks: Annotated[Path | None, _LANDMARKS] = None,
    changes: Annotated[list[str] | None, _SET] = None,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.", show_default=True)] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Devices of this machine.", show_default=True)] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines; start the same command on each with torchrun.")] = 1,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Stop after this many steps; resumable.")] = None,
    max_minutes: Annotated[float | None, typer.Option(min=0, help="Stop after this many minutes; resumable.")] = None,
    growing: Annotated[
        bool, typer.Option("--growing", help="Shards still arrive in --data: take up whole ones before each epoch.")
    ] = False,
    no_package: Annotated[bool, typer.Option("--no-package", help="Do not export and calibrate at the end.")] = False,
) -> None:
    """Train by a recipe; ends with an ONNX file, its calibration and a model card."""
    _needs_extra()
    from faceproof.training import load_recipe, package, train
    from faceproof.training.recipe import parse_changes

    chosen = load_recipe(recipe, parse_changes(changes or []))
    result = train(
        chosen, data, out, resume=resume, watch=watch, landmarks=landmarks,
        accelerator=accelerator, devices=devices, nodes=nodes, max_steps=max_steps, max_minutes=max_minutes,
        growing=growing,
    )  # fmt: skip
    typer.echo(f"{result.stopped} after {result.epochs} epochs; best score {result.score:.3f}")
    if result.stopped == "interrupted":
        typer.echo("Go on with --resume.")
        raise typer.Exit(130)
    if not no_package and result.best.is_file():
        made = package(result.best, data, out / "package", landmarks=landmarks, watch=watch)
        typer.echo(f"{made.onnx}  sha256 {made.sha256}")


@rooms.command()
def head(
    start: Annotated[Path, typer.Argument(help="The checkpoint whose backbone and mask head are taken, frozen.")],
    data: Annotated[Path, _DATA],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The checkpoint to write.")],
    recipe: Annotated[str, typer.Option(help="A recipe with network.statistics.", show_default=True)] = (
        "faceproof-small-mouth"
    ),
    landmarks: Annotated[Path | None, _LANDMARKS] = None,
    changes: Annotated[list[str] | None, _SET] = None,
    count: Annotated[int, typer.Option("--pairs", min=64, help="Pairs to fit on.", show_default=True)] = 2400,
    penalty: Annotated[
        float, typer.Option(min=1e-6, help="How strongly the head is held near the mean difference.", show_default=True)
    ] = 1.0,
) -> None:
    """Fit a class head alone, on a frozen backbone, by what tells the forged picture of a pair from its original."""
    _needs_extra()
    from faceproof.training import load_recipe
    from faceproof.training.ranking import fit_head
    from faceproof.training.recipe import parse_changes

    chosen = load_recipe(recipe, parse_changes(changes or []))
    made = fit_head(chosen, start, data, out, landmarks=landmarks, count=count, penalty=penalty)
    typer.echo(
        f"{made.path}: fitted on {made.pairs} pairs; of people held out, {made.held_out_pairs:.1%} of the pairs are in "
        f"order, AUROC {made.held_out_auroc:.3f}"
    )


@rooms.command("package")
def package_verb(
    checkpoint: Annotated[
        list[Path], typer.Argument(help="A checkpoint, usually best.pt; of several, the mean of their scores judges.")
    ],
    data: Annotated[Path, _DATA],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER")],
    watch: Annotated[Path | None, typer.Option(help="Labelled media to measure on.")] = None,
    landmarks: Annotated[Path | None, _LANDMARKS] = None,
    name: Annotated[str, typer.Option(help="What to call it; the recipe's name if absent.")] = "",
) -> None:
    """Export a checkpoint to ONNX, check it in two runtimes, calibrate it and write its model card."""
    _needs_extra()
    from faceproof.training import package

    made = package(checkpoint, data, out, name=name, landmarks=landmarks, watch=watch)
    typer.echo(f"{made.onnx}  sha256 {made.sha256}\n{made.card}")


@rooms.command()
def restore(
    network: Annotated[Path, typer.Argument(metavar="FILE", help="An ONNX file that `train package` wrote.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where to write a checkpoint for each recipe.")],
    recipe: Annotated[list[str], typer.Option(help="The recipes of all its members, in any order.")],
    data: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Shards of real faces, to give BatchNorm its statistics back.")
    ] = None,
    landmarks: Annotated[Path | None, _LANDMARKS] = None,
    changes: Annotated[list[str] | None, _SET] = None,
) -> None:
    """Write the checkpoints inside a packaged network, to go on training where only the file is left."""
    _needs_extra()
    from faceproof.training import load_recipe
    from faceproof.training.recipe import parse_changes
    from faceproof.training.restoring import write_restored

    chosen = [load_recipe(name, parse_changes(changes or [])) for name in recipe]
    for path in write_restored(network, chosen, out, data=data, landmarks=landmarks):
        typer.echo(str(path))


@rooms.command()
def average(
    checkpoint: Annotated[list[Path], typer.Argument(help="Two checkpoints or more, of runs that started alike.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The checkpoint to write.")],
    weight: Annotated[list[float] | None, typer.Option(help="Share of each, in their order; equal if absent.")] = None,
) -> None:
    """Write the mean of several checkpoints' weights."""
    _needs_extra()
    from faceproof.training import checkpoints
    from faceproof.training.committee import average_weights

    checkpoints.save(out, average_weights(checkpoint, weight))
    typer.echo(str(out))


@rooms.command("export-weights")
def export_weights(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, usually best.pt.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the parts and their index go.")],
    part_size: Annotated[str, typer.Option(metavar="SIZE", help="Largest file.", show_default=True)] = "15MiB",
    name: Annotated[str, typer.Option(help="What to call the files; the recipe's name if absent.")] = "",
    plain: Annotated[bool, typer.Option("--plain", help="The last weights instead of the averaged ones.")] = False,
) -> None:
    """Write a checkpoint's weights as fp16 safetensors in small parts, to carry them where large files do not go."""
    _needs_extra()
    from faceproof.training import weight_files

    made = weight_files.export_weights(
        checkpoint, out, part_size=weight_files.parse_size(part_size), name=name, averaged=not plain
    )
    for part in made.parts:
        typer.echo(f"{part}  {part.stat().st_size:,} bytes")
    typer.echo(f"{made.index}  halves move a logit by {made.logit_change:.4f} at most on random pictures")


@rooms.command("import-weights")
def import_weights(
    folder: Annotated[Path, typer.Argument(help="What `train export-weights` wrote: the folder, or its index.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The checkpoint to write.")],
) -> None:
    """Join the parts of exported weights into a checkpoint that can be packaged, averaged or started from."""
    _needs_extra()
    from faceproof.training import checkpoints, weight_files

    content = weight_files.import_weights(folder)
    checkpoints.save(out, content)
    typer.echo(f"{out}: {content['recipe']['name']} after {content['progress']['step']:,} steps")


@rooms.command()
def score(
    checkpoint: Annotated[list[Path], typer.Argument(help="A checkpoint; of several, their mean score is measured.")],
    watch: Annotated[Path, typer.Option(help="Labelled media to measure on.")],
    crops: Annotated[
        list[float] | None, typer.Option("--crop", help="Crop sides in face boxes; the recipe's if absent.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=32, help="Input side, if not the recipe's.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="The last weights instead of the averaged ones.")] = False,
) -> None:
    """Print what a checkpoint scores on labelled media, for one or several crops."""
    _needs_extra()
    from faceproof.training.committee import load_committee
    from faceproof.training.packaging import measure

    network, recipe, *_ = load_committee(checkpoint, averaged=not plain)
    for crop in crops or [recipe.input.crop]:
        changed = recipe.input.model_copy(update={"crop": crop, "size": size or recipe.input.size})
        for row in measure(network, recipe.model_copy(update={"input": changed}), watch):
            typer.echo(
                f"crop {crop:<5} {row.name:<26} n {row.count:<5} AUROC {row.value:.3f}  {row.low:.3f} to {row.high:.3f}"
            )


@rooms.command()
def preview(
    data: Annotated[Path, _DATA],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A .png or .jpg to write.")],
    recipe: Annotated[str, typer.Option(help="Recipe whose pairs to show.", show_default=True)] = "faceproof-small",
    count: Annotated[int, typer.Option(min=1, max=400, help="Pairs on the sheet.", show_default=True)] = 32,
    seed: Annotated[int, typer.Option(show_default=True)] = 0,
    landmarks: Annotated[Path | None, _LANDMARKS] = None,
    changes: Annotated[list[str] | None, _SET] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Real media whose statistics to print beside those of the pairs.")
    ] = None,
) -> None:
    """Write a contact sheet of self-made pairs (real, fake, mask) for a person to judge."""
    _needs_extra()
    import numpy as np

    from faceproof.training import load_recipe
    from faceproof.training.data import open_watch
    from faceproof.training.pairs import make_group, pair_options
    from faceproof.training.preview import contact_sheet, statistics, write_sheet
    from faceproof.training.recipe import parse_changes
    from faceproof.training.shards import FaceStore

    chosen = load_recipe(recipe, parse_changes(changes or []))
    options = pair_options(chosen)
    store = FaceStore(data, "train", chosen.pairs.held_out, landmarks)
    write_sheet(contact_sheet(store, options, count=count, seed=seed), out)
    typer.echo(f"{out}: {count} pairs, each real | fake | mask")
    if compare is not None:
        reals = np.concatenate([make_group(store, seed, n, options)["image"][::2] for n in range(60)])
        watch = open_watch(compare, chosen).table
        typer.echo("tenth, middle and ninetieth per cent of        self-made reals            real media")
        theirs = statistics(watch.pictures[watch.labels < 0.5])
        for name, values in statistics(reals).items():
            typer.echo(f"{name:<40}{values!s:>25} {theirs[name]!s:>25}")


@rooms.command()
def gather(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER…", help="Pictures and videos of real people, a sub-folder each.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="The shard folder to write.")],
    per_video: Annotated[int, typer.Option(min=1, help="Frames taken of a video.", show_default=True)] = 8,
    min_side: Annotated[int, typer.Option(min=32, help="Smallest face kept, in pixels.", show_default=True)] = 64,
    source: Annotated[str, typer.Option(help="What the model card calls the collection.", show_default=True)] = "own",
) -> None:
    """Cut the faces of real people out of pictures and videos, for recipes that need no fakes."""
    from faceproof.cli import EXIT_SOME_FAILED
    from faceproof.cli.measuring import progress
    from faceproof.media import walk
    from faceproof.training.gather import gather_faces

    total = sum(1 for _ in walk(folders))
    with progress(kept=False) as announce:
        tell = announce(f"{total:,} files")
        found = gather_faces(
            folders, out, per_video=per_video, min_side=min_side, source=source,
            on_file=lambda number, path: tell(number, total, path) if tell is not None else None,
        )  # fmt: skip
    typer.echo(f"{out}: {found.faces:,} faces of {found.people:,} people; {len(found.faceless):,} without a face")
    for path, why in found.unreadable.items():
        typer.echo(f"{path}: {why}", err=True)
    if found.unreadable:
        raise typer.Exit(EXIT_SOME_FAILED)


@rooms.command()
def landmarks(
    data: Annotated[Path, _DATA],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The .npz to write.")],
) -> None:
    """Find dense landmarks in a shard folder with MediaPipe, for better masks."""
    from faceproof.training.landmarks import write_landmarks

    found, total = write_landmarks(data, out)
    typer.echo(f"{found} of {total} faces have dense landmarks; the others use the average face")


@rooms.command()
def autoencoders(
    data: Annotated[Path, _DATA],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write; recipes name it.")],
    steps: Annotated[int, typer.Option(min=10, help="Steps per autoencoder.", show_default=True)] = 400,
    seed: Annotated[int, typer.Option(show_default=True)] = 0,
) -> None:
    """Train the small autoencoders that paint part of the forgeries (recipe key pairs.autoencoders)."""
    _needs_extra()
    from faceproof.training.autoencoder import VARIANTS, train_autoencoders
    from faceproof.training.shards import FaceStore

    errors = train_autoencoders(FaceStore(data, "train"), out, steps=steps, seed=seed)
    for (grow, code), error in zip(VARIANTS, errors, strict=True):
        typer.echo(f"{grow:<10} code {code:<3} mean error {error * 255:.1f} of 255")


@rooms.command()
def recipes(
    name: Annotated[
        str | None, typer.Argument(help="A recipe, TOML file or checkpoint (.pt) to print in full.", show_default=False)
    ] = None,
) -> None:
    """List the recipes that ship, or print one with every key, as TOML."""
    from faceproof.training.recipe import load_recipe, recipe_names
    from faceproof.training.recipe_text import recipe_to_toml

    if name is None:
        for one in recipe_names():
            typer.echo(f"{one:<22}{load_recipe(one).origin}")
        return
    if name.endswith(".pt"):
        _needs_extra()
        from faceproof.training import checkpoints

        recipe = checkpoints.recipe_of(checkpoints.load(Path(name)), Path(name))
    else:
        recipe = load_recipe(name)
    typer.echo(recipe_to_toml(recipe), nl=False)
