"""The original design's two handlers as one would write them with FastAPI, pydantic and redis-py.

KEEP_PAYLOAD=0 leaves raw_webhook_payload out of the record, which the design keeps and returns.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

from fastapi import FastAPI, Header, HTTPException
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from redis.asyncio import Redis

TTL_S = 30 * 60
KEEPS_PAYLOAD = os.environ["KEEP_PAYLOAD"] == "1"
KEY_PREFIX = os.environ["KEY_PREFIX"]
SECRET = os.environ["VAPI_WEBHOOK_SECRET"].encode()
redis = Redis.from_url(os.environ["REDIS_URL"])


class Analysis(BaseModel):
    summary: str | None = None
    structuredData: Any = None
    successEvaluation: Any = None


class Artifact(BaseModel):
    transcript: str | None = None
    messages: list[Any] | None = None
    recordingUrl: str | None = None


class Customer(BaseModel):
    number: str | None = None


class Results(BaseModel):
    status: str | None = None
    endedReason: str | None = None
    startedAt: str | None = None
    endedAt: str | None = None
    transcript: str | None = None
    messages: list[Any] | None = None
    recordingUrl: str | None = None
    analysis: Analysis = Analysis()
    artifact: Artifact = Artifact()
    customer: Customer = Customer()


class Call(Results):
    id: str
    assistantId: str | None = None
    phoneNumberId: str | None = None
    metadata: dict[str, Any] = {}


class Message(Results):
    type: str
    timestamp: float | str | None = None
    call: Call


class Webhook(BaseModel):
    message: Message


class Acknowledgement(BaseModel):
    success: bool = True
    message: str
    callId: str


class CallResult(BaseModel):
    id: str
    call_id: str
    assistant_id: str | None
    phone_number_id: str | None
    customer_phone: str
    status: str | None
    ended_reason: str | None
    started_at: str | None
    ended_at: str | None
    transcript: dict[str, str] | None
    messages: list[Any] | None
    recording_url: str | None
    analysis_summary: str | None
    analysis_structured_data: Any
    analysis_success_evaluation: Any
    provider_name: Any
    provider_phone: Any
    service_type: Any
    location: Any
    user_criteria: Any
    urgency: Any
    service_request_id: Any
    raw_webhook_payload: Any = None
    created_at: datetime
    updated_at: datetime


class Found(BaseModel):
    success: bool = True
    data: CallResult


def record_of(message: Message, payload: dict[str, Any] | None) -> CallResult:
    call, artifact, metadata = message.call, message.artifact, message.call.metadata
    transcript = artifact.transcript or message.transcript or call.transcript
    now = datetime.now(UTC)
    return CallResult(
        id=str(uuid4()),
        call_id=call.id,
        assistant_id=call.assistantId,
        phone_number_id=call.phoneNumberId,
        customer_phone=call.customer.number or message.customer.number or "",
        status=message.status or ("ended" if message.type == "end-of-call-report" else call.status),
        ended_reason=message.endedReason or call.endedReason,
        started_at=message.startedAt or call.startedAt,
        ended_at=message.endedAt or call.endedAt,
        transcript={"text": transcript} if transcript else None,
        messages=artifact.messages or message.messages or call.messages,
        recording_url=artifact.recordingUrl or message.recordingUrl or call.recordingUrl,
        analysis_summary=message.analysis.summary or call.analysis.summary,
        analysis_structured_data=message.analysis.structuredData or call.analysis.structuredData,
        analysis_success_evaluation=message.analysis.successEvaluation or call.analysis.successEvaluation,
        provider_name=metadata.get("providerName"),
        provider_phone=metadata.get("providerPhone"),
        service_type=metadata.get("serviceNeeded"),
        location=metadata.get("location"),
        user_criteria=metadata.get("userCriteria"),
        urgency=metadata.get("urgency"),
        service_request_id=metadata.get("serviceRequestId"),
        raw_webhook_payload=payload,
        created_at=now,
        updated_at=now,
    )


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield
    await redis.aclose()


app = FastAPI(lifespan=lifespan)


async def store(sent_secret: str, message: Message, payload: dict[str, Any] | None) -> Acknowledgement:
    if not secrets.compare_digest(sent_secret.encode(), SECRET):
        raise HTTPException(401, "Invalid webhook signature")
    await redis.set(KEY_PREFIX + message.call.id, record_of(message, payload).model_dump_json(), ex=TTL_S)
    return Acknowledgement(message=f"Webhook processed: {message.type}", callId=message.call.id)


async def receive(webhook: Webhook, x_vapi_secret: Annotated[str, Header()] = "") -> Acknowledgement:
    return await store(x_vapi_secret, webhook.message, None)


async def receive_and_keep(payload: dict[str, Any], x_vapi_secret: Annotated[str, Header()] = "") -> Acknowledgement:
    try:
        message = Webhook.model_validate(payload).message
    except ValidationError as exc:
        raise RequestValidationError(exc.errors()) from None
    return await store(x_vapi_secret, message, payload)


app.post("/api/v1/vapi/webhook")(receive_and_keep if KEEPS_PAYLOAD else receive)


@app.get("/api/v1/vapi/calls/{call_id}")
async def get_call(call_id: str) -> Found:
    stored = await redis.get(KEY_PREFIX + call_id)
    if stored is None:
        raise HTTPException(404, "Call result not found")
    return Found(data=CallResult.model_validate_json(stored))
