"""The training loop on the devices it is for. What is marked gpu is the same test on CUDA, on whatever machine."""

import math
import subprocess
import sys
import textwrap

import pytest
import torch
from tests.training.test_loop import TINY, tiny
from typer.testing import CliRunner

from faceproof.cli import app
from faceproof.training import checkpoints, load_recipe, loop, train
from faceproof.training.committee import load_committee
from faceproof.training.export import check_parity, export_onnx
from faceproof.training.networks import build_network
from faceproof.training.weight_files import import_weights

RUN = CliRunner()
cuda = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"))
on_cuda = pytest.param("cuda", marks=cuda)
#: No dropout, whose draws differ between devices, and no encoders, so that PyAV is not needed.
PLAIN = {"network__dropout": 0.0, "pairs__codec": 0.0, "pairs__jpeg": 1.0}


def far(one, two):
    """Euclidean distance of two sets of weights."""
    return math.sqrt(
        sum(
            float((one[key].double() - two[key].double()).square().sum()) for key in one if one[key].is_floating_point()
        )
    )


@pytest.fixture
def watched(monkeypatch):
    """The loss of every step of the runs that follow."""
    losses, step = [], loop.Journal.step
    monkeypatch.setattr(
        loop.Journal, "step", lambda self, number, values: losses.append(values["loss"]) or step(self, number, values)
    )
    return losses


@pytest.mark.parametrize("accelerator", ["cpu", on_cuda])
def test_a_device_learns_what_the_cpu_learns(shards, tmp_path, monkeypatch, watched, accelerator):
    """In full precision, and by SGD, which passes rounding on as it is; Adam divides by the gradient's size."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    recipe = tiny(**PLAIN, optimiser__kind="sgd", optimiser__lr=0.02, run__epochs=1, run__steps_per_epoch=4)
    here = train(recipe, shards, tmp_path / "cpu", accelerator="cpu", quiet=True)
    if accelerator == "cuda":
        torch.cuda.reset_peak_memory_stats()
    there = train(recipe, shards, tmp_path / "there", accelerator=accelerator, quiet=True)
    if accelerator == "cuda":
        assert torch.cuda.max_memory_allocated() > 1 << 20, "nothing was computed on the device"
    assert watched[4:] == pytest.approx(watched[:4], rel=0.01)
    one, two = (checkpoints.load(tmp_path / name / "last.pt") for name in ("cpu", "there"))
    torch.manual_seed(recipe.run.seed)
    start = build_network(recipe).state_dict()
    learnt = far(one["network"], start)
    assert learnt > 0.01
    assert far(one["network"], two["network"]) < 0.05 * learnt
    assert far(one["average"], two["average"]) < 0.05 * learnt
    assert there.score == pytest.approx(here.score, abs=0.05)


@pytest.mark.parametrize("accelerator", ["cpu", on_cuda])
def test_a_resumed_run_on_a_device_goes_on(shards, tmp_path, watched, accelerator):
    recipe = tiny(run__epochs=2, pairs__codec=0.0, pairs__jpeg=1.0, network__dropout=0.3)
    options = {"accelerator": accelerator, "quiet": True}
    train(recipe, shards, tmp_path / "whole", **options)
    whole = watched.copy()
    train(recipe, shards, tmp_path / "parts", **options, max_steps=2)
    train(recipe, shards, tmp_path / "parts", **options, resume=True)
    # the very dropout masks: without the device's own random state the third loss would be another
    assert watched[6:] == pytest.approx(whole, rel=1e-9 if accelerator == "cpu" else 0.02)


@pytest.mark.parametrize("accelerator", ["cpu", on_cuda])
def test_the_command_trains_saves_resumes_and_exports_on_a_device(shards, tmp_path, accelerator):
    """In bfloat16, as on a machine lent by the hour; what comes out is packaged on the CPU."""
    changes = TINY | {"pairs.codec": 0.0, "pairs.jpeg": 1.0, "run.precision": "bf16-mixed", "run.workers": 2}
    if accelerator == "cpu":
        changes["run.workers"] = 0  # a process that holds every runtime's threads is no good to fork
    words = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    command = ["train", "faceproof-small", "--data", str(shards), "--out", str(tmp_path / "run"), "--no-package"]
    command += ["--accelerator", accelerator, "--growing", *words]
    for more in (["--max-steps", "2"], ["--resume"]):
        answer = RUN.invoke(app, [*command, *more])
        assert answer.exit_code == 0, f"{answer.output}{answer.exception!r}"
    stored = checkpoints.load(tmp_path / "run/last.pt")
    assert stored["progress"]["step"] == 6
    assert ("cuda" in stored["random"]) == torch.cuda.is_available()
    for key, value in stored["average"].items():
        assert torch.isfinite(value).all(), key
    answer = RUN.invoke(
        app, ["train", "export-weights", str(tmp_path / "run/last.pt"), "--out", str(tmp_path / "parts")]
    )
    assert answer.exit_code == 0, f"{answer.output}{answer.exception!r}"
    checkpoints.save(tmp_path / "home.pt", import_weights(tmp_path / "parts"))
    network = load_committee([tmp_path / "home.pt"]).network
    export_onnx(network, 64, tmp_path / "network.onnx")
    assert check_parity(network, tmp_path / "network.onnx", 64)


@pytest.mark.gpu
@cuda[1]
def test_the_large_recipe_fits_and_takes_steps(shards, tmp_path, watched):
    """EfficientNet-B4's size at 256 px with the batch and precision that the recipe names."""
    recipe = load_recipe("faceproof-large", {"pairs.codec": 0.0, "pairs.jpeg": 1.0, "pairs.held_out": 0.25})
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    if memory < 23:
        pytest.skip(f"a GPU with {memory:.0f} GiB: the recipe is for 24 and more")
    result = train(recipe, shards, tmp_path, accelerator="cuda", quiet=True, max_steps=3)
    assert result.stopped == "max_steps"
    assert len(watched) == 3
    assert all(math.isfinite(value) for value in watched)
    assert checkpoints.load(tmp_path / "last.pt")["progress"]["step"] == 3


@pytest.mark.gpu
@cuda[1]
def test_a_batch_too_large_for_a_gpu_is_named_with_one_that_fits(shards, tmp_path):
    """In a process that may use 600 MiB: a limit, once set, stays."""
    script = textwrap.dedent(f"""
        import torch
        from faceproof.errors import TrainingError
        from faceproof.training import load_recipe, train

        torch.cuda.set_per_process_memory_fraction(600 * 2**20 / torch.cuda.get_device_properties(0).total_memory)
        changes = {TINY | {"run.batch": 1024, "run.apart": False, "pairs.codec": 0.0, "pairs.jpeg": 1.0}!r}
        recipe = load_recipe("faceproof-small", changes)
        try:
            train(recipe, {str(shards)!r}, {str(tmp_path)!r}, accelerator="cuda", quiet=True)
        except TrainingError as error:
            print(error)
    """)
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=280, check=False)
    assert "A batch of 1024 does not fit" in told.stdout, told.stderr
    assert "fits: add --set run.batch=" in told.stdout
