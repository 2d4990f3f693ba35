"""The exported file behind MLServer, in an environment of its own: the tensors and the protocol that Triton takes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):  # type: ignore[misc]  # MLServer is not in our environment
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        file = Path(self.settings.parameters.uri).resolve()
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        feed: dict[str, Any] = {}
        for tensor in payload.inputs:
            is_text = tensor.datatype == "BYTES"
            values = np.array(StringCodec.decode_input(tensor), object) if is_text else NumpyCodec.decode_input(tensor)
            feed[tensor.name] = values.reshape(tensor.shape)
        answer = self._session.run(None, feed)[0]
        output = NumpyCodec.encode_output("pickup_time_s", answer)
        return InferenceResponse(model_name=self.name, outputs=[output])
