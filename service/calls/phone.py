"""Phone numbers as keys: every way to write a number gives the same text."""

from __future__ import annotations

import hashlib
import re
from typing import Final

import msgspec

from service.calls.facts import Facts

MAX_PHONE_LENGTH: Final = 128
"""Limits the name of an index key. The longest addresses seen have 60 characters."""

E164_PATTERN: Final = r"\+[1-9][0-9]{1,14}"
"""https://www.itu.int/rec/T-REC-E.164: at most 15 digits."""

_E164: Final = re.compile(E164_PATTERN)

_SIP_USER: Final = re.compile(r"sips?:([^@;]+)", re.IGNORECASE)
_decode_text: Final = msgspec.json.Decoder(str).decode
_PUNCTUATION: Final = str.maketrans("", "", " \t-.()/\u00a0")


def is_e164(number: str) -> bool:
    return _E164.fullmatch(number) is not None


def normalize_phone(number: str) -> str:
    """``+1 (864) 123-4567`` and a SIP address whose user is E.164 as ``+18641234567``; digits without + as they are.

    Text that is not a number ("anonymous") is returned without the blanks around it.
    """
    text = number.strip()
    if is_e164(text):
        return text
    if user := _SIP_USER.match(text):
        text = user[1]
    digits = text.removeprefix("tel:").translate(_PUNCTUATION)
    if is_e164(digits) or (digits.isascii() and digits.isdigit()):
        return digits
    return number.strip()


def find_e164_in_sip(address: str) -> str | None:
    """The user part of a SIP address if it is E.164: ``sip:+18645550123@198.51.100.7``."""
    phone = normalize_phone(address)
    return phone if is_e164(phone) else None


def mask_phone(number: str) -> str:
    """For logs: ``+1864***4567``."""
    return f"{number[:5]}***{number[-4:]}" if len(number) > 9 else "***"


def digest_of_phone(number: str) -> str:
    """What is kept of a number that is to be forgotten: SHA-256 in hex of the number as normalized."""
    return hashlib.sha256(normalize_phone(number).encode(errors="replace")).hexdigest()


def phone_digests(facts: Facts) -> tuple[str, ...]:
    """The digests of the numbers by which a call may have to be forgotten, from its facts."""
    numbers = (facts.customer_phone, facts.provider_phone)
    return tuple(digest_of_phone(_decode_text(number)) for number in numbers if number)
