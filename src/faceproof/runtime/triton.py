"""A network on another machine, behind the Open Inference Protocol v2: Triton, KServe, MLServer, OpenVINO Model Server.

The address says everything: ``triton://host:port/model``, ``…/model/version``, ``tritons://…`` over TLS, and after a ``?``
any of ``timeout`` (seconds for one answer), ``retries``, ``batch`` (most crops a request), ``binary`` (``auto``, ``yes``
or ``no``: tensors as bytes behind the JSON), ``input`` and ``outputs`` (tensor names, for servers that do not tell) and
``fallback=local``, without which a server that does not answer is an error, never another network.
"""

from __future__ import annotations

import http.client
import json
import logging
import math
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np

from faceproof.errors import DeviceError, NetworkError
from faceproof.runtime.network import FloatArray, Network

log = logging.getLogger("faceproof.runtime")

SCHEMES = ("triton", "tritons")
_NUMPY: dict[str, np.dtype[Any]] = {"FP16": np.dtype("<f2"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8")}
_WORTH_ANOTHER_TRY = frozenset({429, 502, 503, 504})
_FIRST_PAUSE = 0.1
_REMEDY = "Check that the server runs and serves this model; add ?fallback=local to score here when it does not answer."


@dataclass(frozen=True)
class Address:
    """Where a remote network is and how to talk to it; see the module's text."""

    host: str
    port: int
    model: str
    version: str = ""
    tls: bool = False
    timeout: float = 30.0
    retries: int = 2
    batch: int = 32
    binary: str = "auto"
    input: str = ""
    outputs: tuple[str, ...] = ()
    fallback: bool = False

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises :class:`DeviceError` that names what is wrong with the address."""
        try:
            parts = urlsplit(url)
            steps = [step for step in parts.path.split("/") if step]
            asked = {key: values[-1] for key, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
            if parts.scheme not in SCHEMES or not parts.hostname or len(steps) not in (1, 2):
                raise ValueError("it must look like triton://host:port/model")
            fallback = asked.pop("fallback", "")
            if fallback not in ("", "local"):
                raise ValueError("fallback can only be local")
            made = cls(
                host=parts.hostname,
                port=parts.port or 8000,
                model=steps[0],
                version=steps[1] if len(steps) == 2 else "",
                tls=parts.scheme == "tritons",
                timeout=float(asked.pop("timeout", cls.timeout)),
                retries=int(asked.pop("retries", cls.retries)),
                batch=int(asked.pop("batch", cls.batch)),
                binary=asked.pop("binary", cls.binary),
                input=asked.pop("input", ""),
                outputs=tuple(name for name in asked.pop("outputs", "").split(",") if name),
                fallback=fallback == "local",
            )
            if asked:
                raise ValueError(f"unknown option {', '.join(sorted(asked))}")
            if not (0 < made.timeout < math.inf and made.retries >= 0 and made.batch >= 1):
                raise ValueError("timeout and batch must be positive and retries at least 0")
            if made.binary not in ("auto", "yes", "no"):
                raise ValueError("binary can be auto, yes or no")
        except ValueError as error:
            raise DeviceError(
                f"{url} is not the address of a network: {error}", remedy="Write triton://host:port/model."
            ) from None
        return made

    @property
    def path(self) -> str:
        version = f"/versions/{quote(self.version, safe='')}" if self.version else ""
        return f"/v2/models/{quote(self.model, safe='')}{version}"

    def __str__(self) -> str:
        return f"{self.model} on {self.host}:{self.port}"


class TritonNetwork:
    """A network behind the Open Inference Protocol v2 over HTTP. One request at a time, on one kept connection.

    ``local`` loads the network to fall back to, when the address asks for that. Raises :class:`NetworkError` when the
    server does not answer or does not serve the model.
    """

    precision = "fp32"

    def __init__(self, url: str, *, local: Callable[[], Network] | None = None) -> None:
        self.address = Address.parse(url)
        self.runtime = "triton"
        self.device = f"{self.address.host}:{self.address.port}"
        self._connection: http.client.HTTPConnection | None = None
        self._load_local = local if self.address.fallback else None
        self._local: Network | None = None
        self._input, self._binary = self.address.input or "input", self.address.binary == "yes"
        self.outputs = self.address.outputs or ("logit",)
        try:
            self._introduce()
        except NetworkError as error:
            if self._load_local is None:
                raise
            self._fall_back(error, self._load_local)

    def _introduce(self) -> None:
        """Ask the server what it is and the model for the names of its tensors."""
        server = self._ask("GET", "/v2")
        if self.address.binary == "auto":
            self._binary = "binary_tensor_data" in server.get("extensions", [])
        model = self._ask("GET", self.address.path)
        inputs, outputs = model.get("inputs") or [], model.get("outputs") or []
        if inputs and not self.address.input:
            self._input = inputs[0]["name"]
        if outputs and not self.address.outputs:
            self.outputs = tuple(output["name"] for output in outputs)

    def _fall_back(self, why: NetworkError, load: Callable[[], Network]) -> None:
        """From here on the network here, which the report then names."""
        log.warning("%s; scoring here instead", why.message)
        self._local = load()
        self.outputs, self.runtime = self._local.outputs, self._local.runtime
        self.precision, self.device = self._local.precision, self._local.device

    def run(self, batch: FloatArray) -> Mapping[str, FloatArray]:
        if self._local is None:
            try:
                parts = [
                    self._infer(np.ascontiguousarray(batch[start : start + self.address.batch], dtype="<f4"))
                    for start in range(0, len(batch), self.address.batch)
                ]
                return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}
            except NetworkError as error:
                if self._load_local is None:
                    raise
                self._fall_back(error, self._load_local)
        assert self._local is not None
        return self._local.run(batch)

    def _infer(self, batch: FloatArray) -> dict[str, FloatArray]:
        tensor: dict[str, Any] = {"name": self._input, "shape": list(batch.shape), "datatype": "FP32"}
        wanted: list[dict[str, Any]] = [{"name": name} for name in self.outputs]
        raw = b""
        if self._binary:
            raw = batch.tobytes()
            tensor["parameters"] = {"binary_data_size": len(raw)}
            for output in wanted:
                output["parameters"] = {"binary_data": True}
        else:
            tensor["data"] = batch.ravel().tolist()
        answer = self._ask("POST", f"{self.address.path}/infer", {"inputs": [tensor], "outputs": wanted}, raw)
        found = {output["name"]: output["array"] for output in answer.get("outputs", [])}
        for name in self.outputs:
            if name not in found or len(found[name]) != len(batch):
                raise NetworkError(f"{self.address} did not answer {name} for each of {len(batch)} crops")
        return found

    def _ask(
        self, method: str, path: str, content: Mapping[str, Any] | None = None, raw: bytes = b""
    ) -> dict[str, Any]:
        """One exchange, tried again while that may help. Raises :class:`NetworkError`."""
        head = json.dumps(content).encode() if content is not None else b""
        headers = (
            {"Content-Type": "application/json"}
            if not raw
            else {
                "Content-Type": "application/octet-stream",
                "Inference-Header-Content-Length": str(len(head)),
            }
        )
        why = ""
        for attempt in range(self.address.retries + 1):
            if attempt:
                time.sleep(_FIRST_PAUSE * 2 ** (attempt - 1))
            try:
                if self._connection is None:
                    self._connection = self._connect()
                self._connection.request(method, path, head + raw, headers)
                response = self._connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                timed_out = isinstance(error, TimeoutError | socket.timeout)
                why = f"no answer in {self.address.timeout:g} s" if timed_out else str(error) or type(error).__name__
                continue
            if response.status in _WORTH_ANOTHER_TRY:
                why = f"status {response.status}"
                continue
            if response.status != 200:
                raise NetworkError(
                    f"{self.address} refused: {_reason(body) or f'status {response.status}'}", remedy=_REMEDY
                )
            try:
                return _read(body, response.getheader("Inference-Header-Content-Length"))
            except (ValueError, KeyError, TypeError) as error:
                raise NetworkError(f"{self.address} answered what is not the protocol: {error}") from error
        raise NetworkError(f"cannot reach {self.address}: {why}", remedy=_REMEDY)

    def _connect(self) -> http.client.HTTPConnection:
        place = (self.address.host, self.address.port)
        if self.address.tls:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(*place, timeout=self.address.timeout, context=context)
        return http.client.HTTPConnection(*place, timeout=self.address.timeout)

    def close(self) -> None:
        """Close the connection; the next run opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __del__(self) -> None:
        if getattr(self, "_connection", None) is not None:
            self.close()


def _reason(body: bytes) -> str:
    try:
        answer = json.loads(body)
        return str(answer.get("error") or answer.get("detail") or "")[:300]
    except (ValueError, AttributeError):
        return ""


def _read(body: bytes, json_length: str | None) -> dict[str, Any]:
    """An answer's JSON, each output's tensor put in as ``array`` float32, from JSON or from the bytes behind it."""
    end = int(json_length) if json_length else len(body)
    answer = json.loads(body[:end]) if end else {}
    if not isinstance(answer, dict):
        raise ValueError("no object")
    for output in answer.get("outputs", []):
        if not isinstance(output, dict) or "datatype" not in output:
            continue
        dtype = _NUMPY.get(output["datatype"])
        size = (output.get("parameters") or {}).get("binary_data_size")
        if size is None and "data" not in output:
            continue  # the names of a model's outputs, not their values
        if dtype is None:
            raise ValueError(f"tensor of type {output['datatype']}")
        if size is None:
            values = np.asarray(output["data"], dtype)
        else:
            values = np.frombuffer(body[end : end + size], dtype)
            end += size
        output["array"] = values.astype(np.float32).reshape(output["shape"])
    return answer
