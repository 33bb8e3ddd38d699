"""Spoken words from the espeak-ng library in the package espeakng-loader."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ensemblefuse.datasets._base import write_wav

_RETRIEVAL = 1  # audio is passed to the callback, not to a sound card
_DONT_EXIT = 0x8000  # without this bit espeak-ng ends the whole process when it finds no data
_RATE_PARAMETER, _PITCH_PARAMETER = 1, 3
_CHARS_UTF8 = 1
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

# One timbre per voice, so that a split by voice tests on unknown speakers. espeak-ng accepts a wrong variant
# name without an error and uses the plain voice: these names were checked against those in its data folder.
_FAMILIES = {"m": 8, "f": 5}
_VARIANTS = (
    *(f"{family}{i + 1}" for family, count in _FAMILIES.items() for i in range(count)),
    *("adam", "Alicia", "Andy", "Annie", "belinda", "grandma", "linda", "michel", "steph", "travis", "zac"),
)
_ACCENTS = ("en-us", "en-gb-x-rp", "en-gb-scotland")
VOICES = tuple(f"{_ACCENTS[i % len(_ACCENTS)]}+{variant}" for i, variant in enumerate(_VARIANTS))
SPEEDS = (130, 165, 200)  # words per minute
PITCHES = (30, 50, 70)  # 0 to 99


class Utterance(NamedTuple):
    """One way to say one word."""

    word: str
    voice: str
    speed: int
    pitch: int

    @property
    def file_name(self) -> str:
        """Return the name of its WAV file."""
        return f"{self.word}-{self.voice}-{self.speed}-{self.pitch}.wav"


class SpeechUnavailableError(RuntimeError):
    """espeak-ng is not installed or does not start. The caller then uses another modality."""


_lock = threading.Lock()  # espeak-ng has global state in a process
_speaker: _Espeak | None = None


class _Espeak:
    """The C library, which is started once."""

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise SpeechUnavailableError("the package espeakng-loader is not installed") from error
        try:
            self._library: Any = ctypes.CDLL(espeakng_loader.get_library_path())
            data = espeakng_loader.get_data_path()
        except (OSError, RuntimeError) as error:
            raise SpeechUnavailableError(f"espeak-ng does not load ({error})") from error
        self._declare()
        self.rate: int = self._library.espeak_Initialize(_RETRIEVAL, 0, str(data).encode(), _DONT_EXIT)
        if self.rate <= 0:
            raise SpeechUnavailableError(f"espeak-ng does not start (code {self.rate})")
        self._parts: list[np.ndarray] = []
        # Stored on the instance: C keeps the pointer, so Python must keep the object.
        self._callback = _CALLBACK(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def _declare(self) -> None:
        integer, text, pointer = ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p
        self._library.espeak_Initialize.argtypes = [integer, integer, text, integer]
        self._library.espeak_SetVoiceByName.argtypes = [text]
        self._library.espeak_SetParameter.argtypes = [integer, integer, integer]
        unsigned = ctypes.c_uint
        self._library.espeak_Synth.argtypes = [
            *(text, ctypes.c_size_t, unsigned, integer, unsigned, unsigned, pointer, pointer)
        ]

    def _receive(self, samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            self._parts.append(np.ctypeslib.as_array(samples, (count,)).copy())  # C reuses its buffer
        return 0

    def say(self, utterance: Utterance) -> np.ndarray:
        """Return the samples of a spoken word: a float array of shape (n_samples,) in [-1, 1]."""
        self._parts.clear()
        content = utterance.word.encode() + b"\0"
        codes = [
            self._library.espeak_SetVoiceByName(utterance.voice.encode()),
            self._library.espeak_SetParameter(_RATE_PARAMETER, utterance.speed, 0),
            self._library.espeak_SetParameter(_PITCH_PARAMETER, utterance.pitch, 0),
        ]
        if hasattr(self._library, "espeak_ng_SetRandSeed"):  # breath noise is random; make it the same each time
            self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        codes.append(self._library.espeak_Synth(content, len(content), 0, 1, 0, _CHARS_UTF8, None, None))
        self._library.espeak_Synchronize()
        if any(codes) or not self._parts:
            raise SpeechUnavailableError(f"espeak-ng did not say {utterance} (codes {codes})")
        return np.concatenate(self._parts) / 32768.0


def start_speech() -> None:
    """Start espeak-ng if it is not running yet; raise `SpeechUnavailableError` if this fails."""
    global _speaker
    with _lock:
        if _speaker is None:
            _speaker = _Espeak()


def spoken(utterance: Utterance, folder: Path) -> Path:
    """Return the WAV file of an utterance in `folder`; create it if it does not exist."""
    path = folder / utterance.file_name
    if not path.is_file():
        start_speech()
        assert _speaker is not None
        with _lock:
            write_wav(path, _speaker.say(utterance), _speaker.rate)
    return path
