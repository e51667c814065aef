from __future__ import annotations

import time
from pathlib import Path

import pytest

from sm_launch.data.pii import mask_pii


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to jo.doe+x@mail.example.org, please", "write to [EMAIL], please"),
        ("müller@straße.de schrieb", "[EMAIL] schrieb"),
        ("card 4111 1111 1111 1111 expired", "card [CARD] expired"),
        ("4111111111111111", "[CARD]"),
        ("pay DE89 3704 0044 0532 0130 00 NOW", "pay [IBAN] NOW"),
        ("GB82WEST12345698765432", "[IBAN]"),
        ("from 192.168.1.20.", "from [IP]."),
        ("at 2001:db8:85a3::8a2e:370:7334, port 80", "at [IP], port 80"),
        ("[fe80::1ff:fe23:4567:890a] and ::ffff:192.0.2.128.", "[[IP]] and [IP]."),
        ("AKIAIOSFODNN7EXAMPLE leaked", "[KEY] leaked"),
        ("use ghp_" + "a1B2" * 9 + ", or hf_" + "x9" * 17, "use [KEY], or [KEY]"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE4\n-----END RSA PRIVATE KEY-----",
            "-----BEGIN RSA PRIVATE KEY-----[KEY]-----END RSA PRIVATE KEY-----",
        ),
        ("ssn 123-45-6789", "ssn [SSN]"),
        ("call +49 30 1234567 or (555) 123-4567", "call [PHONE] or [PHONE]"),
        ("555-123-4567!", "[PHONE]!"),
    ],
)
def test_what_is_masked(text: str, masked: str) -> None:
    assert mask_pii(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "order 4111111111111112 came",  # no card: wrong check digit
        "version 1.2.3.4.5 and 999.1.1.1",
        "on 2024-01-31 at 10:30:00",
        "it costs 1,299.00, 12345678 times",
        "DE00 3704 0044 0532 0130 00",
        "std::vector2 and a::b, 10:30, 1:2:3:4, ::1",
        "sk-learn 1.6, a key such as hf_token1",
        "meet me @home, 3 @ 5 dollars",
        "2 + 2 = 4, +1!",
    ],
)
def test_what_is_left_alone(text: str) -> None:
    assert mask_pii(text) == text


def test_hostile_texts_take_no_time() -> None:
    started = time.perf_counter()
    for text in (
        "a." * 10_000 + "@",
        "1 " * 10_000,
        "A1 " * 10_000,
        "+1-" * 7_000,
        "1:" * 10_000,
        "eyJ1" * 5_000,
    ):
        mask_pii(text)
    assert time.perf_counter() - started < 2


def test_it_is_a_step(run, reviews: Path) -> None:
    with reviews.open("a") as file:
        file.write("mail me: a@b.example,pos\n")
    rows = run(input="reviews.csv", steps=["mask_pii", "white_space"]).all_rows
    assert {"text": "mail me: [EMAIL]", "label": "pos"} in rows
