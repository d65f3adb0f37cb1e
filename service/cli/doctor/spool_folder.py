"""Looks at the folder of the spool and at the disk under it. Leaves no trace there."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from service.cli.doctor.checking import Check, in_thread
from service.cli.doctor.findings import Finding, error, ok, warning
from service.config import Settings
from service.store.spool import PUT_TIMEOUT_S
from service.store.spool_database import is_open_to_others
from service.store.spool_file import DISK_RESERVE_BYTES, FILE_NAME

MOUNTS: Final = Path("/proc/self/mounts")
"""https://man7.org/linux/man-pages/man5/proc_pid_mounts.5.html; other systems have none."""

IN_MEMORY: Final = frozenset({"tmpfs", "ramfs", "devtmpfs"})

OF_A_CONTAINER: Final = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs"})

OVER_A_NETWORK: Final = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "ceph",
        "glusterfs",
        "fuse.glusterfs",
        "fuse.sshfs",
        "fuse.s3fs",
        "afs",
    }
)
"""https://www.sqlite.org/wal.html: a write-ahead log does not work over a network file system."""

SLOW_FSYNC_S: Final = PUT_TIMEOUT_S / 4

_ESCAPED: Final = re.compile(r"\\([0-7]{3})")
"""A blank in a mount point is ``\\040``."""


def spool_checks(settings: Settings) -> list[Check]:
    if settings.spool_dir is None:
        return [Check("spool", _find_none)]
    folder = Path(settings.spool_dir)

    async def find_all() -> list[Finding]:
        try:
            return await in_thread(lambda: list(look_at(folder, settings.spool_max_bytes)))
        except OSError as exc:
            mend = "give the service's user the folder and the way to it"
            return [error("writable", f"SPOOL_DIR {folder} cannot be looked at: {exc.strerror}", mend)]

    return [Check("spool", find_all)]


async def _find_none() -> list[Finding]:
    return [ok("spool", "SPOOL_DIR is not set: what Redis cannot take is answered 503, for VAPI to send again")]


def look_at(folder: Path, max_bytes: int) -> Iterator[Finding]:
    if not folder.exists():
        yield _absent(folder)
        return
    if not folder.is_dir():
        yield error("writable", f"SPOOL_DIR {folder} is not a folder", "name a folder on a volume")
        return
    yield _writable(folder)
    yield _file_system(folder)
    yield _room(folder, max_bytes)
    yield _private(folder)


def _absent(folder: Path) -> Finding:
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        return ok("writable", f"SPOOL_DIR {folder} is not there yet; the service makes it at its start")
    mend = f"make the folder, with mode 0700, for the service's user; this user may not write to {above}"
    return error("writable", f"SPOOL_DIR {folder} is not there, and cannot be made", mend)


def _writable(folder: Path) -> Finding:
    """An unnamed file is fsynced and gone again."""
    started = time.monotonic()
    try:
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(b"doctor")
            trial.flush()
            os.fsync(trial.fileno())
    except OSError as exc:
        mend = "make the folder the service user's own, on a volume that is mounted for writing"
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            mend = "free some space on its disk"
        return error("writable", f"SPOOL_DIR cannot be written to: {exc.strerror}", mend)
    took_s = time.monotonic() - started
    if took_s > SLOW_FSYNC_S:
        mend = "use a local disk; a webhook waits for it while Redis is away"
        return warning("writable", f"an fsync took {took_s * 1000:.0f} ms, of {PUT_TIMEOUT_S * 1000:.0f} allowed", mend)
    return ok("writable", f"an fsync took {took_s * 1000:.0f} ms")


def _file_system(folder: Path) -> Finding:
    kind = file_system_of(folder)
    if kind is None:
        return ok("file system", "unknown on this system; it has to be a local disk that outlives the container")
    if kind in IN_MEMORY:
        return error("file system", f"{kind}: what is spooled is in memory, and lost with it", "use a volume on a disk")
    if kind in OVER_A_NETWORK:
        mend = "use a disk of this machine, or a block device"
        return error("file system", f"{kind}: the spool's database does not work over a network", mend)
    if kind in OF_A_CONTAINER:
        mend = "mount a volume at SPOOL_DIR"
        return warning("file system", f"{kind}: what is spooled is lost with the container, if this is one", mend)
    return ok("file system", kind)


def file_system_of(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """Its type; None where the system does not tell."""
    path = folder.resolve()
    found: tuple[int, str] | None = None
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        _, place, kind, *_ = line.split(" ")
        point = Path(_ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), place))
        # A later mount at the same place hides an earlier one.
        if path.is_relative_to(point) and (found is None or len(point.parts) >= found[0]):
            found = len(point.parts), kind
    return found[1] if found else None


def _room(folder: Path, max_bytes: int) -> Finding:
    held = sum(file.stat().st_size for file in folder.glob(f"{FILE_NAME}*"))
    free = shutil.disk_usage(folder).free - DISK_RESERVE_BYTES
    sizes = f"{_mib(free)} MiB free, {_mib(held)} in use, SPOOL_MAX_BYTES {_mib(max_bytes)}"
    if free <= 0:
        return error("space", f"{sizes}: nothing more can be spooled", "free some space on its disk")
    if free + held < max_bytes:
        mend = "give it a larger disk, or lower SPOOL_MAX_BYTES"
        return warning("space", f"{sizes}: the disk is full before the spool is", mend)
    return ok("space", sizes)


def _mib(count: int) -> str:
    return f"{max(count, 0) / 2**20:.0f}"


def _private(folder: Path) -> Finding:
    mode, owner = stat.S_IMODE(folder.stat().st_mode), folder.stat().st_uid
    if is_open_to_others(folder):
        mend = f"chmod 700 {folder}: its files hold personal data"
        return warning("permissions", f"mode {mode:04o}: other users have rights on the folder", mend)
    if owner != os.geteuid():
        mend = "run the doctor as the service's user, or give that user the folder (chown)"
        return warning("permissions", f"mode {mode:04o}, but the folder belongs to user {owner}, not to this one", mend)
    return ok("permissions", f"mode {mode:04o}")
