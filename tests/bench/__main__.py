"""All benchmarks, one after the other, into one results file: results.md beside this, with results.svg.

    python -m tests.bench [--quick] [--soak] [--only NAME ...]

One that fails is named in the end and does not keep the others from running. About twenty minutes on two quiet cores.
"""

from __future__ import annotations

import subprocess
import sys
import time

from tests.bench import sections
from tests.bench.servers import ENDS_WITH_ITS_STARTER, ROOT

BENCHMARKS: dict[str, tuple[str, ...]] = {
    "compare": (),
    "wake": (),
    "streams": (),
    "growth": (),
    "memory": (),
    "open_model": (),
    "workers": (),
    "start_up": (),
    "archive": (),
    "soak": ("--seconds", "60"),
}
"""In the order of the results file; with the options that keep all of them together below twenty minutes."""

LONG_SOAK = ("--seconds", "600")
LIMIT_S = 2400
"""Of one benchmark, children included; none comes near it."""


def main() -> None:
    options = sections.options(__doc__)
    options.add_argument("--soak", action="store_true", help="soak for ten minutes instead of one")
    options.add_argument("--only", nargs="*", choices=BENCHMARKS, default=list(BENCHMARKS))
    chosen = options.parse_args()
    failed = []
    for name in chosen.only:
        arguments = LONG_SOAK if name == "soak" and chosen.soak else BENCHMARKS[name]
        began = time.monotonic()
        if not succeeds(name, *arguments, *(["--quick"] if chosen.quick else [])):
            failed.append(name)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    if failed:
        sys.exit(f"FAILED: {', '.join(failed)}")


def succeeds(name: str, *arguments: str) -> bool:
    command = [*ENDS_WITH_ITS_STARTER, sys.executable, "-m", f"tests.bench.{name}", *arguments]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            return process.wait(LIMIT_S) == 0
        except subprocess.TimeoutExpired:
            process.terminate()
            return False
        except KeyboardInterrupt:
            process.wait()
            raise


if __name__ == "__main__":
    main()
