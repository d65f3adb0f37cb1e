"""Reads the context that every server message repeats: ids, phone, metadata and what our callers attached. Pure."""

from __future__ import annotations

from operator import attrgetter
from typing import Final

import msgspec
from msgspec import Raw

from service.calls.facts import Facts
from service.calls.phone import MAX_PHONE_LENGTH, find_e164_in_sip, is_e164, normalize_phone
from service.vapi.coercion import ABSENT, FieldReader, Text, is_blank, is_empty, json_text, without_escapes
from service.vapi.messages import Artifact, Assistant, Call, Customer, PhoneNumber, ServerMessage

_ARTIFACT: Final = Artifact()
_ASSISTANT: Final = Assistant()
_CUSTOMER: Final = Customer()
_PHONE_NUMBER: Final = PhoneNumber()

PROVIDER_KEYS: Final = {
    "providerName": "provider_name",
    "provider_name": "provider_name",
    "providerPhone": "provider_phone",
    "provider_phone": "provider_phone",
    "serviceType": "service_type",
    "service_type": "service_type",
    "serviceNeeded": "service_type",
    "service_needed": "service_type",
    "location": "location",
    "userCriteria": "user_criteria",
    "user_criteria": "user_criteria",
    "urgency": "urgency",
    "serviceRequestId": "service_request_id",
    "service_request_id": "service_request_id",
}
"""The keys that callers attach to a call when they place it. Of several keys for one fact the first counts."""

_provider_facts: Final = attrgetter(*dict.fromkeys(PROVIDER_KEYS.values()))
_ATTACHED: Final = msgspec.json.Decoder(
    msgspec.defstruct("ProviderContext", [(key, Raw, ABSENT) for key in PROVIDER_KEYS])
)
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])


def add_context(
    facts: Facts, message: ServerMessage, call: Call, overrides: list[Assistant], fields: FieldReader
) -> None:
    assistant, inline = message.assistant or _ASSISTANT, call.assistant or _ASSISTANT
    number, call_number = message.phoneNumber or _PHONE_NUMBER, call.phoneNumber or _PHONE_NUMBER
    if phone := _customer_phone(message.customer or _CUSTOMER, call.customer or _CUSTOMER):
        facts.customer_phone = json_text(phone)
    if assistant_id := fields.text(call.assistantId, assistant.id, inline.id):
        facts.assistant_id = without_escapes(assistant_id)
    if phone_number_id := fields.text(call.phoneNumberId, number.id, call_number.id):
        facts.phone_number_id = without_escapes(phone_number_id)
    if call_type := fields.text(call.type):
        facts.call_type = without_escapes(call_type)
    places = (call.metadata, *[each.metadata for each in overrides], assistant.metadata, inline.metadata)
    texts = dict.fromkeys([bytes(place) for place in places if place is not ABSENT])
    own = [found for text in texts if (found := fields.object(text))]
    if own:
        facts.metadata = _merged(own)
    for text in own:
        _add_provider(facts, text, fields)
    if all(_provider_facts(facts)):
        return
    artifact = message.artifact or _ARTIFACT
    values = (*[each.variableValues for each in overrides], artifact.variableValues, artifact.variables)
    for place in (*values, assistant.variableValues):
        if text := fields.object(place):
            _add_provider(facts, text, fields)


def _customer_phone(customer: Customer, call_customer: Customer) -> Text:
    if customer.number and is_e164(customer.number):
        return customer.number
    numbers = [number for number in (customer.number, call_customer.number) if number and not is_blank(number)]
    found = [normalize_phone(number) for number in numbers if len(number) <= MAX_PHONE_LENGTH]
    for phone in found:
        if is_e164(phone):
            return phone
    for address in (customer.sipUri, call_customer.sipUri):
        if address and (phone_in_sip := find_e164_in_sip(address)):
            return phone_in_sip
    return found[0] if found else None


def _merged(objects: list[bytes]) -> bytes:
    """Merges several objects into one. Each key has the first value that is not empty."""
    if len(objects) == 1:
        return objects[0]
    merged: dict[str, Raw] = {}
    for text in objects:
        for key, value in _OBJECT.decode(text).items():
            if key not in merged or is_empty(bytes(merged[key])):
                merged[key] = value
    return msgspec.json.encode(merged)


def _add_provider(facts: Facts, attached: bytes, fields: FieldReader) -> None:
    """Add the callers' values that are not known yet; called with metadata first, the prompt's variables last."""
    places = msgspec.structs.astuple(_ATTACHED.decode(attached))
    for fact, place in zip(PROVIDER_KEYS.values(), places, strict=True):
        if place is not ABSENT and not getattr(facts, fact) and (text := fields.text(place)):
            setattr(facts, fact, without_escapes(text))
