"""How HTTP is written: uvicorn's cycle of a request and its response, with one write a response."""

from __future__ import annotations

from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

_BODILESS: Final = (204, 304)


class OneWriteCycle(RequestResponseCycle):
    """Sends a response's head together with its body: each write is a system call, and on uvloop none waits for another.

    What is not a whole response of known length goes uvicorn's way.
    """

    _start: Any = None

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start" and not self.response_started:
            self._start = message
            return
        start, self._start = self._start, None
        if start is not None:
            if self._is_whole(start, message):
                self._write_whole(start, message.get("body", b""))
                return
            await super().send(start)
        await super().send(message)

    def _is_whole(self, start: Any, message: Any) -> bool:
        """False also when the connection is to be closed behind it, or nobody is there to read it."""
        if not self.keep_alive or self.disconnected or self.flow.write_paused or message.get("more_body", False):
            return False
        headers = start["headers"]
        if (b"connection", b"close") in headers or self.scope["method"] == "HEAD":
            return False
        return start["status"] in _BODILESS or (b"content-length", b"%d" % len(message.get("body", b""))) in headers

    def _write_whole(self, start: Any, body: bytes) -> None:
        lines = [b"%b: %b\r\n" % header for header in (*self.default_headers, *start["headers"])]
        head = b"".join((STATUS_LINE[start["status"]], *lines, b"\r\n"))
        if head.count(b"\n") != len(lines) + 2:
            raise ValueError("a header's value must not contain a line break")
        self.response_started = self.response_complete = True
        self.transport.writelines((head, body))
        self.message_event.set()
        self.on_response()
