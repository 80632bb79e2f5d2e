"""What a published ONNX graph knows and does not give out, made an output of it. Runs no graph."""


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
