"""Who takes part in the comparison: how each is started, and which release it is."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

CONTENDERS = Path(__file__).resolve().parent / "contenders"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vapi-cache-bench"

SECRET = "bench-webhook-secret-0123456789"
TOKEN = "bench-read-token-0123456789"

OURS = "this service"
DESIGN_REDIS = "original design, ioredis"
DESIGN_MEMORY = "original design, in memory"
LEAN_REDIS = "original design without raw payload, ioredis"
LEAN_MEMORY = "original design without raw payload, in memory"
FASTAPI = "FastAPI + pydantic + redis-py"
LEAN_FASTAPI = "FastAPI + pydantic + redis-py without raw payload"
GO = "Go, one core, go-redis"
STARLETTE = "bare Starlette handler (ceiling)"
ASGI = "bare ASGI handler (ceiling)"
REDIS = "redis-benchmark: SET 23 kB / GET"


@dataclass(frozen=True)
class Peer:
    name: str
    command: list[str]
    needs: Path
    """What must be there; otherwise the contender is left out."""
    settings: dict[str, str] = field(default_factory=dict)
    stores: bool = True
    """False for a ceiling, which answers every request alike."""


def all_peers(redis_url: str) -> list[Peer]:
    return [_ours(redis_url), *_designs(redis_url), *_fastapis(redis_url), _go(redis_url), *_ceilings()]


def _ours(redis_url: str) -> Peer:
    settings = {
        "REDIS_URL": redis_url,
        "VAPI_WEBHOOK_SECRET": SECRET,
        "API_READ_TOKENS": TOKEN,
        "LOG_FORMAT": "json",
        # The status updates here are never followed by their report within the minute, as VAPI's are: without this the
        # service would settle 10,000 records while another contender is being measured.
        "REPORT_GRACE_S": "3600",
    }
    return Peer(OURS, [sys.executable, "-m", "service"], Path(sys.executable), settings)


def _peer_settings(redis_url: str, prefix: str) -> dict[str, str]:
    return {"REDIS_URL": redis_url, "KEY_PREFIX": f"{prefix}:", "VAPI_WEBHOOK_SECRET": SECRET}


def _designs(redis_url: str) -> list[Peer]:
    folder = CACHE / "fastify"
    peers = []
    for name, store, keeps_payload in (
        (DESIGN_REDIS, "redis", "1"),
        (DESIGN_MEMORY, "memory", "1"),
        (LEAN_REDIS, "redis", "0"),
        (LEAN_MEMORY, "memory", "0"),
    ):
        own = {"NODE_ENV": "production", "STORE": store, "KEEP_PAYLOAD": keeps_payload}
        settings = _peer_settings(redis_url, f"design{keeps_payload}") | own
        peers.append(Peer(name, [node(), str(folder / "server.js")], folder / "node_modules/fastify", settings))
    return peers


def _fastapis(redis_url: str) -> list[Peer]:
    return [
        Peer(
            name,
            _uvicorn("fastapi", "app:app"),
            CACHE / "venv",
            {**_peer_settings(redis_url, f"fastapi{keeps_payload}"), "KEEP_PAYLOAD": keeps_payload},
        )
        for name, keeps_payload in ((FASTAPI, "1"), (LEAN_FASTAPI, "0"))
    ]


def _go(redis_url: str) -> Peer:
    settings = {**_peer_settings(redis_url, "go"), "GOMAXPROCS": "1"}
    return Peer(GO, [str(CACHE / "go-server")], CACHE / "go-server", settings)


def _ceilings() -> list[Peer]:
    return [
        Peer(STARLETTE, _uvicorn("bare", "with_starlette:app"), CACHE / "venv", stores=False),
        Peer(ASGI, [*_uvicorn("bare", "asgi:app"), "--lifespan", "off"], CACHE / "venv", stores=False),
    ]


def _uvicorn(folder: str, app: str) -> list[str]:
    options = "--loop uvloop --http httptools --no-access-log --log-level warning --port {port}".split()
    return [str(CACHE / "venv/bin/python"), "-m", "uvicorn", "--app-dir", str(CONTENDERS / folder), app, *options]


def node() -> str:
    """The Node that package.json asks for; the system's where that could not be had."""
    own = CACHE / "fastify/node_modules/node/bin/node"
    return str(own) if own.exists() else "node"


def versions() -> dict[str, str]:
    """Releases of what took part; what is not there is left out."""
    python = "import platform; print(platform.python_version())"
    installed = "from importlib.metadata import version; print({}, sep='')"
    named = ", '; ', ".join(f"'{name} ', version('{name}')" for name in ("fastapi", "pydantic", "redis", "uvicorn"))
    npm = "for (const n of ['fastify','zod','ioredis']) console.log(n, require('./node_modules/'+n+'/package.json').version)"
    questions = {
        "Python": [sys.executable, "-c", python],
        "Node": [node(), "--version"],
        "npm packages": [node(), "-e", npm],
        "Python packages of the peers": [str(CACHE / "venv/bin/python"), "-c", installed.format(named)],
        "Go": ["go", "env", "GOVERSION"],
        "Redis": ["redis-server", "--version"],
    }
    answers = {name: _asked(command) for name, command in questions.items()}
    return {name: answer for name, answer in answers.items() if answer}


def _asked(command: list[str]) -> str:
    folder = CACHE / "fastify"
    try:
        done = subprocess.run(command, cwd=folder if folder.exists() else None, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return "; ".join(done.stdout.strip().splitlines()).removeprefix("Redis server v=").split(" sha=")[0]
