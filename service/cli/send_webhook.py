"""``python -m service send-webhook``: posts a message to a service, with the proof that VAPI would send."""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from pathlib import Path

from service.cli.client import prove
from service.cli.connecting import add_address, connect, print_answer, read_file
from service.cli.samples import SAMPLES, sample_message
from service.config import Settings


def add_send_webhook_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sentence = "post a sample or a file to a service, proven as VAPI would"
    send = commands.add_parser("send-webhook", help=sentence, description=sentence)
    send.set_defaults(run=_send_webhook)
    source = send.add_mutually_exclusive_group()
    source.add_argument("--sample", choices=SAMPLES, default=SAMPLES[0], help="which sample (default: %(default)s)")
    source.add_argument("--file", type=Path, help="a JSON body; - reads standard input")
    send.add_argument("--call-id", default=None, help="the sample's call id (default: a new one)")
    send.add_argument(
        "--auth", choices=("secret", "bearer", "hmac", "legacy", "none"), default="secret",
        help="how to prove it with VAPI_WEBHOOK_SECRET (default: %(default)s)",
    )  # fmt: skip
    add_address(send)


def _send_webhook(settings: Settings, options: argparse.Namespace) -> int:
    if options.file is None:
        call_id = options.call_id or f"sample-{uuid.uuid4()}"
        body = json.dumps(sample_message(options.sample, call_id)).encode()
    else:
        body = read_file(options.file)
    if options.auth != "none" and not settings.vapi_webhook_secret:
        print("VAPI_WEBHOOK_SECRET is not set: sent without a proof", file=sys.stderr)
    answer = connect(settings, options).send_webhook(body, prove(settings, options.auth, body))
    return print_answer(answer)
