"""The part of Kestra's REST API that we use, in 1.x and 2.x: create, read and resume an execution, read a flow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import structlog

from service.config import Settings
from service.errors import UpstreamError
from service.kestra.api_version import ApiVersion, Style
from service.kestra.cached_probe import CachedProbe
from service.kestra.connection import RETRIED, RETRY_PAUSES_S, decode, open_session, verify
from service.kestra.execution import PAUSED, Execution, ExecutionAnswer, Resumption, execution_of
from service.kestra.flows import Flow, FlowAnswer, flow_of
from service.urls import path_part

if TYPE_CHECKING:
    from service.outbound import HttpAnswer

__all__ = ["Execution", "KestraClient", "Resumption"]

log = structlog.get_logger(__name__)

ASK_S: Final = 10.0
WRITE_S: Final = 15.0
"""Kestra answers as soon as an execution is queued. Load balancers in front of us give up after 30 s."""

HEALTH_VALID_S: Final = 5.0
"""Health checks within this time share one answer from Kestra."""

HEALTH_WITHIN_S: Final = 1.0
"""A slow Kestra must not make our health check slow."""

PRESENT_WITHIN_S: Final = 3.0
"""For the check before a call is placed. Kestra under load may be slower than a health check allows, and still work."""

NO_FLOW: Final = "Kestra does not know the flow; check KESTRA_TENANT, KESTRA_NAMESPACE and KESTRA_FLOW"
DISABLED: Final = "Kestra refuses to run the flow (409); it may be disabled"
INPUTS: Final = "Kestra refuses the inputs (422); the flow there is not the one that belongs to this service"


class KestraClient:
    """Talks to the Kestra at ``KESTRA_URL``. Several replicas may share it. Only its version and health are cached.

    Raises, in every method that sends a request:
        UpstreamError: Kestra is in trouble, silent, cannot be reached or refuses us; the sentence says where to look.
            ``is_outcome_unknown`` is True when a POST may have had its effect.

    Args:
        settings: ``kestra_url`` must be set.
        ask_s: longest time for a GET with all its attempts; some methods send two or three GETs.
        write_s: longest time for a request that changes something.
        health_valid_s: how long a health check's answer is cached.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        ask_s: float = ASK_S,
        write_s: float = WRITE_S,
        health_valid_s: float = HEALTH_VALID_S,
    ) -> None:
        self._ask_s = ask_s
        self._write_s = write_s
        self._session = open_session(settings)
        self._tenant = "/api/v1/" + path_part(settings.kestra_tenant)
        self._namespace = settings.kestra_namespace
        self._flow = settings.kestra_flow
        self._style = ApiVersion(settings, self._get)
        self._health = CachedProbe(self._session, within_s=HEALTH_WITHIN_S, valid_s=health_valid_s)
        self._presence = CachedProbe(self._session, within_s=PRESENT_WITHIN_S, valid_s=health_valid_s)

    async def close(self) -> None:
        await self._session.close()

    async def create_execution(
        self, inputs: Mapping[str, str], *, labels: Mapping[str, str], flow: str | None = None
    ) -> Execution:
        """Start the flow of the settings, or another one of its namespace. The request is sent once and never repeated.

        Labels with a blank value are left out, because Kestra refuses them. Keys must have no colons and no blanks.

        Raises:
            UpstreamError: also when Kestra does not know the flow or refuses the inputs.
        """
        path = f"{self._tenant}/executions/{path_part(self._namespace)}/{path_part(flow or self._flow)}"
        given = [f"{key}:{value}" for key, value in labels.items() if value.strip(": ")]
        # A part with a file name would be an upload.
        parts = {name: (None, value) for name, value in inputs.items()}
        answer = await self._post(path, params={"labels": given} if given else None, files=parts)
        if not answer.is_success:
            raise UpstreamError(_refusal_of_creation(answer.status))
        execution = execution_of(decode(answer, ExecutionAnswer, is_outcome_unknown=True))
        log.info("execution.created", execution_id=execution.id, flow=flow or self._flow)
        return execution

    async def find_execution(self, execution_id: str) -> Execution | None:
        """None when Kestra does not know the execution."""
        answer = await self._find_execution(execution_id)
        return None if answer is None else execution_of(answer)

    async def resume(self, execution_id: str) -> Resumption:
        """Try once. If the execution is not paused yet, the caller may try again later.

        Kestra resumes whatever pause it finds; ``find_execution`` says which pause that is.
        """
        try:
            return await self._resume(execution_id)
        except UpstreamError:
            self._style.forget()
            raise

    async def _resume(self, execution_id: str) -> Resumption:
        style = await self._style.get()
        answer = await self._send_resume(execution_id, style)
        if answer.status in (404, 405):
            if await self._find_execution(execution_id) is None:
                return Resumption.UNKNOWN_EXECUTION
            answer = await self._send_resume(execution_id, await self._style.get_other(style))
        if answer.is_success:
            return Resumption.RESUMED
        if answer.status == 409:
            return await self._find_why_not_paused(execution_id)
        raise UpstreamError(f"Kestra refused to resume the execution ({answer.status})")

    async def find_problem(self) -> str | None:
        """A sentence that says what is wrong with Kestra; None when it is healthy. Cached for ``health_valid_s``."""
        try:
            self._style.verify(await self._health.get())
        except UpstreamError as exc:
            return str(exc)
        return None

    async def get_version(self) -> str:
        """As Kestra writes it, for instance ``1.3.44``."""
        return await self._style.get_version()

    async def find_flow(self, flow_id: str) -> Flow | None:
        """A flow of the settings' namespace; None when Kestra does not know it."""
        answer = await self._get(f"{self._tenant}/flows/{path_part(self._namespace)}/{path_part(flow_id)}")
        if answer.status == 404:
            return None
        if not answer.is_success:
            raise UpstreamError(f"Kestra refused to show the flow ({answer.status})")
        return flow_of(decode(answer, FlowAnswer))

    async def verify_present(self) -> None:
        """Raises UpstreamError unless Kestra answered and accepted our credentials at most ``health_valid_s`` ago.

        This requires less than health: executions are created alike in all versions, so the version is not needed.
        """
        await self._presence.get()

    async def _get(self, path: str) -> HttpAnswer:
        return verify(await self._session.get(path, within_s=self._ask_s, pauses_s=RETRY_PAUSES_S, again_after=RETRIED))

    async def _post(self, path: str, **content: Any) -> HttpAnswer:
        return verify(await self._session.send("POST", path, within_s=self._write_s, **content), is_post=True)

    async def _find_execution(self, execution_id: str) -> ExecutionAnswer | None:
        answer = await self._get(f"{self._tenant}/executions/{path_part(execution_id)}")
        if answer.status == 404:
            return None
        if not answer.is_success:
            raise UpstreamError(f"Kestra refused to show the execution ({answer.status})")
        return decode(answer, ExecutionAnswer)

    async def _send_resume(self, execution_id: str, style: Style) -> HttpAnswer:
        action = "resume" if style == "v1" else "actions/resume"
        return await self._post(f"{self._tenant}/executions/{path_part(execution_id)}/{action}")

    async def _find_why_not_paused(self, execution_id: str) -> Resumption:
        """Kestra answers 409 before the pause, after it, and after the execution has ended; its state tells which."""
        execution = await self.find_execution(execution_id)
        if execution is None:
            return Resumption.NOT_PAUSED_YET
        if execution.is_terminal or (execution.pauses and execution.state != PAUSED):
            return Resumption.ALREADY_RESUMED
        return Resumption.NOT_PAUSED_YET


def _refusal_of_creation(status: int) -> str:
    known = {404: NO_FLOW, 409: DISABLED, 422: INPUTS}
    return known.get(status, f"Kestra refused to create the execution ({status})")
