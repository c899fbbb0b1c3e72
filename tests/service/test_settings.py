from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from faceproof.errors import OptionError
from faceproof.service.settings import Settings, is_loopback


@pytest.mark.parametrize(
    ("written", "size"), [("500MB", 500_000_000), ("2 GiB", 2 * 2**30), ("1.5kb", 1500), ("12", 12)]
)
def test_sizes_are_written_as_people_write_them(written: str, size: int) -> None:
    assert Settings.read({"FACEPROOF_MAX_UPLOAD": written}).max_upload == size


@pytest.mark.parametrize(("written", "seconds"), [("7d", 604800), ("12h", 43200), ("1.5m", 90), ("30", 30)])
def test_times_are_written_as_people_write_them(written: str, seconds: float) -> None:
    assert Settings.read({"FACEPROOF_KEEP": written}).keep == seconds


@pytest.mark.parametrize(
    ("name", "value"), [("MAX_UPLOAD", "much"), ("KEEP", "soon"), ("PORT", "70000"), ("AUTH", "maybe"), ("KEEP", "0")]
)
def test_a_wrong_value_names_its_setting(name: str, value: str) -> None:
    with pytest.raises(OptionError, match=name.lower()) as raised:
        Settings.read({f"FACEPROOF_{name}": value})
    assert f"FACEPROOF_{name}" in raised.value.remedy


@pytest.mark.parametrize(("name", "value"), [("port", "99999"), ("keep", "forever")])
def test_a_wrong_value_is_told_in_plain_words(name: str, value: str) -> None:
    with pytest.raises(OptionError) as caught:
        Settings.read({}, **{name: value})
    assert "Value error" not in caught.value.message
    assert "Input" not in caught.value.message


def test_settings_survive_the_way_into_a_worker(tmp_path: Path) -> None:
    settings = Settings.read({}, data=tmp_path, keep="3h", max_upload="7MB", workers=3)
    assert Settings.read(settings.environment()) == settings


@pytest.mark.parametrize(
    ("host", "near"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_keys_are_needed_as_soon_as_others_can_reach_the_server(host: str, near: bool) -> None:
    assert is_loopback(host) is near
    assert Settings.read({}, host=host).needs_keys is not near


def test_it_listens_to_this_machine_only_unless_told_otherwise() -> None:
    assert Settings.read({}).host == "127.0.0.1"


def test_postgresql_addresses_get_their_driver() -> None:
    assert Settings.read({}, database="postgres://a@b/c").database_url == "postgresql+psycopg://a@b/c"


def test_a_port_that_is_taken_is_said_before_an_address_is_announced(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        words = ["serve", "--port", port, "--data", str(tmp_path)]
        command = [sys.executable, "-c", "from faceproof.cli import program; program()", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2, done.stderr
    assert f"cannot listen on port {port} of 127.0.0.1" in done.stderr
    assert "--port" in done.stderr
    assert "Faceproof: http" not in done.stderr
    assert "Traceback" not in done.stderr


def test_what_was_given_as_an_option_is_corrected_there() -> None:
    with pytest.raises(OptionError) as raised:
        Settings.read({}, port=99999)
    assert "--port" in raised.value.remedy
