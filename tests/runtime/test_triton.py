"""The remote runtime: against real servers of the protocol, and against one that misbehaves on purpose."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from faceproof.detectors.detector import load_detector
from faceproof.errors import DeviceError, NetworkError, WeightsError
from faceproof.runtime import FakeNetwork, Network, load_network
from faceproof.runtime.triton import Address, TritonNetwork

from ..servers import free_port, running, server_bin
from ..toy_detector import write_toy_detector

SERVED = Path(__file__).parent / "served"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """logit = the mean of a crop; heatmap = its red channel."""
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["logit"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("ReduceMean", ["input"], ["heatmap"], axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [
            helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, ["n", "h", "w"]),
        ],
    )
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


@pytest.fixture
def batch() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (5, 3, 12, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def mlserver(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLServer: tensors as JSON."""
    folder = tmp_path_factory.mktemp("mlserver")
    port = free_port()
    settings = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port(), "host": "127.0.0.1"}
    (folder / "settings.json").write_text(json.dumps({**settings, "parallel_workers": 0}))
    tensor = {"datatype": "FP32", "shape": [-1]}
    model = {
        "name": "small",
        "implementation": "mlserver_onnx.OnnxModel",
        "parameters": {"uri": str(small), "version": "v1"},
        "inputs": [{"name": "input", **tensor}],
        "outputs": [{"name": "logit", **tensor}, {"name": "heatmap", **tensor}],
    }
    (folder / "model-settings.json").write_text(json.dumps(model))
    command = [server_bin("mlserver") / "mlserver", "start", folder]
    ready = f"http://127.0.0.1:{port}/v2/models/small/ready"
    with running(command, ready, log=folder / "log", env={"PYTHONPATH": str(SERVED)}):
        yield f"triton://127.0.0.1:{port}/small"


@pytest.fixture(scope="module")
def kserve(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real KServe model server: tensors as bytes."""
    port = free_port()
    command = [server_bin("kserve") / "python", SERVED / "kserve_onnx.py", small, str(port)]
    ready = f"http://127.0.0.1:{port}/v2/models/small/ready"
    with running(command, ready, log=tmp_path_factory.mktemp("kserve") / "log"):
        yield f"triton://127.0.0.1:{port}/small?input=input&outputs=logit,heatmap&binary=yes"


@pytest.mark.parametrize("server", ["mlserver", "kserve"])
def test_a_real_server_gives_the_same_numbers(
    server: str, small: Path, batch: np.ndarray, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(server)
    remote = load_network(small, runtime=url)
    assert isinstance(remote, Network)
    assert set(remote.outputs) == {"logit", "heatmap"}
    here = load_network(small, runtime="onnx")
    for given in (batch, batch[:1], np.tile(batch, (9, 1, 1, 1))):  # 45 crops go in two requests
        answer, known = remote.run(given), here.run(given)
        for name in known:
            # MLServer's codec hands [N] back as [N, 1]; the first axis is what the seam promises.
            np.testing.assert_allclose(answer[name].reshape(known[name].shape), known[name], atol=1e-6)
            assert answer[name].dtype == np.float32


def test_a_real_server_that_refuses_says_why(mlserver: str, small: Path) -> None:
    with pytest.raises(NetworkError, match=r"nobody"):
        load_network(small, runtime=mlserver.replace("/small", "/nobody"))
    with pytest.raises(NetworkError, match="refused"):
        load_network(small, runtime=f"{mlserver}?retries=0").run(np.zeros((1, 2, 3), np.float32))


Answer = Callable[[BaseHTTPRequestHandler, bytes], tuple[int, bytes]]


class Unruly:
    """A small server of the protocol whose inference answers are scripted: for faults that real servers seldom show."""

    def __init__(self) -> None:
        self.script: list[Answer] = []
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                tensors = {
                    "inputs": [{"name": "crops"}],
                    "outputs": [{"name": "logit", "datatype": "FP32", "shape": [-1]}],
                }
                self._send(200, json.dumps({"name": "unruly", "extensions": [], **tensors}).encode())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked += 1
                step = outer.script.pop(0) if outer.script else mean_answer
                self._send(*step(self, body))

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def url(self, **options: object) -> str:
        query = "&".join(f"{key}={value}" for key, value in options.items())
        return f"triton://127.0.0.1:{self.server.server_port}/unruly{'?' if query else ''}{query}"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def mean_answer(_: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
    tensor = json.loads(body)["inputs"][0]
    assert tensor["name"] == "crops"
    values = np.asarray(tensor["data"]).reshape(tensor["shape"]).mean(axis=(1, 2, 3))
    output = {"name": "logit", "datatype": "FP32", "shape": [len(values)], "data": values.tolist()}
    return 200, json.dumps({"outputs": [output]}).encode()


def status(code: int, body: bytes = b"{}") -> Answer:
    return lambda *_: (code, body)


def slow(_: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
    time.sleep(0.6)
    return mean_answer(_, body)


@pytest.fixture
def unruly() -> Iterator[Unruly]:
    server = Unruly()
    yield server
    server.stop()


def mean_of(network: Network, batch: np.ndarray) -> None:
    np.testing.assert_allclose(network.run(batch)["logit"], batch.mean(axis=(1, 2, 3)), atol=1e-6)


def test_busy_and_slow_servers_are_asked_again(unruly: Unruly, batch: np.ndarray) -> None:
    network = TritonNetwork(unruly.url(timeout=0.3))
    unruly.script = [status(503), slow]
    mean_of(network, batch)
    assert unruly.asked == 3


def test_a_server_that_stays_silent_is_an_error_with_a_remedy(unruly: Unruly, batch: np.ndarray) -> None:
    network = TritonNetwork(unruly.url(timeout=0.2, retries=1))
    unruly.script = [slow, slow]
    with pytest.raises(NetworkError, match=r"no answer in 0\.2 s") as caught:
        network.run(batch)
    assert "fallback=local" in caught.value.remedy
    mean_of(network, batch)  # and it goes on when the server is back


def test_large_batches_go_in_pieces(unruly: Unruly, batch: np.ndarray) -> None:
    mean_of(TritonNetwork(unruly.url(batch=2)), batch)
    assert unruly.asked == 3


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[]",
        b'{"outputs": []}',
        b'{"outputs": [{"name": "logit", "datatype": "FP32", "shape": [1], "data": [1.0]}]}',
        b'{"outputs": [{"name": "logit", "datatype": "FP32", "shape": [7], "data": [1.0]}]}',
        b'{"outputs": [{"name": "logit", "datatype": "BYTES", "shape": [5], "data": ["a"]}]}',
    ],
)
def test_an_answer_that_is_none_is_an_error(unruly: Unruly, batch: np.ndarray, body: bytes) -> None:
    unruly.script = [status(200, body)]
    with pytest.raises(NetworkError):
        TritonNetwork(unruly.url()).run(batch)


def test_a_refusal_is_not_asked_again(unruly: Unruly, batch: np.ndarray) -> None:
    unruly.script = [status(400, b'{"error": "wrong shape"}')]
    with pytest.raises(NetworkError, match="wrong shape"):
        TritonNetwork(unruly.url()).run(batch)
    assert unruly.asked == 1


def test_it_falls_back_only_when_told(unruly: Unruly, batch: np.ndarray, small: Path) -> None:
    dead = f"triton://127.0.0.1:{free_port()}/small"
    with pytest.raises(NetworkError, match="cannot reach"):
        load_network(small, runtime=f"{dead}?retries=0")
    local = load_network(small, runtime=f"{dead}?retries=0&fallback=local")
    assert local.runtime in ("openvino", "onnx")
    mean_of(local, batch)
    # Also in the middle of the work.
    network = TritonNetwork(unruly.url(retries=0, fallback="local"), local=FakeNetwork)
    mean_of(network, batch)
    unruly.script = [status(503)]
    mean_of(network, batch)
    assert network.runtime == "fake"


@pytest.mark.parametrize(
    "url",
    [
        "triton://",
        "triton://host:8000",
        "triton://host:notaport/model",
        "http://host/model",
        "triton://host/a/b/c",
        "triton://host/m?timeout=0",
        "triton://host/m?timeout=nan",
        "triton://host/m?retries=x",
        "triton://host/m?colour=red",
        "triton://host/m?fallback=maybe",
        "triton://host/m?binary=perhaps",
    ],
)
def test_an_address_that_is_none_is_a_device_error(url: str, small: Path) -> None:
    with pytest.raises(DeviceError):
        TritonNetwork(url)


def test_addresses() -> None:
    address = Address.parse("tritons://gpu:443/b4/7?timeout=5&outputs=logit,heatmap")
    assert (address.host, address.port, address.model, address.version) == ("gpu", 443, "b4", "7")
    assert address.tls
    assert address.path == "/v2/models/b4/versions/7"
    assert (address.timeout, address.outputs) == (5.0, ("logit", "heatmap"))
    assert Address.parse("triton://gpu/a%2Fb").port == 8000


def test_a_server_that_holds_another_network_is_refused_when_it_is_loaded(
    unruly: Unruly, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The toy's record has no known answers: what the weights here say decides."""
    folder = write_toy_detector(tmp_path)
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path))
    right = load_network(folder / "toy.onnx", precision="fp32")

    def off_by(shift: float) -> Answer:
        def answer(_: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
            tensor = json.loads(body)["inputs"][0]
            found = right.run(np.asarray(tensor["data"], np.float32).reshape(tensor["shape"]))
            values = {"logit": found["logit"] + shift, "heatmap": found["heatmap"]}
            outputs = [
                {"name": name, "datatype": "FP32", "shape": value.shape, "data": value.ravel().tolist()}
                for name, value in values.items()
            ]
            return 200, json.dumps({"outputs": outputs}).encode()

        return answer

    url = unruly.url(outputs="logit,heatmap")
    unruly.script = [off_by(0.0), off_by(0.0)]
    assert load_detector("toy", runtime=url).spec.name == "toy"
    assert unruly.script == []
    unruly.script = [off_by(0.01), off_by(2.0)]
    with pytest.raises(WeightsError, match=r"does not serve toy 1\.0"):
        load_detector("toy", runtime=url)
