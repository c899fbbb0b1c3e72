import csv
import os
import signal
import subprocess
import sys
import textwrap
import time
import weakref
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from faceproof.errors import TrainingError
from faceproof.training import checkpoints, load_recipe, loop, losses, pairs, train
from faceproof.training.committee import load_committee
from faceproof.training.data import open_source
from faceproof.training.degrade import DegradeOptions
from faceproof.training.networks import FaceNetwork, Prediction, build_network
from faceproof.training.shards import FaceStore

TINY = {
    "network.backbone": "test_efficientnet", "network.init": "", "input.size": 64, "input.crop": 1.0, "pairs.tile": [64, 80],
    "pairs.group": 2, "pairs.held_out": 0.25, "run.batch": 8, "run.epochs": 2, "run.steps_per_epoch": 3,
    "run.workers": 0, "run.precision": "32-true", "schedule.warmup_steps": 2,
}  # fmt: skip


def tiny(**changes):
    return load_recipe("faceproof-small", TINY | {key.replace("__", "."): value for key, value in changes.items()})


def weights(path):
    return checkpoints.load(path)["network"]


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_thirty_two_pairs_can_be_learnt_by_heart(shards):
    options = pairs.PairOptions(size=64, heatmap=8, degrade=DegradeOptions(tile=(64, 80)))
    store = FaceStore(shards, "all")
    batch = pairs.collate([pairs.make_group(store, 0, number, options) for number in range(8)])
    image = batch["image"].float() / 127.5 - 1
    torch.manual_seed(0)
    network = FaceNetwork("test_efficientnet", dropout=0.0)
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(150):
        found = network(image)
        loss = losses.smoothed_bce(found.logit, batch["label"]) + losses.mask_bce(found.heatmap, batch["mask"])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        score = loop.auroc(batch["label"].numpy(), found.logit.detach().numpy())
        if score > 0.995:
            break
    assert score > 0.99


def test_a_resumed_run_equals_an_uninterrupted_one(shards, tmp_path):
    recipe = tiny(network__dropout=0.3)
    whole = train(recipe, shards, tmp_path / "whole", quiet=True)
    train(recipe, shards, tmp_path / "parts", quiet=True, max_steps=2)  # in the middle of the first epoch
    train(recipe, shards, tmp_path / "parts", quiet=True, resume=True, max_steps=3)  # exactly at its end
    parts = train(recipe, shards, tmp_path / "parts", quiet=True, resume=True)
    assert same(weights(tmp_path / "whole/last.pt"), weights(tmp_path / "parts/last.pt"))
    assert whole.history == parts.history
    one, two = (checkpoints.load(tmp_path / name / "last.pt") for name in ("whole", "parts"))
    assert same(one["average"], two["average"])


def test_a_run_leaves_checkpoints_metrics_and_a_board(shards, tmp_path):
    result = train(tiny(run__save_every=1), shards, tmp_path)
    assert result.stopped == "finished"
    assert {"last.pt", "best.pt", "epoch_001.pt", "epoch_002.pt", "metrics.csv"} <= set(os.listdir(tmp_path))
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert 0 <= float(rows[0]["held_out_auroc"]) <= 1
    assert list((tmp_path / "tensorboard").iterdir())
    stored = checkpoints.load(tmp_path / "last.pt")
    assert stored["recipe"]["name"] == "faceproof-small"
    assert len(stored["data"]) == 64
    assert stored["metrics"]["held_out_auroc"] == result.history[-1]["held_out_auroc"]
    assert not list(tmp_path.glob(".*.part"))


def test_a_used_folder_other_recipe_or_other_data_is_refused(shards, tmp_path):
    from tests.training.conftest import write_shards

    train(tiny(), shards, tmp_path / "run", quiet=True, max_steps=1)
    with pytest.raises(TrainingError, match="already holds a run"):
        train(tiny(), shards, tmp_path / "run", quiet=True)
    with pytest.raises(TrainingError, match=r"another recipe.*optimiser"):
        train(tiny(optimiser__lr=1e-3), shards, tmp_path / "run", quiet=True, resume=True)
    with pytest.raises(TrainingError, match="data changed"):
        train(tiny(), write_shards(tmp_path / "other", 40), tmp_path / "run", quiet=True, resume=True)
    with pytest.raises(TrainingError, match="no checkpoint"):
        train(tiny(), shards, tmp_path / "empty", quiet=True, resume=True)


def test_weights_alone_are_no_run_to_go_on_with(shards, tmp_path):
    whole = checkpoints.load(train(tiny(), shards, tmp_path, quiet=True, max_steps=3).best)
    checkpoints.save(tmp_path / "last.pt", {key: whole[key] for key in ("recipe", "data", "network", "progress")})
    with pytest.raises(TrainingError, match=r"holds weights.*network\.init"):
        train(tiny(), shards, tmp_path, quiet=True, resume=True)


def test_a_torn_checkpoint_is_named(shards, tmp_path):
    train(tiny(), shards, tmp_path, quiet=True, max_steps=1)
    data = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(TrainingError, match="cannot be read"):
        train(tiny(), shards, tmp_path, quiet=True, resume=True)


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_batch(shards, tmp_path, monkeypatch):
    monkeypatch.setitem(losses.LOSSES, "bce", lambda logit, *_, **__: logit.sum() * float("nan"))
    with pytest.raises(TrainingError, match="the batch is kept"):
        train(tiny(), shards, tmp_path, quiet=True)
    kept = checkpoints.load(tmp_path / "nan_batch_0.pt")
    assert kept["batch"]["image"].shape == (8, 3, 64, 64)


def test_out_of_memory_names_a_batch_that_fits(shards, tmp_path, monkeypatch):
    original, kept = FaceNetwork.forward, []

    def forward(self, x):
        assert all(reference() is None for reference in kept), "what did not fit is still held while less is tried"
        if len(x) > 3 and self.training:
            activations = x + 1
            kept.append(weakref.ref(activations))
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return original(self, x)

    monkeypatch.setattr(FaceNetwork, "forward", forward)
    with pytest.raises(TrainingError, match=r"run\.batch = 2 fits"):
        train(tiny(run__apart=False), shards, tmp_path, quiet=True)


def test_early_stopping_counts_epochs_without_a_better_score(shards, tmp_path, monkeypatch):
    scores = iter([0.6, 0.7, 0.65, 0.66, 0.9])
    monkeypatch.setattr(loop, "evaluate", lambda *_: {"held_out_auroc": next(scores)})
    result = train(tiny(run__epochs=5, run__steps_per_epoch=1, run__early_stop=2), shards, tmp_path, quiet=True)
    assert (result.stopped, result.epochs, result.score) == ("early", 4, 0.7)
    assert checkpoints.load(tmp_path / "best.pt")["metrics"]["held_out_auroc"] == 0.7


def test_ctrl_c_saves_and_resume_goes_on(shards, tmp_path):
    # in a process of its own: a signal meant for one run must never meet the tests' own handlers
    script = tmp_path / "interrupted.py"
    script.write_text(
        textwrap.dedent(f"""
        import signal, sys
        from faceproof.training import checkpoints, load_recipe, loop, train

        recipe, data, out = load_recipe("faceproof-small", {TINY!r}), {str(shards)!r}, sys.argv[1]
        step = loop.Journal.step

        def interrupted(self, number, values):
            step(self, number, values)
            if number == 2:
                signal.raise_signal(signal.SIGINT)

        loop.Journal.step = interrupted
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        assert train(recipe, data, out + "/a", quiet=True).stopped == "interrupted"
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
        loop.Journal.step = step
        assert checkpoints.load(loop.Path(out) / "a/last.pt")["progress"]["step"] == 2
        assert train(recipe, data, out + "/a", quiet=True, resume=True).stopped == "finished"
        train(recipe, data, out + "/b", quiet=True)
        """)
    )
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, timeout=290)
    assert done.returncode == 0, done.stderr
    assert same(weights(tmp_path / "a/last.pt"), weights(tmp_path / "b/last.pt"))


def test_a_resumed_run_goes_on_with_the_scale_of_its_fp16_losses(shards, tmp_path, monkeypatch):
    def half(**options):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=2)
        return Fabric(accelerator="cpu", plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaler)])

    monkeypatch.setattr(loop, "Fabric", half)
    train(tiny(), shards, tmp_path / "whole", quiet=True)
    train(tiny(), shards, tmp_path / "parts", quiet=True, max_steps=3)
    train(tiny(), shards, tmp_path / "parts", quiet=True, resume=True)
    whole, parts = (checkpoints.load(tmp_path / name / "last.pt") for name in ("whole", "parts"))
    assert whole["scaler"] == parts["scaler"]
    assert whole["scaler"]["scale"] > 2.0**8
    assert same(whole["network"], parts["network"])


def test_two_processes_learn_what_one_with_twice_the_share_learns(shards, tmp_path):
    # BatchNorm sees half a batch in each process, so it is frozen: then the gradients' mean is the whole batch's, but for
    # the order of its sums. SGD passes that on as it is; Adam divides by the gradient's size and steps as far for rounding.
    # What freezes or thaws after the processes were joined must be joined anew: DDP waited for the gradients of the one,
    # and left those of the other to each process.
    phases = [
        {"from_epoch": epoch, "train": what, "lr": 0.05, "freeze_batchnorm": True}
        for epoch, what in ((1, "head"), (2, "all"))
    ]
    changes = TINY | {
        "network.freeze_batchnorm": True, "network.dropout": 0.0, "run.epochs": 3, "run.steps_per_epoch": 1, "run.batch": 8,
        "optimiser.kind": "sgd", "optimiser.lr": 0.05, "phases": phases,
    }  # fmt: skip
    script = tmp_path / "ddp.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        from faceproof.training import load_recipe, train
        recipe = load_recipe("faceproof-small", {changes!r})
        train(recipe, {str(shards)!r}, sys.argv[1], accelerator="cpu", devices=int(sys.argv[2]), quiet=False)
        """)
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        "0",
        "--standalone",
    ]
    subprocess.run(
        [*launcher, script, tmp_path / "two", "2"], check=True, env=environment, capture_output=True, timeout=240
    )
    subprocess.run(
        [sys.executable, script, tmp_path / "one", "1"], check=True, env=environment, capture_output=True, timeout=240
    )
    one, two = (checkpoints.load(tmp_path / name / "last.pt") for name in ("one", "two"))
    assert one["progress"]["step"] == two["progress"]["step"] == 3
    torch.manual_seed(load_recipe("faceproof-small", changes).run.seed)
    start = build_network(load_recipe("faceproof-small", changes)).state_dict()
    learnt, apart = (
        sum(float(((x[key] - y[key]).float() ** 2).sum()) ** 0.5 for key in start if x[key].is_floating_point())
        for x, y in ((one["network"], start), (one["network"], two["network"]))
    )
    assert learnt > 0.01
    assert apart < 1e-4 * learnt
    assert one["metrics"]["held_out_auroc"] == pytest.approx(two["metrics"]["held_out_auroc"], abs=0.02)


def test_apart_keeps_a_pair_in_two_forwards_and_the_rows_in_order():
    seen = []

    class Network(torch.nn.Module):
        def forward(self, x):
            seen.append(x[:, 0, 0, 0].tolist())
            return Prediction(x[:, 0, 0, 0], x[:, 0])

    rows = torch.arange(12.0)[:, None, None, None].expand(12, 3, 4, 4)
    found = loop._apart(Network(), rows)
    torch.testing.assert_close(found.logit, torch.arange(12.0))
    torch.testing.assert_close(found.heatmap, rows[:, 0])
    for half in seen:
        assert len({row // 2 for row in half}) == len(half) == 6  # never both of a pair
        assert sum(row % 2 for row in half) == 3  # and as many fakes as reals


def test_apart_trains_and_needs_pairs(shards, tmp_path):
    result = train(tiny(run__apart=True, run__epochs=1), shards, tmp_path / "run", quiet=True)
    assert result.stopped == "finished"
    with pytest.raises(TrainingError, match="apart"):
        tiny(mode="supervised", loss__rank=0.0, run__apart=True)


def test_no_pool_of_opencv_is_left_when_workers_are_forked(shards):
    """A worker that set the size of a pool forked with it waited, every second time, for a lock nobody would release."""
    script = textwrap.dedent(f"""
        import cv2
        from tests.training.test_loop import tiny
        from faceproof.training.data import open_source

        recipe = tiny(run__workers=2)
        source = open_source(recipe, {str(shards)!r})
        cv2.setNumThreads(2)
        for epoch in range(2):
            assert len(list(source.batches(recipe, epoch, 0, 0, 1))) == 3
            assert cv2.getNumThreads() == 1
        print("all epochs read")
    """)
    # in a process of its own: to fork one that holds every runtime's threads is another story
    read = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240, check=False)
    assert "all epochs read" in read.stdout, read.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_of_the_whole_group_saves_and_says_so_without_a_trace(shards, tmp_path, number):
    changes = TINY | {"run.workers": 2, "run.epochs": 1, "run.steps_per_epoch": 100_000}
    settings = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    command = [
        sys.executable,
        "-m",
        "faceproof",
        "train",
        "faceproof-small",
        "--data",
        str(shards),
        "--out",
        str(tmp_path),
    ]
    run = subprocess.Popen([*command, *settings], stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "steps.csv").is_file() or (tmp_path / "steps.csv").stat().st_size < 100:
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(run.pid, number)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 130, told
    assert "Traceback" not in told
    assert checkpoints.load(tmp_path / "last.pt")["progress"]["step"] > 0


def test_a_student_comes_to_say_what_its_teachers_say(shards, tmp_path):
    """Teachers who call every face forged: no label says so, hence a student who agrees has it from them."""
    teachers = []
    for seed in (1, 2):
        content = checkpoints.load(
            train(tiny(run__epochs=1, run__seed=seed), shards, tmp_path / str(seed), quiet=True).best
        )
        content["network"]["classifier.bias"] += 4
        content["average"] = None
        teachers.append(str(tmp_path / f"teacher{seed}.pt"))
        checkpoints.save(Path(teachers[-1]), content)
    changes = {
        "run__epochs": 1,
        "run__steps_per_epoch": 90,
        "schedule__kind": "constant",
        "optimiser__lr": 1e-2,
        "run__ema": 0.0,
        "network__freeze_batchnorm": True,
    }
    said = []
    for name, more in (("alone", {}), ("taught", {"distil__teachers": teachers, "distil__weight": 1.0})):
        recipe = tiny(**changes, **more)
        student = load_committee([train(recipe, shards, tmp_path / name, quiet=True).best]).network
        source = open_source(recipe, shards)
        said.append(loop.score_pictures(student, source.held_out()[0], source, torch.device("cpu"), "32-true").mean())
    assert abs(said[0]) < 1
    assert said[1] > 1.5


def test_a_teacher_must_see_what_the_student_sees(shards, tmp_path):
    teacher = train(tiny(run__epochs=1), shards, tmp_path / "teacher", quiet=True).best
    with pytest.raises(TrainingError, match="takes 64 px"):
        train(tiny(input__size=96, distil__teachers=[str(teacher)]), shards, tmp_path / "student", quiet=True)
