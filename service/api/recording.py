"""``GET /api/v1/vapi/calls/{call_id}/recording``: redirects to a fresh signed link; the stored URL is private."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from service.api.poll_request import read_call_id
from service.api.state import State
from service.errors import NotConfiguredError, NotFoundError


async def get_recording(state: State, request: Request) -> Response:
    """302 to the link that VAPI gives now. It does not need the call's record, which expires before the recording."""
    call_id = read_call_id(request.path_params["call_id"]).decode()
    request.scope["log"]["call_id"] = call_id
    if state.vapi is None:
        raise NotConfiguredError("Recordings come from VAPI: VAPI_API_KEY is not set")
    link = await state.vapi.find_recording_url(call_id)
    if link is None:
        raise NotFoundError("This call has no recording")
    # Anybody with the link can open the recording: keep it out of the body, the log and the Referer header.
    return Response(status_code=302, headers={"Location": link, "Referrer-Policy": "no-referrer"})
