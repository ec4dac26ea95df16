"""A program of its own, which needs Python alone: espeak-ng's library speaks texts, and says which phoneme begins where.

Read from stdin as JSON: a list of [text, voice, words a minute]. Written to stdout for each: a line of JSON, {"phonemes": [...],
"starts": [...], "samples": n, "rate": 22050, "version": "1.51"}, and n samples of 16 bits; or {"error": "..."}. It exits with 3
where there is no library.

It is run by `espeak.py`. What the library says depends on all that it has said before in its process; so each text has a process
that is forked where the library has said nothing yet, and its sound is a function of the text and the voice. A crash of the
library is an error of one text.

The numbers below are those of espeak-ng's public interface (speak_lib.h, version 1.48 and later).
"""

import array
import ctypes
import ctypes.util
import json
import os
import sys
import traceback

SYNCHRONOUS, PHONEME_EVENTS, NO_EXIT = 2, 0x1, 0x8000
TERMINATOR, PHONEME = 0, 7
RATE_PARAMETER, CHARACTER, UTF8, END_PAUSE = 1, 1, 1, 0x1000


class Name(ctypes.Union):
    """What an event tells: a phoneme's name in eight bytes."""

    _fields_ = [("number", ctypes.c_int), ("pointer", ctypes.c_void_p), ("text", ctypes.c_char * 8)]


class Event(ctypes.Structure):
    """What the library says of a place in the sound; sample: the place."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", Name),
    ]


Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))


def speak(library: ctypes.CDLL, text: str, voice: str, speed: int) -> tuple[dict, bytes]:
    """What is to be written of one text."""
    _, _, variant = voice.partition("+")
    path = ctypes.c_char_p()
    library.espeak_Info.restype = ctypes.c_char_p
    version = (library.espeak_Info(ctypes.byref(path)) or b"").decode(errors="replace").split()
    known = os.path.isfile(os.path.join((path.value or b"").decode(), "voices", "!v", variant)) if variant else True
    # An unknown variant is passed over in silence by the library.
    if not known or "/" in variant or library.espeak_SetVoiceByName(voice.encode()) != 0:
        return {"error": "voice"}, b""
    samples, phonemes, starts = array.array("h"), [], []

    def heard(wave, count, events):
        if count > 0:
            samples.frombytes(ctypes.string_at(wave, 2 * count))
        i = 0
        while events[i].type != TERMINATOR:
            if events[i].type == PHONEME:
                phonemes.append(events[i].name.text.decode(errors="replace"))
                starts.append(events[i].sample)
            i += 1
        return 0

    callback = Callback(heard)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetParameter(RATE_PARAMETER, speed, 0)
    data = text.encode()
    failed = library.espeak_Synth(data, len(data) + 1, 0, CHARACTER, 0, UTF8 | END_PAUSE, None, None)
    if failed:
        return {"error": f"espeak-ng gave error {failed}"}, b""
    told = {"phonemes": phonemes, "starts": starts, "samples": len(samples), "version": version[0] if version else ""}
    return told, samples.tobytes()


def alone(library: ctypes.CDLL, rate: int, item: list) -> bytes:
    """What is to be written of one text, spoken in a process of its own."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(read)
            told, sound = speak(library, *item)
            with os.fdopen(write, "wb") as out:
                out.write(json.dumps(told | {"rate": rate}).encode() + b"\n" + sound)
            status = 0
        except BaseException:  # whatever it was, the parent goes on
            traceback.print_exc()
        os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        found = pipe.read()
    _, status = os.waitpid(child, 0)
    return found if status == 0 else json.dumps({"error": "espeak-ng crashed"}).encode() + b"\n"


def main() -> int:
    """See the module."""
    items = json.load(sys.stdin)
    name = ctypes.util.find_library("espeak-ng")
    if name is None:
        return 3
    library = ctypes.CDLL(name)
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, None, PHONEME_EVENTS | NO_EXIT)
    if rate <= 0:
        return 3
    for item in items:
        sys.stdout.buffer.write(alone(library, rate, item))
    return 0


if __name__ == "__main__":
    sys.exit(main())
