"""Networks of voices: what a published ONNX graph does not give out made an output of it, and a run that gives back
its memory. Opens no file."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SHRINK = "memory.enable_memory_arena_shrinkage"  # Source: onnxruntime_run_options_config_keys.h


def run(session: "InferenceSession", feeds: Mapping[str, Any]) -> list[Any]:
    """All outputs of a network, which keeps none of the memory that it computed in.

    Otherwise it keeps what its longest sentence needed, once for each that was spoken at the same time: after ten
    sentences, two at a time, a process of 760 MB held 500 MB with this, in the same time.
    """
    from onnxruntime import RunOptions

    options = RunOptions()
    options.add_run_config_entry(SHRINK, "cpu:0")
    outputs: list[Any] = session.run(None, feeds, options)
    return outputs


def with_output(model: bytes, name: str) -> bytes:
    """An ONNX model that also gives out its inner tensor `name`, after the outputs it had.

    Two protobuf messages written one after the other read as one, repeated fields appended to each other: the second
    one here is a ModelProto whose graph (field 7) has one output (field 12), which has a name (field 1). Its type is
    inferred when the model is loaded.

    Source: protobuf.dev, Encoding, "Last One Wins"; onnx/onnx.proto.
    """
    return model + _field(7, _field(12, _field(1, name.encode())))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field; content of at most 127 bytes, whose length fits one byte."""
    if len(content) > 127:
        raise ValueError(f"content must be 127 bytes or less, got {len(content)}")
    return bytes([number << 3 | 2, len(content)]) + content
