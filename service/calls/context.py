"""The context that every server message repeats, as JSON fragments; empty bytes where it states none. Pure."""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import Raw, Struct

from service.calls.phone import find_e164_in_sip, is_e164, normalize_phone
from service.vapi.messages import ABSENT, Artifact, Assistant, Call, Customer, PhoneNumber, ServerMessage
from service.vapi.salvage import Salvage, decoded, is_empty

MAX_PHONE_LENGTH: Final = 128
"""A number names an index key; the longest addresses seen have 60 characters."""

_E164_FRAGMENT: Final = re.compile(rb'"\+[1-9][0-9]{1,14}"')

_ARTIFACT: Final = Artifact()
_ASSISTANT: Final = Assistant()
_CUSTOMER: Final = Customer()
_PHONE_NUMBER: Final = PhoneNumber()


class ProviderContext(Struct):
    """What we attach to a call when we place it, in either spelling."""

    providerName: Raw = ABSENT  # noqa: N815 - the callers' spelling, here and below
    provider_name: Raw = ABSENT
    providerPhone: Raw = ABSENT  # noqa: N815
    provider_phone: Raw = ABSENT
    serviceType: Raw = ABSENT  # noqa: N815
    service_type: Raw = ABSENT
    serviceNeeded: Raw = ABSENT  # noqa: N815
    service_needed: Raw = ABSENT
    location: Raw = ABSENT
    userCriteria: Raw = ABSENT  # noqa: N815
    user_criteria: Raw = ABSENT
    urgency: Raw = ABSENT
    serviceRequestId: Raw = ABSENT  # noqa: N815
    service_request_id: Raw = ABSENT


_PROVIDER_FACTS: Final = (
    "provider_name",
    "provider_phone",
    "service_type",
    "location",
    "user_criteria",
    "urgency",
    "service_request_id",
)
_PROVIDER_CONTEXT: Final = msgspec.json.Decoder(ProviderContext)
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])


def context_of(message: ServerMessage, call: Call, fields: Salvage) -> dict[str, bytes]:
    """Ids, phone, metadata and what the callers attached: what every message repeats."""
    overrides = call.assistantOverrides or _ASSISTANT
    assistant, inline = message.assistant or _ASSISTANT, call.assistant or _ASSISTANT
    artifact = message.artifact or _ARTIFACT
    number, call_number = message.phoneNumber or _PHONE_NUMBER, call.phoneNumber or _PHONE_NUMBER
    places = (call.metadata, overrides.metadata, assistant.metadata, inline.metadata)
    own = [text for text in dict.fromkeys(map(bytes, places)) if fields.object(text)]
    facts = {
        "customer_phone": _customer_phone(message.customer or _CUSTOMER, call.customer or _CUSTOMER, fields),
        "assistant_id": fields.text(call.assistantId, assistant.id, inline.id),
        "phone_number_id": fields.text(call.phoneNumberId, number.id, call_number.id),
        "metadata": _merged(own),
    }
    values = (overrides.variableValues, artifact.variableValues, artifact.variables, assistant.variableValues)
    return facts | _provider_context(own, values, fields)


def _customer_phone(customer: Customer, call_customer: Customer, fields: Salvage) -> bytes:
    first = fields.text(customer.number)
    if _E164_FRAGMENT.fullmatch(first):
        return first
    numbers = [decoded(text) for text in dict.fromkeys((first, fields.text(call_customer.number)))]
    found = [normalize_phone(number) for number in numbers if number.strip() and len(number) <= MAX_PHONE_LENGTH]
    for phone in found:
        if is_e164(phone):
            return msgspec.json.encode(phone)
    for place in (customer.sipUri, call_customer.sipUri):
        if (address := decoded(fields.text(place))) and (phone_in_sip := find_e164_in_sip(address)):
            return msgspec.json.encode(phone_in_sip)
    return msgspec.json.encode(found[0]) if found else b""


def _merged(objects: list[bytes]) -> bytes:
    """One object out of several, per key from the first that has a value for it."""
    if len(objects) < 2:
        return objects[0] if objects else b""
    merged: dict[str, Raw] = {}
    for text in objects:
        for key, value in _OBJECT.decode(text).items():
            if key not in merged or is_empty(bytes(merged[key])):
                merged[key] = value
    return msgspec.json.encode(merged)


def _provider_context(own: list[bytes], values: tuple[Raw, ...], fields: Salvage) -> dict[str, bytes]:
    """The callers' own words about the provider: from metadata first, from the prompt's variables last."""
    facts = dict.fromkeys(_PROVIDER_FACTS, b"")
    for text in own:
        _fill(facts, text, fields)
    for place in values:
        if all(facts.values()):
            break
        if text := fields.object(place):
            _fill(facts, text, fields)
    return facts


def _fill(facts: dict[str, bytes], text: bytes, fields: Salvage) -> None:
    """What is blank yet, from this object."""
    said, find = _PROVIDER_CONTEXT.decode(text), fields.text
    facts["provider_name"] = facts["provider_name"] or find(said.providerName, said.provider_name)
    facts["provider_phone"] = facts["provider_phone"] or find(said.providerPhone, said.provider_phone)
    facts["service_type"] = facts["service_type"] or find(
        said.serviceType, said.service_type, said.serviceNeeded, said.service_needed
    )
    facts["location"] = facts["location"] or find(said.location)
    facts["user_criteria"] = facts["user_criteria"] or find(said.userCriteria, said.user_criteria)
    facts["urgency"] = facts["urgency"] or find(said.urgency)
    facts["service_request_id"] = facts["service_request_id"] or find(said.serviceRequestId, said.service_request_id)
