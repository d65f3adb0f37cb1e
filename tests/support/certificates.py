"""Certificates for tests, from a certification authority of their own; made with openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")


class Authority:
    """A certification authority whose files live in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self.certificate = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        _openssl("req", "-x509", *_NEW_KEY, "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.certificate)

    def issue(self, host: str) -> tuple[Path, Path]:
        """A server's certificate and key for that host: ``IP:127.0.0.1`` or ``DNS:name``."""
        stem = self._folder / f"{self._name}-{host.replace(':', '-')}"
        request, certificate, key, names = (stem.with_suffix(end) for end in (".csr", ".pem", ".key", ".ext"))
        names.write_text(f"subjectAltName={host}\n")
        _openssl("req", *_NEW_KEY, "-subj", "/CN=redis", "-keyout", key, "-out", request)
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial",
            "-days", "2", "-extfile", names, "-out", certificate,
        )  # fmt: skip
        return certificate, key


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)
