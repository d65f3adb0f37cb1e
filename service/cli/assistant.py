"""``python -m service assistant``: prints the assistant's configuration, saves it in VAPI or compares it."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from service.calls.call_request import decode_call_request
from service.cli.connecting import EXIT_FAILED, read_file
from service.config import Settings
from service.errors import InvalidRequestError, ServiceError, SettingsError
from service.vapi.assistant.config import ASSISTANT_NAME, create_assistant_config, create_saved_assistant_config
from service.vapi.assistant.diff import diff_of, hide_secrets
from service.vapi.client import VapiClient


def add_assistant_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sentence = "the assistant that makes the calls: print it, save it in VAPI, see how the saved one differs"
    assistant = commands.add_parser("assistant", help=sentence, description=sentence)
    actions = assistant.add_subparsers(metavar="action", required=True)
    show = actions.add_parser("show", help="print the configuration: the saved assistant's, or that of one call")
    show.add_argument("--request", type=Path, help="a call request as JSON; - reads standard input")
    show.add_argument("--reveal", action="store_true", help="print the webhook secret instead of ***")
    show.set_defaults(run=_show)
    actions.add_parser("push", help="create or update the saved assistant in VAPI").set_defaults(run=_push)
    actions.add_parser("diff", help="exit 1 if VAPI's saved assistant differs").set_defaults(run=_diff)


def _show(settings: Settings, options: argparse.Namespace) -> int:
    try:
        config = _config(settings, options.request)
    except ServiceError as exc:
        return _print_error(exc)
    shown = config if options.reveal else hide_secrets(config)
    print(json.dumps(shown, indent=2, ensure_ascii=False))
    return 0


def _config(settings: Settings, file: Path | None) -> dict[str, Any]:
    if file is None:
        return create_saved_assistant_config(settings)
    try:
        value = msgspec.json.decode(read_file(file))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequestError(f"{file}: not valid JSON") from None
    return create_assistant_config(decode_call_request(value), settings)


def _push(settings: Settings, _: argparse.Namespace) -> int:
    return _with_vapi(settings, _save)


async def _save(settings: Settings, vapi: VapiClient) -> int:
    config = create_saved_assistant_config(settings)
    saved = await _find_saved(vapi)
    if saved is None:
        stored = await vapi.create_assistant(config)
        print(f"created {stored.get('id')}")
    else:
        stored = await vapi.update_assistant(saved["id"], config)
        print(f"updated {saved['id']}")
    if diff_of(config, stored):
        print("VAPI did not keep it as it was sent; see: python -m service assistant diff", file=sys.stderr)
    return 0


def _diff(settings: Settings, _: argparse.Namespace) -> int:
    return _with_vapi(settings, _compare)


async def _compare(settings: Settings, vapi: VapiClient) -> int:
    saved = await _find_saved(vapi)
    if saved is None:
        print(f'VAPI has no assistant named "{ASSISTANT_NAME}"; push makes it', file=sys.stderr)
        return EXIT_FAILED
    difference = diff_of(create_saved_assistant_config(settings), await vapi.get_assistant(saved["id"]))
    print(difference, end="")
    return EXIT_FAILED if difference else 0


async def _find_saved(vapi: VapiClient) -> dict[str, Any] | None:
    """Raises InvalidRequestError when several have the name, as we cannot know which of them the calls use."""
    found = [assistant for assistant in await vapi.list_assistants() if assistant.get("name") == ASSISTANT_NAME]
    if len(found) > 1:
        ids = ", ".join(str(assistant.get("id")) for assistant in found)
        raise InvalidRequestError(f'VAPI has {len(found)} assistants named "{ASSISTANT_NAME}": {ids}; keep one')
    return found[0] if found else None


def _with_vapi(settings: Settings, action: Callable[[Settings, VapiClient], Awaitable[int]]) -> int:
    if settings.vapi_api_key is None:
        raise SettingsError("VAPI_API_KEY: must be set for this command")

    async def run() -> int:
        vapi = VapiClient(settings)
        try:
            return await action(settings, vapi)
        except ServiceError as exc:
            return _print_error(exc)
        finally:
            await vapi.close()

    return asyncio.run(run())


def _print_error(error: ServiceError) -> int:
    print(error, file=sys.stderr)
    for detail in error.details:
        print(f"  {detail.path}: {detail.message}", file=sys.stderr)
    return EXIT_FAILED
