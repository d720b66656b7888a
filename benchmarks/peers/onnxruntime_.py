"""onnxruntime: inference of a model written as ONNX."""
from __future__ import annotations

from typing import Any

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from workloads.base import Inference

from .base import Peer, Step, in_turn


class Writer:
    """The words of inference as nodes of a graph; what goes round is the names of values."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        out = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [out], **attributes))
        return out

    def linear(self, x: str, w: str, b: str) -> str:
        return self.add("Gemm", x, w, b, transB=1)

    def relu(self, x: str) -> str:
        return self.add("Relu", x)


class OnnxRuntime(Peer):
    def infer(self, w: Inference) -> Step:
        p, batches, writer = w.params(), w.batches(), Writer()
        y = w.f(writer, {k: k for k in p}, "x")
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, batches[0][0].shape)]
        outputs = [helper.make_tensor_value_info(y, TensorProto.FLOAT, ["rows", "columns"])]
        graph = helper.make_graph(writer.nodes, "answer", inputs, outputs, [numpy_helper.from_array(v, k) for k, v in p.items()])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return Step(in_turn(lambda x: session.run(None, {"x": x})[0], batches))
