"""What a fake Kestra does wrong when it is told to: the next requests of a kind are refused, hang, or are cut off."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Final, NamedTuple

from tests.support.kestra_server import Answer, Request, message

HANGS_FOR_S: Final = 30.0
"""Or until the fake is stopped."""


class Trouble(NamedTuple):
    """What goes wrong with the next requests of a method whose path contains something."""

    answer: Answer | None
    """None: there is none, the connection is closed."""
    method: str
    path_part: str
    is_done: bool = False
    """Whether what was asked for is done all the same."""
    hangs: bool = False


class Misbehaviour(ABC):
    """The part of a fake Kestra that looks at each request first. ``requests`` is what came, in its order."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._troubles: list[Trouble] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def answer_next(
        self, status: int, body: object = None, *, method: str = "", path_part: str = "", times: int = 1, **headers: str
    ) -> None:
        """So are the next requests answered, and nothing is done. ``retry_after="1"`` is a header; bytes go as they are."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._expect(Trouble(Answer(status, body, named), method, path_part), times)

    def hang_next(self, *, method: str = "", path_part: str = "", times: int = 1, is_done: bool = False) -> None:
        """No answer."""
        self._expect(Trouble(None, method, path_part, is_done=is_done, hangs=True), times)

    def cut_next(self, *, method: str = "", path_part: str = "", times: int = 1, is_done: bool = False) -> None:
        """The connection is closed without an answer; with ``is_done`` after what was asked for was done."""
        self._expect(Trouble(None, method, path_part, is_done=is_done), times)

    def drip_next(self, *, method: str = "", path_part: str = "", times: int = 1) -> None:
        """An answer begins and never ends."""
        self._expect(Trouble(Answer(200, self._drops, {"content-length": "1000000"}), method, path_part), times)

    def _drops(self) -> Iterator[bytes]:
        while not self._stopped.wait(0.01):
            yield b" "

    def refuse_resumes(self, times: int) -> None:
        """The next resumes get a 409, as if the execution were not paused yet."""
        self.answer_next(409, message("is not paused, can't resume it"), method="POST", path_part="resume", times=times)

    def _expect(self, trouble: Trouble, times: int) -> None:
        with self._lock:
            self._troubles += [trouble] * times

    def _next_trouble(self, request: Request) -> Trouble | None:
        with self._lock:
            for trouble in self._troubles:
                if trouble.method in ("", request.method) and trouble.path_part in request.path:
                    self._troubles.remove(trouble)
                    return trouble
        return None

    def _serve(self, request: Request) -> Answer | None:
        self.requests.append(request)
        trouble = self._next_trouble(request)
        if trouble is None:
            return self._answer(request)
        if trouble.is_done:
            self._answer(request)
        if trouble.hangs:
            self._stopped.wait(HANGS_FOR_S)
        return trouble.answer

    @abstractmethod
    def _answer(self, request: Request) -> Answer:
        """What it answers when nothing goes wrong."""
