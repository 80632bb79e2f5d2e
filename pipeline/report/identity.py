"""Whose face it is, as 128 numbers that lie near each other for one person. Compares, and judges nothing."""

import threading
from functools import cache

import cv2
import numpy as np

from pipeline import models

CHIP_PX = 150  # side of the picture the network takes. Source: dlib, face_recognition_model_v1
MARGIN = 0.25  # of the face's box, left free around it on each side. Source: dlib, get_face_chip_details
ANCHORS = (33, 133, 362, 263, 2)  # outer and inner corners of the eyes, left of the picture first; under the nose
PLACES = (  # where these five lie in the face's box. Source: dlib, get_face_chip_details, its mean face
    (0.1205750620789, 0.2137274526848),
    (0.3340850613712, 0.2290642403242),
    (0.6460604764104, 0.2289674387677),
    (0.8595674595992, 0.2134981538014),
    (0.4901123135679, 0.6277975316475),
)


def describe(picture: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Describe a face.

    Args:
        picture: (height, width, 3) uint8, RGB.
        landmarks: (478, 2 or 3), pixels of it.

    Returns:
        (128,) float32. Two pictures of one person lie less than 0.6 apart, of two persons farther, in 99.4 % of pairs
        of photographs. Source: dlib-models, README.md.
    """
    there = (MARGIN + np.array(PLACES)) / (1 + 2 * MARGIN) * CHIP_PX
    move, _ = cv2.estimateAffinePartial2D(landmarks[list(ANCHORS), :2].astype(np.float64), there, method=cv2.LMEDS)
    if move is None:  # all five in one place
        return np.zeros(128, np.float32)
    shrink = float(np.hypot(*move[0, :2]))
    if shrink < 0.5:  # areas first: sampling a large face directly would alias
        factor = 2 * shrink
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        move[:, :2] = move[:, :2] / factor
    chip = cv2.warpAffine(picture, move, (CHIP_PX, CHIP_PX), flags=cv2.INTER_LINEAR)
    network, turn = _network()
    with turn:
        network.setInput(chip.transpose(2, 0, 1)[None].astype(np.float32), "chip")
        descriptor: np.ndarray = network.forward()[0].copy()
    return descriptor


@cache
def _network() -> tuple[cv2.dnn.Net, threading.Lock]:
    """The network, and whose turn it is: one thread at a time."""
    content = np.frombuffer(models.read(models.FACE_IDENTITY), np.uint8)
    return cv2.dnn.readNetFromONNX(content), threading.Lock()
