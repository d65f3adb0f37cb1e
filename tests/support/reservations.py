"""Names that only one process of this machine can hold, so that runs of the tests keep out of each other's way."""

from __future__ import annotations

import socket


def reserve(name: str) -> socket.socket | None:
    """Hold the name until the socket is closed or this process ends, however it ends. None while another holds it.

    The name is one in Linux's abstract socket namespace, which the kernel gives to one socket at a time.
    """
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        holder.bind(f"\0vapi-cache-tests-{name}")
    except OSError:
        holder.close()
        return None
    return holder
