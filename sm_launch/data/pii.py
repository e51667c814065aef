"""Personal data that has a recognisable form, replaced by a word that says what stood there.

Names and street addresses have no such form: finding them takes a model, and is not done here.
"""

from __future__ import annotations

import ipaddress
import re

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}\b")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b")
_CARD = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d])")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)")
_US_SOCIAL_SECURITY = re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")
# International with a plus, or groups as in (555) 123-4567 and 555-123-4567: a bare run of digits
# may as well be an order number or a price.
_PHONE = re.compile(
    r"(?<![\w+])(?:\+\d{1,3}(?:[ .-]?\(?\d{1,5}\)?){2,5}|\(\d{2,5}\) ?\d{3,4}[ .-]\d{3,4}"
    r"|\d{3}[.-]\d{3}[.-]\d{4})(?!\w)"
)


def mask_pii(text: str) -> str:
    """Replace e-mail addresses, IBANs, card, US social security and phone numbers, and IPv4s.

    Cards and IBANs must pass their checksum.
    """
    if "@" in text:
        text = _EMAIL.sub("[EMAIL]", text)
    if not any(map(str.isdigit, text)):
        return text
    text = _IBAN.sub(_mask_iban, text)
    text = _CARD.sub(lambda match: "[CARD]" if _is_card(match[0]) else match[0], text)
    text = _IPV4.sub(lambda match: "[IP]" if _is_address(match[0]) else match[0], text)
    text = _US_SOCIAL_SECURITY.sub("[SSN]", text)
    return _PHONE.sub(lambda match: "[PHONE]" if _is_phone(match[0]) else match[0], text)


def _is_card(text: str) -> bool:
    """Whether the digits pass the Luhn check."""
    digits = [int(character) for character in text if character.isdecimal()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 and any(digits)


def _mask_iban(match: re.Match[str]) -> str:
    """Mask the longest prefix that is an IBAN: capital words may follow it."""
    parts = match[0].split(" ")
    for end in range(len(parts), 0, -1):
        if _is_iban("".join(parts[:end])):
            return " ".join(["[IBAN]", *parts[end:]])
    return match[0]


def _is_iban(text: str) -> bool:
    """ISO 13616: the number that the letters and digits make is 1 modulo 97."""
    if not 15 <= len(text) <= 34:
        return False
    return int("".join(str(int(character, 36)) for character in text[4:] + text[:4])) % 97 == 1


def _is_address(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _is_phone(text: str) -> bool:
    return 7 <= sum(map(str.isdigit, text)) <= 15
