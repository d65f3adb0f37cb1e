"""``make audit``: the licences of what the image installs, and whether anything in it has a known vulnerability.

A vulnerability, a licence that binds us and a database that did not answer end with status 1: silence would look like a
clean bill. ``OSV_URL`` names another database than osv.dev's.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
LOCKS: Final = ("requirements-otel.lock", "requirements-build.lock")
"""The first holds all of requirements.lock."""
DATABASES: Final = ("osv", "pypi")
"""The second is asked where the first cannot be reached. It calls what it does not know "not found"."""

BINDING: Final = re.compile(
    r"GPL|General Public|SSPL|Server Side|BUSL|Business Source|Commons Clause|UNKNOWN", re.IGNORECASE
)
"""Licences that would bind whoever ships the image, or that nobody could name."""


def main() -> int:
    """Print what was found; returns the exit status."""
    binding = list_licences()
    if binding:
        print(f"\nBinding or unknown licences: {', '.join(binding)}", file=sys.stderr)
    found, reasons = None, []
    for database in DATABASES:
        found, reason = ask(database)
        if found is not None:
            break
        reasons.append(f"{database}: {reason}")
    print()
    if found is None:
        print(
            "No database of vulnerabilities could be asked, so nothing is known about this version's dependencies. "
            f"Repeat this where one can be reached ({'; '.join(reasons)}).",
            file=sys.stderr,
        )
        return 1
    for name, version, vulnerability in found:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
        print(f"{name} {version}: {vulnerability['id']}, fixed in {fixed}", file=sys.stderr)
    if not found:
        print("No known vulnerability.")
    return int(bool(found or binding))


def list_licences() -> list[str]:
    """Print the licence of each locked package that is installed here; returns the names of those that bind."""
    names = re.findall(r"^([a-z0-9-]+)==", (ROOT / LOCKS[0]).read_text(), re.MULTILINE)
    command = [sys.executable, "-m", "piplicenses", "--from", "mixed", "--format", "json", "--packages", *names]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    packages: list[dict[str, str]] = json.loads(printed)
    for package in packages:
        print(f"{package['Name']:24}{package['Version']:12}{package['License']}")
    return [package["Name"] for package in packages if BINDING.search(package["License"])]


def ask(database: str) -> tuple[list[tuple[str, str, Any]] | None, str]:
    """The vulnerabilities of what is locked, each with its package and version; None and why if they are not known."""
    options = ["--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    options += ["--vulnerability-service", database]
    if database == "osv" and "OSV_URL" in os.environ:
        options += ["--osv-url", os.environ["OSV_URL"]]
    files = [word for lock in LOCKS for word in ("--requirement", str(ROOT / lock))]
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", *options, *files], check=False, capture_output=True, text=True
    )
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        if "ConnectionError" in done.stderr or "Could not connect" in done.stderr:
            return None, "it could not be reached"
        return None, (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if unknown:
        return None, f"it does not know {len(unknown)} of {len(packages)} packages"
    return list(_vulnerabilities(packages)), ""


def _vulnerabilities(packages: list[dict[str, Any]]) -> Iterator[tuple[str, str, Any]]:
    for package in packages:
        for vulnerability in package["vulns"]:
            yield package["name"], package["version"], vulnerability


if __name__ == "__main__":
    sys.exit(main())
