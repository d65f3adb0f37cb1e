"""Asks Kestra for its version and for the flows that belong to this service."""

from __future__ import annotations

import asyncio
import re
from typing import Final

from service.cli.doctor.checking import SHARE_OF_DEADLINE, Check
from service.cli.doctor.findings import Finding, error, ok, warning
from service.config import Settings
from service.errors import UpstreamError
from service.kestra.client import KestraClient
from service.kestra.flows import SHIPPED, Flow

OLDEST: Final = (1, 3)
"""The oldest version that the shipped flows were run on."""

PUT: Final = "paste deploy/kestra/{flow}.yaml into Kestra's editor"


class KestraFlows:
    def __init__(self, settings: Settings, within_s: float) -> None:
        self._settings = settings
        self._within_s = within_s
        ask_s = within_s * SHARE_OF_DEADLINE
        self._kestra = KestraClient(settings, ask_s=ask_s) if settings.kestra_url else None
        self._version: asyncio.Task[str] | None = None

    async def close(self) -> None:
        if self._kestra is not None:
            await self._kestra.close()

    @property
    def checks(self) -> list[Check]:
        if self._kestra is None:
            return [Check("kestra", self._find_none)]
        return [Check("version", self._find_version), Check("flows", self._find_flows, extra_s=self._within_s)]

    async def _find_none(self) -> list[Finding]:
        return [ok("kestra", "KESTRA_URL is not set: no execution is created or resumed, flows can still poll")]

    async def _ask_version(self) -> str:
        assert self._kestra is not None
        if self._version is None:
            self._version = asyncio.create_task(self._kestra.get_version(), name="doctor-kestra")
        return await asyncio.shield(self._version)

    async def _find_version(self) -> list[Finding]:
        try:
            version = await self._ask_version()
        except UpstreamError as exc:
            mend = "until Kestra answers, paused executions wait for their own deadline"
            return [error("version", str(exc), mend)]
        return [judge_version(version, self._settings)]

    async def _find_flows(self) -> list[Finding]:
        assert self._kestra is not None
        try:
            await self._ask_version()
        except UpstreamError:
            return []  # the other check says so
        ours = self._settings.kestra_flow
        names = [ours, *(name for name in SHIPPED if name != ours)]
        try:
            flows = await asyncio.gather(*(self._kestra.find_flow(name) for name in names))
        except UpstreamError as exc:
            mend = "let KESTRA_USERNAME or KESTRA_TOKEN read flows, or compare them yourself"
            return [warning("flows", f"the flows cannot be seen: {exc}", mend)]
        return judge_flows(dict(zip(names, flows, strict=True)), self._settings)


def judge_version(version: str, settings: Settings) -> Finding:
    numbers = re.match(r"v?(\d+)\.(\d+)", version)
    major, minor = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    style = settings.kestra_api_style
    if style not in ("auto", "v1" if major < 2 else "v2"):
        found = f"{version} does not speak {style}: executions are not resumed"
        return error("version", found, "unset KESTRA_API_STYLE, which then follows Kestra's version")
    if (major, minor) < OLDEST:
        found = f"{version} is older than {'.'.join(map(str, OLDEST))}, for which the flows were made"
        return warning("version", found, "upgrade Kestra")
    return ok("version", f"{version} answers and takes our credentials")


def judge_flows(flows: dict[str, Flow | None], settings: Settings) -> list[Finding]:
    placing = settings.kestra_flow
    findings = [_judge_placing(placing, flows.pop(placing), settings)]
    there = {name: flow for name, flow in flows.items() if flow is not None}
    for name, flow in there.items():
        mend = PUT.format(flow=name)
        if flow.revision != SHIPPED[name]:
            findings.append(warning("flows", f"{name} is not the one of this version", mend))
        elif flow.is_disabled:
            findings.append(warning("flows", f"{name} is disabled", "enable it in Kestra, or delete it there"))
    absent = [name for name in flows if name not in there]
    if len(findings) == 1:
        left_out = f"; not there, and nothing here needs them: {', '.join(absent)}" if absent else ""
        findings.append(ok("flows", f"of this version: {', '.join(there) or 'none'}{left_out}"))
    return findings


def _judge_placing(name: str, flow: Flow | None, settings: Settings) -> Finding:
    """The flow by which calls are placed: always with KESTRA_ENABLED, else where a request asks for it."""
    where = f"{settings.kestra_namespace}/{name}"
    bad = error if settings.kestra_enabled else warning
    mend = PUT.format(flow=name) if name in SHIPPED else "check KESTRA_TENANT, KESTRA_NAMESPACE and KESTRA_FLOW"
    if flow is None:
        return bad("placing", f"Kestra has no flow {where}: calls cannot be placed through it", mend)
    if flow.is_disabled:
        return bad("placing", f"{where} is disabled: calls cannot be placed through it", "enable it in Kestra")
    if name in SHIPPED and flow.revision != SHIPPED[name]:
        return warning("placing", f"{where} is not the one of this version", mend)
    return ok("placing", f"{where} is there" + (", of this version" if name in SHIPPED else ", a flow of your own"))
