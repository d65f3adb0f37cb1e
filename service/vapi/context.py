"""Reads the context that every server message repeats: ids, phone, metadata and what our callers attached. Pure."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw, Struct

from service.calls.facts import Facts
from service.calls.phone import MAX_PHONE_LENGTH, find_e164_in_sip, is_e164, normalize_phone
from service.vapi.coercion import ABSENT, FieldReader, Text, first_said, is_blank, is_empty
from service.vapi.messages import Artifact, Assistant, Call, Customer, PhoneNumber, ServerMessage

_ARTIFACT: Final = Artifact()
_ASSISTANT: Final = Assistant()
_CUSTOMER: Final = Customer()
_PHONE_NUMBER: Final = PhoneNumber()


class ProviderContext(Struct):
    """What we attach to a call when we place it, in both spellings."""

    providerName: Text = None  # noqa: N815 - the callers' spelling, here and below
    provider_name: Text = None
    providerPhone: Text = None  # noqa: N815
    provider_phone: Text = None
    serviceType: Text = None  # noqa: N815
    service_type: Text = None
    serviceNeeded: Text = None  # noqa: N815
    service_needed: Text = None
    location: Text = None
    userCriteria: Text = None  # noqa: N815
    user_criteria: Text = None
    urgency: Text = None
    serviceRequestId: Text = None  # noqa: N815
    service_request_id: Text = None


_PROVIDER_CONTEXT: Final = msgspec.json.Decoder(ProviderContext)
_NOTHING_SAID: Final = ProviderContext()
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])


def add_context(facts: Facts, message: ServerMessage, call: Call, fields: FieldReader) -> None:
    given = (call.assistantOverrides, call.squadOverrides, call.workflowOverrides)
    overrides = [each for each in given if each is not None]
    assistant, inline = message.assistant or _ASSISTANT, call.assistant or _ASSISTANT
    number, call_number = message.phoneNumber or _PHONE_NUMBER, call.phoneNumber or _PHONE_NUMBER
    facts.customer_phone = _customer_phone(message.customer or _CUSTOMER, call.customer or _CUSTOMER)
    facts.assistant_id = first_said(call.assistantId, assistant.id, inline.id)
    facts.phone_number_id = first_said(call.phoneNumberId, number.id, call_number.id)
    facts.call_type = first_said(call.type)
    places = (call.metadata, *[each.metadata for each in overrides], assistant.metadata, inline.metadata)
    texts = dict.fromkeys([bytes(place) for place in places if place is not ABSENT])
    own = [found for text in texts if (found := fields.object(text))]
    if own:
        facts.metadata = _on_one_line(_merged(own))
    for text in own:
        _add_provider(facts, fields.decode(text, _PROVIDER_CONTEXT))
    artifact = message.artifact or _ARTIFACT
    values = (*[each.variableValues for each in overrides], artifact.variableValues, artifact.variables)
    for place in (*values, assistant.variableValues):
        if _is_provider_known(facts):
            break
        if text := fields.object(place):
            _add_provider(facts, fields.decode(text, _PROVIDER_CONTEXT))


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


def _on_one_line(text: bytes) -> Raw:
    return Raw(msgspec.json.format(text, indent=-1) if b"\n" in text else text)


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


def _add_provider(facts: Facts, said: ProviderContext) -> None:
    """Add the callers' values that are not known yet; called with metadata first, the prompt's variables last."""
    if said == _NOTHING_SAID:
        return
    facts.provider_name = facts.provider_name or first_said(said.providerName, said.provider_name)
    facts.provider_phone = facts.provider_phone or first_said(said.providerPhone, said.provider_phone)
    facts.service_type = facts.service_type or first_said(
        said.serviceType, said.service_type, said.serviceNeeded, said.service_needed
    )
    facts.location = facts.location or first_said(said.location)
    facts.user_criteria = facts.user_criteria or first_said(said.userCriteria, said.user_criteria)
    facts.urgency = facts.urgency or first_said(said.urgency)
    facts.service_request_id = facts.service_request_id or first_said(said.serviceRequestId, said.service_request_id)


def _is_provider_known(facts: Facts) -> bool:
    return None not in (
        facts.provider_name,
        facts.provider_phone,
        facts.service_type,
        facts.location,
        facts.user_criteria,
        facts.urgency,
        facts.service_request_id,
    )
