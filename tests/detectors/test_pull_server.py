"""Pulling from a real HTTPS server on this machine: broken connections, ranges, refusals, whole ensembles."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from faceproof.cli import app
from faceproof.detectors import catalog
from faceproof.detectors.detector import load_detector
from faceproof.detectors.pull import fetch
from faceproof.errors import WeightsError

CONTENT = np.random.default_rng(0).bytes(5_000_000)


@dataclass
class Shelf:
    """What the server holds, how it misbehaves, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    # How many bytes of a body go out before the connection is torn down, one entry for each answer still to spoil.
    break_at: list[int] = field(default_factory=list)
    reset: bool = False
    ranges: bool = True
    redirect: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""

    def put(self, name: str, content: bytes) -> str:
        self.files[f"/{name}"] = content
        return f"{self.address}/{name}"


def handler(shelf: Shelf) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            shelf.asked.append((self.path, wanted))
            if self.path in shelf.redirect:
                self.send_response(302)
                self.send_header("Location", shelf.redirect[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if self.path not in shelf.files:
                self.send_error(404)
                return
            content = shelf.files[self.path]
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and shelf.ranges else 0
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if wanted and shelf.ranges else 200)
            self.send_header("Content-Length", str(len(content) - start))
            if wanted and shelf.ranges:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            body = content[start:]
            if not shelf.break_at:
                self.wfile.write(body)
                return
            self.wfile.write(body[: shelf.break_at.pop(0)])
            self.wfile.flush()
            if shelf.reset:  # a reset instead of an end: what a dying router does
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def certificate(folder: Path) -> tuple[Path, Path]:
    """A key and a certificate for 127.0.0.1 that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private, public = folder / "key.pem", folder / "certificate.pem"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return private, public


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    """A running HTTPS server, trusted by this process."""
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FACEPROOF_OFFLINE", raising=False)
    for proxy in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    key, public = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    shelf = Shelf()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(shelf))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    shelf.address = f"https://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield shelf
    server.shutdown()
    server.server_close()
    thread.join()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("reset", [False, True])
def test_a_broken_connection_is_resumed_where_it_stopped(shelf: Shelf, reset: bool) -> None:
    url = shelf.put("weights", CONTENT)
    shelf.break_at, shelf.reset = [2_000_000, 1_500_000], reset
    told: list[tuple[int, int | None]] = []
    for _ in range(2):
        with pytest.raises(WeightsError, match=r"broke off|cannot be reached") as caught:
            fetch(url, digest(CONTENT), progress=lambda have, total: told.append((have, total)))
        assert "resumes where it stopped" in caught.value.remedy
    path = fetch(url, digest(CONTENT), progress=lambda have, total: told.append((have, total)))
    assert path.read_bytes() == CONTENT
    starts = [0 if r is None else int(r.removeprefix("bytes=").rstrip("-")) for _, r in shelf.asked]
    assert starts[0] == 0
    assert starts == sorted(starts), "each goes on where the last one stopped"
    if not reset:  # a reset may swallow what was still under way, on a busy machine all of it
        assert starts == [0, 2_000_000, 3_500_000]
    assert told == sorted(told), "progress never runs backwards"
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert {total for _, total in told} == {len(CONTENT)}
    fetch(url, digest(CONTENT))
    assert len(shelf.asked) == 3, "what is in the cache is not asked for"


def test_a_server_without_ranges_begins_again(shelf: Shelf) -> None:
    url = shelf.put("weights", CONTENT)
    shelf.break_at, shelf.ranges = [1_000_000], False
    with pytest.raises(WeightsError, match="broke off at 1,000,000 of 5,000,000 bytes"):
        fetch(url, digest(CONTENT))
    assert fetch(url, digest(CONTENT)).read_bytes() == CONTENT


def test_other_content_is_thrown_away(shelf: Shelf, tmp_path: Path) -> None:
    url = shelf.put("weights", CONTENT[:-1] + b"!")
    with pytest.raises(WeightsError, match=r"127\.0\.0\.1:\d+ sent has sha256 .* thrown away"):
        fetch(url, digest(CONTENT))
    assert not list((tmp_path / "home" / "downloads").iterdir())


def test_refusals_strangers_and_redirects(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match="answers 404"):
        fetch(f"{shelf.address}/nothing", digest(CONTENT))
    shelf.redirect = {"/moved": shelf.put("weights", CONTENT), "/plain": "http://127.0.0.1/weights"}
    with pytest.raises(WeightsError, match="which is not https"):
        fetch(f"{shelf.address}/plain", digest(CONTENT))
    assert fetch(f"{shelf.address}/moved", digest(CONTENT)).read_bytes() == CONTENT
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(WeightsError, match=r"cannot be reached: .*certificate"):
        fetch(f"{shelf.address}/weights", digest(b"other"))


# --- the verb --------------------------------------------------------------------------------------------------------


def network(bias: float) -> bytes:
    """An ONNX file that answers as the mobile detector does: the picture's mean and ``bias``."""
    side = 224
    nodes = [
        helper.make_node("ReduceMean", ["input", "all"], ["mean"], keepdims=0),
        helper.make_node("Add", ["mean", "bias"], ["logit"]),
        helper.make_node("ReduceMean", ["input", "channel"], ["grey"], keepdims=0),
        helper.make_node("Sigmoid", ["grey"], ["heatmap"]),
    ]
    constants = [
        numpy_helper.from_array(np.asarray([1, 2, 3], np.int64), "all"),
        numpy_helper.from_array(np.asarray([1], np.int64), "channel"),
        numpy_helper.from_array(np.asarray(bias, np.float32), "bias"),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, side, side])],
        [
            helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, ["n", side, side]),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def pair(shelf: Shelf, home: Path) -> dict[str, bytes]:
    """An ensemble of two members whose files the server holds. Returns the files by member."""
    files = {"first": network(0.5), "second": network(-0.25)}
    lines = ['schema_version = 1\nname = "pair"\nmethod = "mean"\nmin_members = 2\n']
    for name, content in files.items():
        url = shelf.put(name, content)
        lines.append(
            f'[[members]]\ndetector = "{name}"\nimport_as = "efficientnet-b4-mobile"\n'
            f'[members.checkpoint]\nfile = "{name}.onnx"\nurl = "{url}"\nsha256 = "{digest(content)}"\n'
        )
    (home / "ensembles").mkdir(parents=True)
    (home / "ensembles" / "pair.toml").write_text("\n".join(lines), encoding="utf-8")
    return files


def test_an_ensemble_is_pulled_imported_and_scored(shelf: Shelf, tmp_path: Path) -> None:
    files = pair(shelf, tmp_path / "home")
    pull = ["detectors", "pull", "pair"]
    shelf.break_at = [len(files["first"]), 300]  # the second member's connection breaks
    broken = CliRunner().invoke(app, pull)
    assert "broke off at 300 of" in str(broken.exception)
    assert catalog.find_spec("first").has_weights, "what came whole is installed"
    done = CliRunner().invoke(app, pull)
    assert done.exit_code == 0, done.exception
    assert "first is there already" in done.stderr
    assert "100 %" in done.stderr
    assert [path for path, _ in shelf.asked] == ["/first", "/second", "/second"]
    assert shelf.asked[2][1] == "bytes=300-"

    grey = [np.full((40, 40, 3), 128, np.uint8)]
    logits = {name: float(load_detector(name, precision="fp32").logits(grey).ravel()[0]) for name in files}
    assert logits["first"] - logits["second"] == pytest.approx(0.75, abs=1e-5)
    shares = [1 / (1 + np.exp(-value)) for value in logits.values()]
    joint = load_detector("pair", precision="fp32")
    crop = joint.cut(np.full((80, 80, 3), 128, np.uint8), (20.0, 20.0, 60.0, 60.0))
    assert joint.score([crop])[0] == pytest.approx(np.mean(shares), abs=1e-3)

    asked = len(shelf.asked)
    again = CliRunner().invoke(app, [*pull, "--offline"])
    assert again.exit_code == 0, "nothing is left to fetch"
    assert len(shelf.asked) == asked


def test_a_member_is_pulled_by_its_own_name(shelf: Shelf, tmp_path: Path) -> None:
    """Also from a mirror, as the refusal of one --url for several members advises."""
    files = pair(shelf, tmp_path / "home")
    advice = CliRunner().invoke(app, ["detectors", "pull", "pair", "--url", f"{shelf.address}/second"])
    assert "Pull a member with --url" in str(advice.exception)
    mirror = shelf.put("mirror", files["second"])
    options = ["--url", mirror, "--sha256", digest(files["second"])]
    done = CliRunner().invoke(app, ["detectors", "pull", "second", *options])
    assert done.exit_code == 0, done.exception
    assert [path for path, _ in shelf.asked] == ["/mirror"]
    assert catalog.find_spec("second").spec.checkpoint.sha256 == digest(files["second"])
    done = CliRunner().invoke(app, ["detectors", "pull", "first"])
    assert done.exit_code == 0, done.exception
    assert len(load_detector("pair").voices) == 2


def test_offline_asks_nobody(shelf: Shelf, tmp_path: Path) -> None:
    pair(shelf, tmp_path / "home")
    refused = CliRunner().invoke(app, ["detectors", "pull", "pair", "--offline"])
    assert "stay offline" in str(refused.exception)
    assert not shelf.asked
    assert not (tmp_path / "home" / "models").exists()
