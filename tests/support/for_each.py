"""A rule over many values as one test: ``for_each`` stands where ``pytest.mark.parametrize`` would make a case of each.

A case costs some milliseconds in every process of a test run, whether or not the process runs it. Use it where the cases
tell one story and the test has no fixture that one value could spoil for the next.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

Test = Callable[..., Any]


def for_each(names: str | tuple[str, ...], values: Iterable[Any]) -> Callable[[Test], Test]:
    """Run the test for every value. Those that failed are named together, each with its own error."""
    words = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    rows = [_arguments(words, value) for value in values]

    def decorate(test: Test) -> Test:
        async def run_async(**fixtures: Any) -> None:
            failures: list[Exception] = []
            for row in rows:
                try:
                    await test(**fixtures, **row)
                except Exception as exc:  # noqa: BLE001 - all of them are raised together
                    failures.append(_named(exc, row))
            _judge(failures, len(rows))

        def run(**fixtures: Any) -> None:
            failures: list[Exception] = []
            for row in rows:
                try:
                    test(**fixtures, **row)
                except Exception as exc:  # noqa: BLE001 - all of them are raised together
                    failures.append(_named(exc, row))
            _judge(failures, len(rows))

        wrapper: Any = functools.wraps(test)(run_async if inspect.iscoroutinefunction(test) else run)
        wrapper.__signature__ = _without(inspect.signature(test), words)
        return wrapper  # type: ignore[no-any-return]

    return decorate


def _arguments(words: list[str], value: Any) -> dict[str, Any]:
    given = (value,) if len(words) == 1 else value
    return dict(zip(words, given, strict=True))


def _named(exc: Exception, row: dict[str, Any]) -> Exception:
    exc.add_note(f"with {', '.join(f'{name} = {value!r}' for name, value in row.items())}")
    return exc


def _judge(failures: list[Exception], number: int) -> None:
    assert number, "there is no value to test"
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {number} failed", failures)


def _without(signature: inspect.Signature, words: list[str]) -> inspect.Signature:
    """What pytest is to see: the fixtures."""
    return signature.replace(parameters=[given for name, given in signature.parameters.items() if name not in words])
