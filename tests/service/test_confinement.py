"""Workers may use so much and no more, whatever they run on."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from service_under_test import make_clip

import faceproof.service

PROBE = """
import mmap, os, sys
from faceproof.service.confinement import confine
from faceproof.service.settings import Settings
before = os.nice(0)
confine(Settings.read({}, device=sys.argv[1], memory="2GiB", threads=1))
import cv2
print(cv2.getNumThreads(), os.nice(0) - before)
try:
    # What a driver does: addresses that nobody has written to yet.
    mmap.mmap(-1, 8 << 30, prot=0)
    print("reserved")
except OSError:
    print("not reserved")
try:
    bytearray(3 << 30)
    print("given")
except MemoryError:
    print("refused")
"""


LIMITS = """
import errno, os, signal, sys
from faceproof.service.confinement import TimeUsedUpError, allow_cpu_seconds, confine
from faceproof.service.settings import Settings
confine(Settings.read({}, file_size="1MB", open_files=64, threads=1))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with open(sys.argv[1], "wb", buffering=0) as file:
    file.write(bytes(1_000_000))
    try:
        file.write(b"x")
        print("written")
    except OSError as error:
        print(errno.errorcode[error.errno])
opened = []
try:
    for _ in range(100):
        opened.append(os.open(os.devnull, os.O_RDONLY))
    print("opened")
except OSError as error:
    print(errno.errorcode[error.errno])
allow_cpu_seconds(1)
try:
    while True:
        pass
except TimeUsedUpError as error:
    print(error.code)
"""


def test_size_of_files_open_files_and_processor_time_are_bounded(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITS, str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["EFBIG", "EMFILE", "cpu_time"]


SERVER = """
import sys
from pathlib import Path
import cv2
from fastapi.testclient import TestClient
from service_under_test import ended, make_settings, submit, wait_for
from faceproof.service.app import make_app

def refuse(*_, **__):
    raise AssertionError("media was decoded in the server")

for name in ("imdecode", "imread", "VideoCapture"):
    setattr(cv2, name, refuse)
for name in [name for name in sys.modules if name.split(".")[0] in ("av", "PIL")]:
    del sys.modules[name]
sys.modules["av"] = sys.modules["PIL"] = None  # importing them fails from here on
clip = Path(sys.argv[2]).read_bytes()
with TestClient(make_app(make_settings(Path(sys.argv[1]), workers=1))) as client:
    job = ended(client, submit(client, clip)["id"])
    here = "/v1/jobs/" + job["id"]
    wait_for(lambda: client.get(here + "/overlay.mp4").status_code == 200)
    for path in ("/faces/0.jpg", "/heatmaps/0.jpg", "/media", "/report.json", "/report.html"):
        assert client.get(here + path).status_code == 200, path
    for path in ("/", "/history", "/jobs/" + job["id"]):
        assert client.get(path).status_code == 200, path
    assert submit(client, clip[:300])["state"] == "queued"
print(job["state"])
"""


def test_the_server_never_decodes(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(make_clip(1))
    command = [sys.executable, "-c", SERVER, str(tmp_path / "data"), str(tmp_path / "clip.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.stdout.splitlines()[-1:] == ["done"], done.stderr[-3000:]


def test_nothing_is_pickled() -> None:
    for path in Path(faceproof.service.__file__).parent.rglob("*.py"):
        names = {alias.name for node in ast.walk(ast.parse(path.read_text())) for alias in getattr(node, "names", [])
                 if isinstance(node, ast.Import | ast.ImportFrom)}  # fmt: skip
        assert not names & {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}, path


@pytest.mark.parametrize(("device", "reserved"), [("cpu", "not reserved"), ("cuda", "reserved")])
def test_memory_is_bounded_with_and_without_an_accelerator(device: str, reserved: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROBE, device], capture_output=True, text=True, check=True)
    threads, first, second = done.stdout.splitlines()
    assert threads == "1 10"
    assert (first, second) == (reserved, "refused")
