from __future__ import annotations

import pytest

from sm_launch.data.steps import build

CLASSIFICATION = build(["unicode", "html", "control_characters", "white_space"])


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("plain text", "plain text"),
        ("cafÃ© and itâ€™s", "café and it's"),
        ("“quoted” – it’s", '"quoted" – it\'s'),
        ("ＦＵＬＬ width", "FULL width"),
        ("cafe\u0301", "café"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("bell\x07 and\x00 null", "bell and null"),
        ("  many \t\n  spaces\u00a0here ", "many spaces here"),
        ("<p>Good<br/>value</p>", "Good value"),
        ("fish &amp; chips&nbsp;&lt;3", "fish & chips <3"),
        ("twice &amp;amp; escaped &lt;b&gt;tag&lt;/b&gt;", "twice & escaped tag"),
        ("a<script>alert('x')</script>b <!-- c --> d", "a b d"),
        ("I <3 it, a<b and c>d", "I <3 it, a<b and c>d"),
        ("family \U0001f468\u200d\U0001f469\u200d\U0001f467", "family 👨‍👩‍👧"),
        ("می\u200cخواهم", "می\u200cخواهم"),
    ],
)
def test_classification_defaults_repair(dirty: str, clean: str) -> None:
    assert CLASSIFICATION(dirty) == clean
    assert CLASSIFICATION(clean) == clean


def test_trim_keeps_the_layout_of_code() -> None:
    assert build(["trim"])("\n\ndef f():  \n    return 1\t\n\n") == "def f():\n    return 1"


def test_steps_run_in_the_order_given() -> None:
    assert build(["html", "lowercase"])("&Auml;") == "ä"
    assert build(["lowercase", "html"])("&Auml;") == "ä"
    assert build([])("  As IS ") == "  As IS "
