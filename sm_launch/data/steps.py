"""Text repairs, each a pure function of one text; `steps` in job.yaml names them in order."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence

from sm_launch.data.pii import mask_pii
from sm_launch.errors import UserInputError
from sm_launch.job.data import LemmaLanguage, Presidio, Step

TextStep = Callable[[str], str]

_TAGS = (
    "a|abbr|address|article|aside|b|big|blockquote|body|br|button|caption|center|cite|code|col|dd|"
    "del|div|dl|dt|em|figure|font|footer|form|h1|h2|h3|h4|h5|h6|head|header|hr|html|i|iframe|img|"
    "input|ins|label|li|link|main|mark|meta|nav|ol|option|p|pre|q|s|samp|section|select|small|span|"
    "strike|strong|sub|sup|table|tbody|td|textarea|tfoot|th|thead|time|title|tr|tt|u|ul|var|video"
)
# Known names only, and attributes only with values: "I <3 it" and "a<b and c>d" are text.
_TAG = re.compile(rf"</?(?:{_TAGS})(?:\s[^<>]*=[^<>]*)?\s*/?>", re.IGNORECASE)
_INVISIBLE_ELEMENT = re.compile(r"<(script|style)\b[^>]*>.*?</\1\s*>|<!--.*?-->", re.I | re.S)
# Zero-width and direction marks. U+200C and U+200D stay: Persian and emoji need them.
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]"
)
# From the word with the first such character to the end of the word with the last.
_NOT_ASCII = re.compile(r"\S*[^\x00-\x7f](?:.*[^\x00-\x7f])?\S*", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]+")
_LINE_END_SPACE = re.compile(r"[^\S\n]+$", re.MULTILINE)

_LEMMA_CODES: dict[LemmaLanguage, str] = {
    "arabic": "ar", "bulgarian": "bg", "catalan": "ca", "czech": "cs", "danish": "da",
    "dutch": "nl", "english": "en", "estonian": "et", "finnish": "fi", "french": "fr",
    "german": "de", "greek": "el", "hindi": "hi", "hungarian": "hu", "indonesian": "id",
    "italian": "it", "latvian": "lv", "lithuanian": "lt", "norwegian": "nb", "persian": "fa",
    "polish": "pl", "portuguese": "pt", "romanian": "ro", "russian": "ru", "slovak": "sk",
    "slovene": "sl", "spanish": "es", "swedish": "sv", "turkish": "tr", "ukrainian": "uk",
}  # fmt: skip


def check_characters(text: str) -> str:
    """The text itself.

    Raises:
        UnicodeError: it holds half a character, or a byte that no encoding could be found for.
    """
    if not text.isascii():
        text.encode()
    return text


def repair_unicode(text: str) -> str:
    """Undo mojibake, full-width letters, curly quotes and ligatures; compose to NFC."""
    # ASCII needs no repair: of a long text with one bad word, that word is repaired.
    match = None if text.isascii() else _NOT_ASCII.search(text)
    if match is None:
        return text
    import ftfy

    repaired = ftfy.fix_text(match[0], unescape_html=False)
    return f"{text[: match.start()]}{repaired}{text[match.end() :]}"


def strip_html(text: str) -> str:
    """Remove tags, scripts and comments, and replace entities, even those escaped twice."""
    if "<" not in text and "&" not in text:
        return text
    for _ in range(2):
        text = _TAG.sub(" ", _INVISIBLE_ELEMENT.sub(" ", text))
        unescaped = html.unescape(text)
        if unescaped == text:
            break
        text = unescaped
    return _TAG.sub(" ", text)


def strip_control_characters(text: str) -> str:
    """Remove control, zero-width and direction characters, but no line break or tab."""
    if text.isascii() and text.isprintable():
        return text
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def collapse_white_space(text: str) -> str:
    """One space for every run of white space, none at the ends."""
    return " ".join(text.split())


def trim(text: str) -> str:
    """Remove white space at the ends of the text and of its lines; keep what stands inside."""
    return _LINE_END_SPACE.sub("", text).strip()


def stemmer(language: str) -> TextStep:
    """Words cut to their stems (Snowball): for bag-of-words baselines, not for transformers.

    Raises:
        UserInputError: the library is missing.
    """
    try:
        import snowballstemmer
    except ImportError:
        raise _missing("stem", "snowballstemmer") from None
    stem = snowballstemmer.stemmer(language).stemWord
    return lambda text: _WORD.sub(lambda word: str(stem(word[0].lower())), text)


def lemmatizer(language: LemmaLanguage) -> TextStep:
    """Words in the form in which a dictionary has them, lowercase: for bag-of-words baselines.

    Raises:
        UserInputError: the library is missing.
    """
    try:
        from simplemma import lemmatize
    except ImportError:
        raise _missing("lemmatize", "simplemma") from None
    code = _LEMMA_CODES[language]
    return lambda text: _WORD.sub(lambda word: lemmatize(word[0].lower(), code).lower(), text)


def _missing(step: Step, package: str) -> UserInputError:
    return UserInputError(
        f"needs the package {package}",
        field="data.steps",
        value=step,
        fix="pip install 'sm-launch[text]'",
    )


_STEPS: dict[Step, TextStep] = {
    "unicode": repair_unicode,
    "html": strip_html,
    "control_characters": strip_control_characters,
    "mask_pii": mask_pii,
    "white_space": collapse_white_space,
    "trim": trim,
    "lowercase": str.lower,
}


def build(
    names: Sequence[Step],
    stem_language: str = "english",
    lemma_language: LemmaLanguage = "english",
    presidio: Presidio | None = None,
) -> TextStep:
    """One function that applies the named steps in order; presidio follows `mask_pii`.

    Raises:
        UserInputError: a step needs a library that is not installed.
    """
    made: dict[Step, Callable[[], TextStep]] = {
        "stem": lambda: stemmer(stem_language),
        "lemmatize": lambda: lemmatizer(lemma_language),
    }
    steps: list[TextStep] = []
    for name in names:
        steps.append(made[name]() if name in made else _STEPS[name])
        if name == "mask_pii" and presidio is not None:
            from sm_launch.data.presidio import masker

            steps.append(masker(presidio))

    def apply(text: str) -> str:
        for step in steps:
            text = step(text)
        return text

    return apply
