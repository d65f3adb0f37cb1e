"""``make audit`` is never quiet about what it does not know: no database, half an answer and a vulnerability all fail."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from tests.support.ports import free_port
from tests.support.replica import ROOT

HOLE: Final = {
    "id": "PYSEC-2026-1",
    "summary": "a hole",
    "affected": [
        {
            "package": {"name": "uvicorn", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}],
        }
    ],
}

Answer = Callable[[str], tuple[int, Any]]


@contextmanager
def database(answer: Answer) -> Iterator[str]:
    """A database of vulnerabilities that answers as told for each package; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, body = answer(asked["package"]["name"])
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()


def audit(osv_url: str) -> subprocess.CompletedProcess[str]:
    """With that database, and nothing else that could be reached."""
    environment = {**os.environ, "OSV_URL": osv_url, "HTTPS_PROXY": f"http://127.0.0.1:{free_port()}"}
    return subprocess.run(
        [sys.executable, "-m", "tests.support.audit"],
        check=False, capture_output=True, text=True, timeout=120, cwd=ROOT, env=environment,
    )  # fmt: skip


def test_without_a_vulnerability_it_says_so_and_lists_the_licences() -> None:
    asked: set[str] = set()

    def answer(name: str) -> tuple[int, Any]:
        asked.add(name)
        return 200, {}

    with database(answer) as url:
        done = audit(url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "No known vulnerability." in done.stdout
    assert re.search(r"^starlette +\S+ +BSD-3-Clause$", done.stdout, re.MULTILINE)
    assert {"starlette", "uvicorn", "lupa", "hatchling"} <= asked, "what is locked, with what builds it"


def test_a_vulnerability_fails_it_with_its_name_and_the_version_that_mends_it() -> None:
    with database(lambda name: (200, {"vulns": [HOLE]} if name == "uvicorn" else {})) as url:
        done = audit(url)
    assert done.returncode == 1
    assert re.fullmatch(r"uvicorn \S+: PYSEC-2026-1, fixed in 99\.0\n", done.stderr)


def test_a_database_that_cannot_be_reached_fails_it_with_a_sentence() -> None:
    done = audit(f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "nothing is known about this version's dependencies" in done.stderr
    assert "osv: it could not be reached" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "No known vulnerability" not in done.stdout


def test_a_database_that_fails_is_not_taken_for_a_good_sign() -> None:
    with database(lambda name: (500 if name == "uvicorn" else 200, {})) as url:
        done = audit(url)
    assert done.returncode == 1
    assert "nothing is known" in done.stderr
    assert "Traceback" not in done.stderr
