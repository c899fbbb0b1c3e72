"""Training where PyAV and OpenVINO are not installed, as on machines that were set up for torch alone."""

import subprocess
import sys
import textwrap

import pytest
from tests.training.test_loop import TINY

BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""
DIGEST = """
import hashlib
from faceproof.training import load_recipe, pairs
from faceproof.training.shards import FaceStore

options = pairs.pair_options(load_recipe("faceproof-small", {changes!r}))
made = [pairs.make_group(FaceStore({shards!r}, "all"), 5, n, options)["image"].tobytes() for n in range(6)]
print("pictures", hashlib.sha256(b"".join(made)).hexdigest())
"""
NONE = ("av", "openvino")
CLEAR = TINY | {"pairs.codec": 0.0, "pairs.jpeg": 1.0, "run.epochs": 1}


def run(names, code):
    script = BLOCK.format(names=names) + textwrap.dedent(code)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=290, check=False)


def test_a_run_without_encoders_needs_neither(shards, tmp_path):
    """Training, its checkpoints, the weights' export and the command itself."""
    done = run(
        NONE,
        f"""
        import faceproof.cli, faceproof.training.packaging, faceproof.training.restoring, faceproof.training.ranking
        from faceproof.training import load_recipe, train
        from faceproof.training.weight_files import export_weights, import_weights

        recipe = load_recipe("faceproof-small", {CLEAR!r})
        first = train(recipe, {str(shards)!r}, {str(tmp_path / "run")!r}, quiet=True, max_steps=1)
        result = train(recipe, {str(shards)!r}, {str(tmp_path / "run")!r}, quiet=True, resume=True)
        made = export_weights(result.best, {str(tmp_path / "parts")!r})
        print(first.stopped, result.stopped, len(import_weights(made.index)["network"]) > 10)
        print([name for name in {NONE!r} if name in sys.modules])
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["max_steps finished True", "[]"]
    assert "PyAV" not in done.stderr


def test_the_pictures_are_the_same_without_pyav(shards):
    code = DIGEST.format(changes=CLEAR, shards=str(shards))
    without, with_it = run(NONE, code), run((), code)
    assert without.returncode == 0, without.stderr
    assert without.stdout.splitlines()[-1].startswith("pictures ")
    assert without.stdout.splitlines()[-1] == with_it.stdout.splitlines()[-1]


@pytest.mark.parametrize("codec", [0.85, 0.01])
def test_a_run_that_asks_for_encoders_says_what_is_missing(shards, tmp_path, codec):
    done = run(
        NONE,
        f"""
        from faceproof.errors import TrainingError
        from faceproof.training import load_recipe, train

        try:
            train(load_recipe("faceproof-small", {CLEAR | {"pairs.codec": codec}!r}), {str(shards)!r}, {str(tmp_path)!r})
        except TrainingError as error:
            print(error)
        """,
    )
    assert "PyAV is not installed" in done.stdout, done.stderr
    assert "--set pairs.codec=0" in done.stdout
