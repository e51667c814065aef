"""Personal data and keys that have a recognisable form, replaced by a word that says what it was.

Names and street addresses have no such form: finding them takes a model, and is not done here.
"""

from __future__ import annotations

import ipaddress
import re

from sm_launch.redaction import PRIVATE_KEY, TOKEN_FORMS

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}\b")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b")
_CARD = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d])")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)")
_IPV6 = re.compile(
    r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{1,4})?(?![\w:])"
)
_SHORTEST_IPV6 = 6  # what is shorter, such as `::1` or `a::b`, is nobody's address
_US_SOCIAL_SECURITY = re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")
# International with a plus, or groups as in (555) 123-4567 and 555-123-4567: a bare run of digits
# may as well be an order number or a price.
_PHONE = re.compile(
    r"(?<![\w+])(?:\+\d{1,3}(?:[ .-]?\(?\d{1,5}\)?){2,5}|\(\d{2,5}\) ?\d{3,4}[ .-]\d{3,4}"
    r"|\d{3}[.-]\d{3}[.-]\d{4})(?!\w)"
)


def mask_pii(text: str) -> str:
    """Replace e-mail and IP addresses, IBANs, card, US social security and phone numbers, and keys.

    Cards and IBANs must pass their checksum. Keys are private ones as PEM, and the tokens of
    services that say by their form what they are.
    """
    if "@" in text:
        text = _EMAIL.sub("[EMAIL]", text)
    if not any(map(str.isdigit, text)):
        return text
    text = TOKEN_FORMS.sub("[KEY]", PRIVATE_KEY.sub(r"\1[KEY]", text))
    if ":" in text:
        text = _IPV6.sub(lambda match: "[IP]" if _is_address(match[0]) else match[0], text)
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
    if ":" in text and (len(text) < _SHORTEST_IPV6 or not any(map(str.isdigit, text))):
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_phone(text: str) -> bool:
    return 7 <= sum(map(str.isdigit, text)) <= 15
