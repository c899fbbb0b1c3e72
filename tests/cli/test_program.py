"""The command as a process: one verb's options alone are built, and nothing is lost where it ends at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from faceproof.cli import app, for_verb

VERBS = typer.main.get_command(app).commands


def ended(code: str, *words: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = None if home is None else {"FACEPROOF_HOME": str(home), "PATH": ""}
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_alone_is_as_among_the_others(verb):
    alone = typer.main.get_command(for_verb(verb)).commands
    assert list(alone) == [verb]
    assert [option.opts for option in alone[verb].params] == [option.opts for option in VERBS[verb].params]
    assert sorted(getattr(alone[verb], "commands", {})) == sorted(getattr(VERBS[verb], "commands", {}))


@pytest.mark.parametrize("word", [None, "scam", "--help", "--version", ""])
def test_what_is_no_verb_gets_all_of_them(word):
    assert for_verb(word) is app
    assert len(VERBS) > 20


def test_what_was_printed_is_whole_and_what_was_left_for_the_end_is_done():
    done = ended(
        "import atexit, sys\n"
        "atexit.register(print, 'the end')\n"
        "sys.argv = ['faceproof', '--version']\n"
        "from faceproof.cli import program\n"
        "program()",
    )
    assert done.returncode == 0
    assert done.stdout.startswith("faceproof ")
    assert done.stdout.endswith("the end\n")


def test_a_thread_at_work_is_waited_for():
    done = ended(
        "import sys, threading, time\n"
        "threading.Thread(target=lambda: (time.sleep(3), print('done'))).start()\n"
        "sys.argv = ['faceproof', '--version']\n"
        "from faceproof.cli import program\n"
        "program()",
    )
    assert done.returncode == 0
    assert done.stdout.endswith("done\n")


def test_exit_codes_stay():
    program = "from faceproof.cli import program; program()"
    wrong = ended(program, "scan", "--frames")
    assert wrong.returncode == 2
    assert "frames" in wrong.stderr
    assert ended(program, "scan", "no-such-file.png").returncode != 0


@pytest.mark.parametrize(("chosen", "found"), [(None, "4"), ("20", "20")])
def test_openblas_is_told_to_let_threads_sleep_before_it_is_loaded(chosen, found, monkeypatch):
    monkeypatch.delenv("OPENBLAS_THREAD_TIMEOUT", raising=False)
    if chosen:
        monkeypatch.setenv("OPENBLAS_THREAD_TIMEOUT", chosen)
    done = ended(
        "import atexit, os, sys\n"
        "from faceproof.cli import program\n"
        "assert not {'numpy', 'cv2'} & set(sys.modules)\n"
        "atexit.register(lambda: print(os.environ['OPENBLAS_THREAD_TIMEOUT']))\n"
        "sys.argv = ['faceproof', '--version']\n"
        "program()"
    )
    assert done.stdout.split()[-1] == found, done.stderr


def test_a_picture_needs_no_video_library(toy_home, astronaut_png):
    code = (
        "import sys\n"
        "from faceproof.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    sys.exit('av was loaded' if 'av' in sys.modules else end.code)"
    )
    done = ended(code, "scan", str(astronaut_png), "--detector", "toy", home=toy_home)
    assert done.returncode == 0, done.stderr
