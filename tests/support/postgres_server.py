"""A real PostgreSQL server on a free port, started, hung, killed and stopped by the tests."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final, Self

from tests.support.eventually import PATIENCE_S, eventually_sync
from tests.support.ports import free_port

BINARIES: Final = Path("/usr/lib/postgresql")
"""Where Debian keeps the servers, one folder for each version. They are on nobody's PATH."""

SUPERUSER: Final = "postgres"
NOBODY: Final = 65_534
"""Linux's user, and group, that owns nothing."""

SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",  # the files survive kill -9, though not a loss of power
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "100",
    "log_min_messages": "warning",
}

_databases = itertools.count(1)


class PostgresProcess:
    """One server with its own empty cluster. Everybody on this machine may connect as any role, without a password."""

    def __init__(self, **settings: str) -> None:
        self.port = free_port()
        self._settings = {**SETTINGS, "port": str(self.port), **settings}
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-test-"))
        self._cluster = self.folder / "cluster"
        self._process: subprocess.Popen[bytes] | None = None
        # PostgreSQL refuses to run as root.
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._as_user = {"user": NOBODY, "group": NOBODY, "extra_groups": ()}
            os.chown(self.folder, NOBODY, NOBODY)

    def url_of(self, database: str = "postgres", user: str = SUPERUSER) -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> Self:
        """Start it, with what it held when it was stopped or killed."""
        if not self._cluster.exists():
            self._create_cluster()
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary("postgres"), "-D", str(self._cluster), *options],
                stdout=log, stderr=log, cwd=self.folder, **self._as_user,
            )  # fmt: skip
        eventually_sync(self._answers)
        return self

    def give(self, name: str, content: bytes) -> None:
        """A file in its folder of data that only the server may read, before its first start."""
        if not self._cluster.exists():
            self._create_cluster()
        file = self._cluster / name
        file.write_bytes(content)
        file.chmod(0o600)
        if self._as_user:
            os.chown(file, NOBODY, NOBODY)

    def _create_cluster(self) -> None:
        command = [
            "initdb",
            "-D",
            str(self._cluster),
            "-U",
            SUPERUSER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
            "-N",
        ]
        done = subprocess.run(
            [binary(command[0]), *command[1:]], check=False, capture_output=True, cwd=self.folder, **self._as_user
        )
        assert done.returncode == 0, done.stderr.decode()

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'postgres.log').read_text()}")
        command = [binary("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0

    def create_database(self, template: str = "template0") -> str:
        """A database that no other test uses; returns its name."""
        name = f"test_{next(_databases)}"
        self.ask(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def create_roles(self, *names: str) -> None:
        """Roles of the whole server that may log in; those that are there stay."""
        for name in names:
            self.ask(f"DO $$ BEGIN CREATE ROLE {name} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")

    def ask(self, question: str, database: str = "postgres", user: str = SUPERUSER) -> str:
        """Run SQL as a superuser or another role; returns the rows as ``psql -At`` prints them."""
        command = [binary("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", self.url_of(database, user)]
        done = subprocess.run(command, check=False, input=question, capture_output=True, text=True, cwd=self.folder)
        if done.returncode:
            raise PostgresRefusedError(done.stderr.strip())
        return done.stdout.strip()

    def stop(self) -> None:
        """As an operator restarts it: running transactions are rolled back."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill -9 the server and all its processes."""
        self._signal_all(signal.SIGKILL)
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Hang: connections stay open, nothing is answered."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def remove(self) -> None:
        """Stop it for good and remove its files."""
        self.stop()
        shutil.rmtree(self.folder)

    def _signal_all(self, number: signal.Signals) -> None:
        """One by one, because each child is a process group of its own.

        The postmaster stands still while its children are listed, so that it starts no further one, and gets the signal
        last: once it is dead, they are not listed any more.
        """
        if self._process is None:
            return
        pid = self._process.pid
        self._process.send_signal(signal.SIGSTOP)
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), number)
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self.resume()
            self._process.send_signal(number)
        self._process.wait(timeout=PATIENCE_S)
        self._process = None


class PostgresRefusedError(Exception):
    """PostgreSQL's words of why a statement failed."""


def binary(name: str) -> str:
    """The path of a program of the newest PostgreSQL that is installed."""
    found = sorted(BINARIES.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    assert found, "PostgreSQL is missing: tests/support/get_tools.sh gets it"
    return str(found[-1])
