"""Runs inside KServe's own environment: an ONNX file behind the Open Inference Protocol v2 with binary tensors."""

import sys

import kserve
import numpy as np
import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse


class OnnxModel(kserve.Model):
    def __init__(self, path: str) -> None:
        super().__init__("small")
        self._session = onnxruntime.InferenceSession(path)
        self.ready = True

    def predict(self, payload: InferRequest, headers: dict | None = None, **_: object) -> InferResponse:
        names = [one.name for one in payload.request_outputs]
        given = {one.name: one.as_numpy().astype(np.float32) for one in payload.inputs}
        outputs = []
        for name, value in zip(names, self._session.run(names, given), strict=True):
            outputs.append(InferOutput(name, list(value.shape), "FP32"))
            outputs[-1].set_data_from_numpy(value, binary_data=True)
        return InferResponse(payload.id or "", self.name, outputs, use_binary_outputs=True)


if __name__ == "__main__":
    server = kserve.ModelServer(http_port=int(sys.argv[2]), enable_grpc=False, workers=1, enable_docs_url=False)
    server.start([OnnxModel(sys.argv[1])])
