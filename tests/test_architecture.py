"""The house stays as it was drawn: imports go one way, libraries are known where they belong, importing does nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.for_each import for_each

ROOT = Path(__file__).resolve().parents[1]
SERVICE = ROOT / "service"
MODULES = sorted(SERVICE.rglob("*.py"))

MAY_IMPORT = {
    "cli": {"cli", "server", "vapi", "kestra", "archive", "store", "redis_client", "calls"},
    "server": {"server"},
    "api": {"api", "jobs", "vapi", "kestra", "archive", "store", "metrics", "calls"},
    "jobs": {"jobs", "vapi", "kestra", "archive", "store", "calls"},
    "vapi": {"vapi", "calls"},
    "kestra": {"kestra"},
    "archive": {"archive", "calls"},
    "store": {"store", "redis_client", "calls"},
    "calls": {"calls"},
    "metrics": {"metrics", "calls"},
    "redis_client": {"redis_client"},
}
"""What each folder may import of the folders: itself and those below it. The plain modules beside them are for all."""

PLAIN_OF_CALLS = ("errors",)
"""What a call is stands beneath everything: of the modules beside the folders it imports only this one."""

PUTS_TOGETHER = ("app.py", "assembly.py", "lifespan.py")
KNOWS_HTTP = ("api", "app.py", "lifespan.py")
KNOWS_REDIS = ("store", "redis_client")
REDIS = ("redis", "fakeredis", "hiredis")

IMPORT_EVERYTHING = """
import importlib, os, sys
import encodings, asyncio, socket, logging, ssl, uuid, multiprocessing.spawn  # what the standard library does is not ours
package = os.path.join(os.getcwd(), "service")
told = []
PASSES_ON = (os.__file__, "<frozen os>", "<frozen _collections_abc>", sys.modules["_collections_abc"].__file__)

class Watched(dict):
    def _tell(self, name):
        frame = sys._getframe(2)
        while frame is not None and frame.f_code.co_filename in PASSES_ON:
            frame = frame.f_back
        if frame is not None and frame.f_code.co_filename.startswith(package):
            told.append("setting " + str(name))
    def __getitem__(self, name):
        self._tell(name)
        return super().__getitem__(name)
    def __contains__(self, name):
        self._tell(name)
        return super().__contains__(name)
    def __iter__(self):
        self._tell("all of them")
        return super().__iter__()

os.environ._data = Watched(os.environ._data)
SOCKETS = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostname", "subprocess.Popen", "os.system")

def hook(event, arguments):
    if event in SOCKETS:
        told.append(event)
    elif event == "open":
        path, mode = str(arguments[0]), arguments[1]
        writes = mode is not None and set(mode) & set("wax+")
        ours = path.startswith(package) and not path.endswith((".py", ".pyc", ".so")) and ".pyc." not in path
        if (writes and ".pyc" not in path) or ours:
            told.append("open " + path)

sys.addaudithook(hook)
for name in sys.argv[1:]:
    importlib.import_module(name)
print("\\n".join(told))
sys.exit(bool(told))
"""


def place_of(path: Path) -> str:
    """The folder of a module, or its file name where it stands beside the folders."""
    return path.relative_to(SERVICE).parts[0]


def imports_of(path: Path) -> Iterator[str]:
    """The full names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def folders_of(name: str) -> set[str]:
    """The folder of the service that an imported name stands in, if any."""
    parts = name.split(".")
    return {parts[1]} & MAY_IMPORT.keys() if parts[0] == "service" and len(parts) > 1 else set()


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


each_module = for_each("path", MODULES)


@each_module
def test_imports_go_one_way(path: Path) -> None:
    allowed = MAY_IMPORT.get(place_of(path))
    if allowed is not None:
        assert set().union(*(folders_of(name) for name in imports_of(path))) <= allowed


def test_the_folders_are_these_and_none_imports_one_that_imports_it() -> None:
    assert {path.parent.name for path in SERVICE.glob("*/__init__.py")} == MAY_IMPORT.keys()
    circles = [(one, other) for one, below in MAY_IMPORT.items() for other in below - {one} if one in MAY_IMPORT[other]]
    assert circles == []


@for_each("path", [path for path in MODULES if place_of(path) == "calls"])
def test_what_a_call_is_imports_nothing_of_ours_but_the_errors(path: Path) -> None:
    beside = {name.split(".")[1] for name in imports_of(path) if name.startswith("service.")} - {"calls"}
    assert beside <= {*PLAIN_OF_CALLS}


@each_module
def test_nothing_imports_the_api_but_what_puts_the_service_together(path: Path) -> None:
    if place_of(path) not in (*PUTS_TOGETHER, "api"):
        assert not any("api" in folders_of(name) for name in imports_of(path))


@each_module
def test_only_the_store_and_its_client_know_redis(path: Path) -> None:
    if place_of(path) not in KNOWS_REDIS:
        assert not {name.split(".")[0] for name in imports_of(path)} & set(REDIS)


@each_module
def test_only_the_archive_knows_postgresql(path: Path) -> None:
    if place_of(path) != "archive":
        assert "asyncpg" not in {name.split(".")[0] for name in imports_of(path)}


@each_module
def test_only_the_api_and_what_puts_the_service_together_know_starlette(path: Path) -> None:
    if place_of(path) not in KNOWS_HTTP:
        assert "starlette" not in {name.split(".")[0] for name in imports_of(path)}


@each_module
def test_only_outbound_knows_the_http_client(path: Path) -> None:
    if path.name != "outbound.py":
        assert "httpx2" not in {name.split(".")[0] for name in imports_of(path)}


def test_outbound_imports_nothing_of_ours_but_the_errors() -> None:
    ours = {name.split(".")[1] for name in imports_of(SERVICE / "outbound.py") if name.startswith("service.")}
    assert ours == {"errors"}


@each_module
def test_no_other_module_lists_the_statuses(path: Path) -> None:
    """The statuses and their order exist once, in calls/status.py."""
    if path.name == "status.py":
        return
    texts = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    assert len(texts & {"scheduled", "queued", "ringing", "in-progress", "forwarding"}) < 3


def test_importing_every_module_opens_nothing_and_reads_no_setting() -> None:
    names = [name_of(path) for path in MODULES if path.name != "__main__.py"]
    command = [sys.executable, "-c", IMPORT_EVERYTHING, *names]
    result = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert (result.stdout.strip(), result.stderr.strip(), result.returncode) == ("", "", 0)
