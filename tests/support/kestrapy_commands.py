"""Runs Kestra's official client on commands, one JSON object a line: python -I kestrapy_commands.py <folder> <url> <user> <password>."""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from typing import Any

warnings.simplefilter("ignore")


def main(folder: str, url: str, username: str, password: str) -> None:
    sys.path.insert(0, folder)
    client = importlib.import_module("kestrapy").KestraClient(host=url, username=username, password=password)
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(obey(client, **command)), flush=True)


def obey(client: Any, api: str, method: str, arguments: list[Any], options: dict[str, Any]) -> dict[str, Any]:
    try:
        result = getattr(getattr(client, api), method)(*arguments, **options)
    except importlib.import_module("kestrapy.exceptions").ApiException as exc:
        return {"error": type(exc).__name__, "status": exc.status}
    content = json.loads(result.model_dump_json()) if hasattr(result, "model_dump_json") else result
    return {"result": content}


main(*sys.argv[1:])
