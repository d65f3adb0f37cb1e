"""simdjson only spares work: where it has no release for the Python, the same bodies are taken and refused."""

from __future__ import annotations

import subprocess
import sys

import msgspec

from tests.support.vapi_sender import sample_bytes, sample_names
from tests.vapi.decoding import around, refusal_of

BODIES = [
    *map(sample_bytes, sample_names()),
    *(around(value) for value in ("1e400", "9" * 400, "-1E999", "[" * 899 + "]" * 899, "[" * 901 + "]" * 901)),
    *(around(value) for value in (r'"\ud83d"', r'"\ud83d\ude00"', '"é ✓ 😀"', "18446744073709551616", "1e308", "NaN")),
    around(b'"\xff"'),
    around("1")[:-1],
    b"\xef\xbb\xbf" + around("1"),
    # Whole only inside the brackets that simdjson is given around a body.
    b"%b],[%b" % (around("1"), around("1")),
    b"%b]%b[1" % (around("1"), b"]" * 123 + b",[" + b"[" * 122),
    b"]" * 124 + b"[" * 124,
]

PROGRAM = """
import sys
sys.modules["simdjson"] = None
import msgspec
from tests.vapi.test_without_simdjson import BODIES, outcomes_of
sys.stdout.buffer.write(msgspec.json.encode(outcomes_of(BODIES)))
"""


def outcomes_of(bodies: list[bytes]) -> list[str]:
    return [str(refusal_of(body)) for body in bodies]


def test_without_simdjson_the_same_bodies_are_taken_and_refused() -> None:
    without = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True).stdout

    assert msgspec.json.decode(without) == outcomes_of(BODIES)
