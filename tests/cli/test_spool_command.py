"""``python -m service spool``: an operator looks into the spool, drains it, and retries or drops what was set aside."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis import Redis

from service.calls.stored_call import CallChange
from service.cli.main import main
from service.store.call_codec import SPOOL_LAYOUT, encode_spooled
from service.store.keys import Keys
from service.store.spool_file import FILE_NAME, SpoolFile
from tests.support.commands import run
from tests.support.eventually import eventually_sync
from tests.support.redis_server import RedisProcess, free_port
from tests.support.store_events import change, change_from
from tests.support.vapi_sender import full_report

SPOOLED_AT_MS = 1_788_264_000_000
GARBAGE = b"\xc1\xc1"
NO_SPOOL = "SPOOL_DIR: "


class Operator:
    """Runs the command in this process, on one folder; what it printed is in ``out`` and ``err``."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capture = capture
        self.out = ""
        self.err = ""

    def put(self, *changes: CallChange | tuple[str, bytes] | bytes) -> None:
        file = SpoolFile(self.folder, 10_000_000)
        for one in changes:
            if isinstance(one, CallChange):
                file.put([(one.call_id.decode(), encode_spooled(one))], SPOOLED_AT_MS)
            else:
                file.put([one if isinstance(one, tuple) else ("garbage", one)], SPOOLED_AT_MS)
        file.close()

    def reject(self, number: int) -> None:
        file = SpoolFile(self.folder, 10_000_000)
        file.reject(number, "WRONGTYPE")
        file.close()

    def left(self) -> list[str]:
        file = SpoolFile(self.folder, 10_000_000)
        call_ids = [one.call_id for one in file.list()]
        file.close()
        return call_ids

    def drain(self, waiting: int = 0) -> tuple[int, int]:
        """Until no more than that wait, since a busy Redis may be late for some; how many were merged and rejected."""
        merged = rejected = 0

        def is_drained() -> bool:
            nonlocal merged, rejected
            status = self.spool("drain")
            now_merged, now_waiting, rejected = map(int, re.findall(r"\d+", self.out.splitlines()[-1]))
            assert status == (1 if now_waiting else 0)
            merged += now_merged
            return now_waiting <= waiting

        eventually_sync(is_drained)
        return merged, rejected

    def spool(self, *arguments: str) -> int:
        status = main(["spool", *arguments])
        self.out, self.err = self._capture.readouterr()
        return status


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return tmp_path.name[:64]


@pytest.fixture
def operator(
    tmp_path: Path,
    prefix: str,
    redis_process: RedisProcess,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Operator:
    """An operator whose environment is the service's."""
    for name, value in {
        "SPOOL_DIR": str(tmp_path), "REDIS_URL": redis_process.url, "REDIS_KEY_PREFIX": prefix, "STORE_TIMEOUT_S": "1.2",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return Operator(tmp_path, capsys)


def test_list_shows_everything_oldest_first(operator: Operator) -> None:
    operator.put(change("call-1", status=1), GARBAGE, change("call-3"))
    operator.reject(2)
    assert operator.spool("list") == 0
    lines = [line.split("\t") for line in operator.out.splitlines()]
    assert [(number, call_id, state) for number, call_id, _, _, state in lines] == [
        ("1", "call-1", "waiting"),
        ("2", "garbage", "rejected: WRONGTYPE"),
        ("3", "call-3", "waiting"),
    ]
    assert {line[2] for line in lines} == {"2026-09-01T12:00:00.000Z"}
    assert lines[1][3] == "2 bytes"


def test_show_prints_what_a_change_says_of_its_call(operator: Operator) -> None:
    operator.put(change("call-1"), change_from(full_report("call-2")))
    assert operator.spool("show", "2") == 0
    shown = json.loads(operator.out)
    assert {name: shown[name] for name in ("id", "call_id", "spooled_at", "rejected", "status")} == {
        "id": 2, "call_id": "call-2", "spooled_at": "2026-09-01T12:00:00.000Z", "rejected": None, "status": "ended",
    }  # fmt: skip
    assert shown["facts"]["ended_reason"] == "assistant-ended-call"
    assert shown["facts"]["customer_phone"] == "+18645550123"
    assert "location" not in shown["facts"]


def test_show_says_of_what_cannot_be_read_that_it_cannot(operator: Operator) -> None:
    operator.put(GARBAGE)
    assert operator.spool("show", "1") == 0
    assert operator.out.startswith("change 1 of call garbage cannot be read: ")


def of_a_later_layout(call_id: str) -> tuple[str, bytes]:
    spooled = msgspec.msgpack.decode(encode_spooled(change(call_id, status=1)), type=dict[str, Any])
    return call_id, msgspec.msgpack.encode(spooled | {"layout": SPOOL_LAYOUT + 1})


def test_show_says_of_a_change_of_a_later_layout_that_it_cannot_be_read(operator: Operator) -> None:
    operator.put(of_a_later_layout("call-1"))
    assert operator.spool("show", "1") == 0
    assert "cannot be read" in operator.out


def test_show_of_what_is_not_there_fails(operator: Operator) -> None:
    operator.put(change("call-1"))
    assert operator.spool("show", "7") == 1
    assert operator.err == "The spool holds no change 7\n"


def test_drain_merges_all_that_waits(operator: Operator, redis_process: RedisProcess, prefix: str) -> None:
    operator.put(*(change(f"call-{number}", status=1) for number in range(150)))
    assert operator.drain() == (150, 0)
    assert operator.out.splitlines()[-1].endswith(" merged, 0 waiting, 0 rejected")
    assert operator.left() == []
    with Redis(port=redis_process.port) as redis:
        assert redis.exists(*(Keys(prefix).call(b"call-%d" % number).decode() for number in range(150))) == 150


def test_drain_sets_aside_what_can_never_be_applied(
    operator: Operator, redis_process: RedisProcess, prefix: str
) -> None:
    with Redis(port=redis_process.port) as redis:
        redis.set(Keys(prefix).call(b"broken").decode(), "a string", px=60_000)
    operator.put(GARBAGE, change("broken"), change("call-3"))
    assert operator.drain() == (1, 2)
    assert operator.spool("list") == 0
    assert operator.out.count("rejected: ") == 2


def test_list_says_why_a_change_can_never_be_applied(
    operator: Operator, redis_process: RedisProcess, prefix: str
) -> None:
    with Redis(port=redis_process.port) as redis:
        redis.set(Keys(prefix).call(b"broken").decode(), "a string", px=60_000)
    operator.put(change("broken"))
    operator.drain()
    operator.spool("list")
    assert "WRONGTYPE" in operator.out


def test_drain_goes_on_behind_any_number_of_changes_that_can_never_be_applied(operator: Operator) -> None:
    operator.put(*[GARBAGE] * 100, change("behind"))
    assert operator.drain() == (1, 100)


def test_drain_without_redis_leaves_all_and_fails(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    monkeypatch.setenv("STORE_TIMEOUT_S", "0.3")
    operator.put(change("call-1"), change("call-2"))
    assert operator.spool("drain") == 1
    assert operator.out.splitlines()[-1] == "0 merged, 2 waiting, 0 rejected"
    assert operator.left() == ["call-1", "call-2"]


def test_drain_of_an_empty_spool_is_done_at_once(operator: Operator) -> None:
    operator.put()
    assert operator.spool("drain") == 0
    assert operator.out == "0 merged, 0 waiting, 0 rejected\n"


def test_drain_prints_one_line(tmp_path: Path, prefix: str, redis_process: RedisProcess, operator: Operator) -> None:
    operator.put(change("call-1"))
    where: dict[str, Any] = {"spool_dir": tmp_path, "redis_url": redis_process.url, "redis_key_prefix": prefix}
    result = run("spool", "drain", **where, from_nothing=True)
    assert re.fullmatch(r"(1 merged, 0|0 merged, 1) waiting, 0 rejected\n", result.stdout), result.stdout


def test_drop_forgets_one_change(operator: Operator) -> None:
    operator.put(change("call-1"), change("call-2"))
    assert operator.spool("drop", "1") == 0
    assert operator.out == "1 dropped\n"
    assert operator.left() == ["call-2"]


def test_drop_of_what_is_not_there_fails(operator: Operator) -> None:
    operator.put(change("call-1"))
    assert operator.spool("drop", "7") == 1
    assert operator.left() == ["call-1"]


@pytest.mark.parametrize(("rejected", "left"), [((1, 2), ["call-3"]), ((), ["call-1", "call-2", "call-3"])])
def test_drop_rejected_forgets_those_and_nothing_else(
    operator: Operator, rejected: tuple[int, ...], left: list[str]
) -> None:
    operator.put(change("call-1"), change("call-2"), change("call-3"))
    for number in rejected:
        operator.reject(number)
    assert operator.spool("drop", "--rejected") == 0
    assert operator.out == f"{len(rejected)} dropped\n"
    assert operator.left() == left


def test_retry_lets_a_change_that_was_set_aside_be_drained(operator: Operator) -> None:
    operator.put(change("call-1", status=1), change("call-2", status=1))
    operator.reject(1)
    operator.reject(2)
    assert operator.spool("retry", "2") == 0
    assert operator.out == "1 waiting again\n"
    assert operator.drain() == (1, 1)
    assert operator.left() == ["call-1"]


def test_retry_rejected_takes_up_all_that_was_set_aside_and_nothing_else(operator: Operator) -> None:
    operator.put(change("call-1", status=1), change("call-2", status=1), GARBAGE)
    operator.reject(1)
    operator.reject(3)
    assert operator.spool("retry", "--rejected") == 0
    assert operator.out == "2 waiting again\n"
    assert operator.drain() == (2, 1)


@pytest.mark.parametrize("number", ["1", "7"])
def test_retry_of_what_waits_or_is_not_there_fails_and_changes_nothing(operator: Operator, number: str) -> None:
    operator.put(change("call-1"))
    assert operator.spool("retry", number) == 1
    operator.spool("list")
    assert operator.out.endswith("waiting\n")


def test_drain_goes_on_with_what_redis_takes_behind_any_number_that_it_does_not(
    operator: Operator,
) -> None:
    operator.put(*(of_a_later_layout(f"call-{n}") for n in range(100)))
    operator.put(change("behind", status=1))
    assert operator.drain(waiting=100) == (1, 0)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["drop"],
        ["retry"],
        ["retry", "1", "--rejected"],
        ["drop", "1", "--rejected"],
        ["show"],
        ["show", "one"],
        ["burn"],
    ],
)
def test_a_wrong_command_line_is_told_how_to_use_it(operator: Operator, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        operator.spool(*arguments)
    assert ended.value.code == 2


ACTIONS = [
    ["list"],
    ["show", "1"],
    ["drain"],
    ["drop", "1"],
    ["drop", "--rejected"],
    ["retry", "1"],
    ["retry", "--rejected"],
]


@pytest.mark.parametrize("arguments", ACTIONS)
def test_without_a_spool_every_action_says_so_and_makes_none(operator: Operator, arguments: list[str]) -> None:
    assert operator.spool(*arguments) == 2
    assert operator.err.startswith(NO_SPOOL)
    assert not (operator.folder / FILE_NAME).exists()


def test_without_the_setting_every_action_names_it(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPOOL_DIR")
    assert operator.spool("list") == 2
    assert operator.err == "SPOOL_DIR: must be set for this command\n"


@pytest.mark.parametrize("arguments", ACTIONS)
def test_a_file_that_is_no_spool_is_one_line(operator: Operator, arguments: list[str]) -> None:
    (operator.folder / FILE_NAME).write_text("nothing that a database would begin with" * 20)
    assert operator.spool(*arguments) == 2
    assert len(operator.err.splitlines()) == 1
