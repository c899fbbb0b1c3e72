from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..toy_detector import write_toy_detector


@dataclass
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture(scope="session")
def toy_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with the toy detector in it."""
    home = tmp_path_factory.mktemp("home")
    write_toy_detector(home)
    return home


@pytest.fixture
def run(toy_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process, as ``faceproof ARGS``."""
    from faceproof.cli import main

    monkeypatch.setenv("FACEPROOF_HOME", str(toy_home))
    monkeypatch.setenv("COLUMNS", "100")

    def call(*args: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["faceproof", *map(str, args)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call
