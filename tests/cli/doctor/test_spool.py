"""What the doctor says about the spool's folder and the disk under it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.cli.doctor.spool_folder import file_system_of, look_at
from tests.support.diagnosis import NOBODY_THERE, Diagnosis, diagnose, diagnose_until

IN_MEMORY = Path("/dev/shm")
"""A tmpfs on every Linux."""
MIB = 1024 * 1024


def diagnose_spool(folder: Path, **settings: Any) -> Diagnosis:
    return diagnose("--url", NOBODY_THERE, **{"spool_dir": folder, "spool_max_bytes": MIB, **settings})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Less than what the spool leaves free; only where we may mount one."""
    command = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", str(tmp_path)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_private_folder_on_a_disk_with_room_is_well(folder: Path) -> None:
    diagnosis = diagnose_until(lambda found: found.level("spool", "writable") == "ok", lambda: diagnose_spool(folder))
    assert diagnosis.troubles("spool") == []
    assert [each.check for each in diagnosis.of("spool")] == ["writable", "file system", "space", "permissions"]
    assert list(folder.iterdir()) == []


def test_a_folder_that_is_not_there_is_not_made(folder: Path) -> None:
    diagnosis = diagnose_spool(folder / "spool")
    assert diagnosis.troubles("spool") == []
    assert not (folder / "spool").exists()


def test_a_folder_that_cannot_be_made_is_an_error() -> None:
    assert diagnose_spool(Path("/dev/null/spool")).troubles("spool") == ["writable: error"]


def test_a_file_in_its_place_is_an_error(folder: Path) -> None:
    (folder / "spool").touch()
    assert diagnose_spool(folder / "spool").troubles("spool") == ["writable: error"]


def test_a_folder_that_takes_no_files_is_an_error() -> None:
    found = diagnose_spool(Path("/proc/self")).one("spool", "writable")
    assert (found.level, "cannot be written to" in found.found) == ("error", True)


def test_a_folder_in_memory_is_an_error() -> None:
    found = diagnose_spool(IN_MEMORY).one("spool", "file system")
    assert (found.level, found.found.split(":")[0]) == ("error", "tmpfs")


def test_a_disk_that_is_full_before_the_spool_is_pointed_out(folder: Path) -> None:
    assert diagnose_spool(folder, spool_max_bytes=2**60).troubles("spool") == ["space: warning"]


def test_a_disk_without_room_is_an_error(small_disk: Path) -> None:
    found = diagnose_spool(small_disk).one("spool", "space")
    assert (found.level, "nothing more can be spooled" in found.found) == ("error", True)


def test_a_folder_that_others_may_read_is_pointed_out(folder: Path) -> None:
    folder.chmod(0o755)
    found = diagnose_spool(folder).one("spool", "permissions")
    assert (found.level, "0755" in found.found, "chmod 700" in str(found.advice)) == ("warning", True, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
def test_a_folder_of_another_user_is_pointed_out(folder: Path) -> None:
    os.chown(folder, 12345, -1)
    found = diagnose_spool(folder).one("spool", "permissions")
    assert (found.level, "12345" in found.found) == ("warning", True)


def test_no_spool_is_no_fault() -> None:
    assert diagnose("--url", NOBODY_THERE).troubles("spool") == []


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("server:/export {} nfs4 rw 0 0", "nfs4"),
        ("overlay {} overlay rw 0 0", "overlay"),
        ("/dev/sdb1 {} ext4 rw 0 0", "ext4"),
    ],
)
def test_the_innermost_mount_counts(folder: Path, line: str, kind: str) -> None:
    place = folder / "with blank"
    (place / "spool").mkdir(parents=True)
    mounts = folder / "mounts"
    escaped = str(place).replace(" ", "\\040")
    mounts.write_text(f"/dev/sda1 / xfs rw 0 0\n{line.format(escaped)}\nproc /proc proc rw 0 0\n")
    assert file_system_of(place / "spool", mounts) == kind
    assert file_system_of(folder, mounts) == "xfs"
    assert file_system_of(folder, folder / "none") is None


@pytest.mark.parametrize(("kind", "level"), [("nfs4", "error"), ("overlay", "warning"), ("ext4", "ok")])
def test_a_file_system_that_loses_the_spool_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, level: str
) -> None:
    monkeypatch.setattr("service.cli.doctor.spool_folder.file_system_of", lambda _: kind)
    (found,) = [each for each in look_at(folder, MIB) if each.check == "file system"]
    assert (found.level, kind in found.found) == (level, True)
