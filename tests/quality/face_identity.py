"""Makes pipeline/models/face_identity.onnx: python -m tests.quality.face_identity FOLDER (with the package onnx).

FOLDER is `model/` of the npm package @vladmandic/face-api 1.7.15 (MIT), which holds dlib's network for recognising
faces in 6 MB, a byte a weight. Its weights are Davis King's, who released them into the public domain.
Source: dlib-models, README.md, dlib_face_recognition_resnet_model_v1; the layers: dlib, dnn_face_recognition_ex.cpp.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from pipeline import models

SOURCE = "face_recognition_model.bin"
SOURCE_SHA256 = "b413e420d6840b2775fba32008db6f3cddb07d485967fb42cfcf379c16a8c589"
MEAN_RGB, SCALE = (122.782, 117.001, 104.298), 256.0  # taken away from a picture's levels, and divided by
BLOCKS = (
    *("conv32_1", "conv32_2", "conv32_3"),
    *("conv64_down", "conv64_1", "conv64_2", "conv64_3"),
    *("conv128_down", "conv128_1", "conv128_2"),
    *("conv256_down", "conv256_1", "conv256_2", "conv256_down_out"),
)


def read_weights(folder: Path) -> dict[str, np.ndarray]:
    """Every tensor of the package's model by its name, float64; filters are (height, width, in, out)."""
    content = (folder / SOURCE).read_bytes()
    if hashlib.sha256(content).hexdigest() != SOURCE_SHA256:
        raise ValueError(f"{SOURCE} is not the one of @vladmandic/face-api 1.7.15")
    weights, start = {}, 0
    for entry in json.loads((folder / "face_recognition_model-weights_manifest.json").read_text())[0]["weights"]:
        count, kind = int(np.prod(entry["shape"])), entry.get("quantization")
        values = np.frombuffer(content, np.uint8 if kind else np.float32, count, start)
        start += values.nbytes
        values = values.astype(np.float64) * kind["scale"] + kind["min"] if kind else values.astype(np.float64)
        weights[entry["name"]] = values.reshape(entry["shape"])
    return weights


class Graph:
    """An ONNX graph under construction: nodes in order, and the numbers they need."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.weights = weights
        self.nodes: list = []
        self.numbers: list = []

    def node(self, kind: str, *inputs: str, **attributes: object) -> str:
        """Add a node; the name of its output."""
        from onnx import helper

        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def number(self, values: np.ndarray) -> str:
        """Add a constant."""
        from onnx import numpy_helper

        name = f"number_{len(self.numbers)}"
        self.numbers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def convolve(self, picture: str, name: str, *, stride: int, pad: int) -> str:
        """A convolution with its scale folded in, kept as a byte a weight and one step for every output channel."""
        scale, shift = self.weights[f"{name}/scale/weights"], self.weights[f"{name}/scale/biases"]
        filters = self.weights[f"{name}/conv/filters"].transpose(3, 2, 0, 1) * scale[:, None, None, None]
        bias = self.weights[f"{name}/conv/bias"] * scale + shift
        step = np.abs(filters).max(axis=(1, 2, 3)) / 127
        kept = np.round(filters / step[:, None, None, None]).astype(np.int8)
        numbers = (kept, step.astype(np.float32), np.zeros(len(step), np.int8))
        kernel = self.node("DequantizeLinear", *map(self.number, numbers), axis=0)
        bias_name = self.number(bias.astype(np.float32))
        return self.node(
            "Conv", picture, kernel, bias_name, strides=[stride] * 2, pads=[pad] * 4, kernel_shape=filters.shape[2:]
        )

    def pad(self, picture: str, *, channels: int, px: int) -> str:
        """Zeros after the last channel, and at the right and lower edge."""
        return self.node("Pad", picture, self.number(np.array([0, 0, 0, 0, 0, channels, px, px], np.int64)))


def build(weights: dict[str, np.ndarray]) -> bytes:
    """The network as ONNX: "chip" (1, 3, 150, 150) RGB levels 0..255 to "descriptor" (1, 128)."""
    from onnx import TensorProto, checker, helper

    graph = Graph(weights)
    mean = graph.number(np.array(MEAN_RGB, np.float32).reshape(1, 3, 1, 1))
    picture = graph.node("Div", graph.node("Sub", "chip", mean), graph.number(np.array(SCALE, np.float32)))
    picture = graph.node("Relu", graph.convolve(picture, "conv32_down", stride=2, pad=0))
    picture = graph.node("MaxPool", picture, kernel_shape=[3, 3], strides=[2, 2])
    channels, px = 32, 35  # 150 pixels, halved twice
    for block in BLOCKS:
        filters = weights[f"{block}/conv1/conv/filters"].shape[-1]
        if "down" in block:
            branch = graph.node("Relu", graph.convolve(picture, f"{block}/conv1", stride=2, pad=0))
            picture = graph.node("AveragePool", picture, kernel_shape=[2, 2], strides=[2, 2])
            if filters > channels:
                picture = graph.pad(picture, channels=filters - channels, px=0)
            halved, pooled = (px - 3) // 2 + 1, px // 2
        else:
            branch = graph.node("Relu", graph.convolve(picture, f"{block}/conv1", stride=1, pad=1))
            halved = pooled = px
        branch = graph.convolve(branch, f"{block}/conv2", stride=1, pad=1)
        if halved < pooled:
            branch = graph.pad(branch, channels=0, px=pooled - halved)
        picture = graph.node("Relu", graph.node("Add", picture, branch))
        channels, px = filters, pooled
    flat = graph.node("Flatten", graph.node("GlobalAveragePool", picture))
    last = graph.number(weights["fc"].astype(np.float32))
    graph.nodes.append(helper.make_node("MatMul", [flat, last], ["descriptor"]))
    made = helper.make_graph(
        graph.nodes,
        "dlib_face_recognition_resnet_model_v1",
        [helper.make_tensor_value_info("chip", TensorProto.FLOAT, [1, 3, 150, 150])],
        [helper.make_tensor_value_info("descriptor", TensorProto.FLOAT, [1, 128])],
        graph.numbers,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


if __name__ == "__main__":
    written = build(read_weights(Path(sys.argv[1])))
    (models.FOLDER / models.FACE_IDENTITY).write_bytes(written)
    print(models.FACE_IDENTITY, len(written), hashlib.sha256(written).hexdigest())
