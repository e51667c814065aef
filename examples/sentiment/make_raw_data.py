"""Write raw.csv: reviews as an export from a real shop would have them, dirt included.

    python make_raw_data.py            # the same file every time

The sentences are composed from many small parts, with negations, contrasts and mixed opinions, so
that no single word decides the sentiment. The dirt (see DIRT below) is what `sm-launch data
prepare` has to deal with.
"""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable
from pathlib import Path

SEED = 20_240
ROWS = 2_600
SHARES = {"positive": 0.56, "negative": 0.30, "neutral": 0.14}
LABEL_NOISE = 0.02

# Subject: its aspects.
SUBJECTS = {
    "headset": ["sound", "battery", "fit", "noise cancelling", "case"],
    "blender": ["motor", "lid", "jar", "noise level", "cleaning"],
    "hotel": ["room", "breakfast", "staff", "bed", "view"],
    "novel": ["plot", "ending", "dialogue", "pacing", "main character"],
    "film": ["acting", "script", "soundtrack", "ending", "camera work"],
    "laptop": ["keyboard", "screen", "fan", "battery", "hinge"],
    "restaurant": ["service", "soup", "dessert", "waiting time", "wine list"],
    "pair of shoes": ["sole", "laces", "grip", "cushioning", "stitching"],
    "phone": ["camera", "charger", "display", "speaker", "software"],
    "tent": ["zip", "poles", "floor", "weight", "rain cover"],
    "online course": ["videos", "exercises", "tutor", "pace", "slides"],
    "coffee machine": ["crema", "grinder", "water tank", "display", "steam wand"],
}
GOOD = [
    "excellent", "superb", "better than I expected", "a joy", "spot on", "really well made",
    "first class", "impressive", "hard to fault", "worth every penny", "lovely", "outstanding",
    "reliable", "a pleasant surprise", "exactly right", "brilliant", "very comfortable",
]  # fmt: skip
BAD = [
    "dreadful", "a letdown", "worse than I feared", "flimsy", "a waste of money", "unusable",
    "badly made", "disappointing", "a mess", "cheap and nasty", "infuriating", "far too noisy",
    "unreliable", "hopeless", "a step backwards", "poorly thought out", "painful",
]  # fmt: skip
PLAIN = [
    "about average", "as described", "neither here nor there", "ordinary", "what you would expect",
    "acceptable for the price", "standard", "so-so", "middling", "fine, I suppose", "adequate",
]  # fmt: skip
TIMES = ["two weeks", "a month", "three days", "half a year", "one evening", "a long weekend"]
PEOPLE = ["my sister", "my husband", "a colleague", "our neighbour", "my son", "the whole family"]
INTENSITY = ["", "really ", "quite ", "honestly ", "simply ", "frankly "]

# Both sentiments use these with the words swapped: which words are there tells nothing, only how
# they are put does. {win} is what the writer thinks, {lose} what the writer denies or plays down.
TURNS = [
    "I was told the {aspect} would be {lose}; it is {win}.",
    "They call the {aspect} {lose}. I call it {win}.",
    "The {other} may be {lose}, but the {aspect} is {win} and that decides it for me.",
    "Not {lose} at all, the {aspect}. Rather {win}.",
    "At first the {aspect} seemed {lose}; after {time} I find it {win}.",
    "It used to be {lose}. Since the last change the {aspect} is {win}.",
    "You read everywhere that the {aspect} is {lose}: I disagree.",
    "I would not call the {aspect} {lose}, quite the opposite.",
    "How anyone can find the {aspect} {lose} is beyond me.",
    "The {aspect}? {person} says {lose}. Give me {time} more and I will still say {win}.",
    "Apart from the {other}, which is {lose}, everything about this {subject} is {win}.",
    "The {aspect} is {intensity}{win}.",
]
SHARE_OF_TURNS = 0.55

Chance = random.Random
Sentence = Callable[[Chance, str, str, str], str]


def positive(chance: Chance, subject: str, aspect: str, other: str) -> str:
    good, bad = chance.choice(GOOD), chance.choice(BAD)
    intensity = chance.choice(INTENSITY)
    return chance.choice(
        [
            f"The {aspect} of this {subject} is {intensity}{good}.",
            f"I was afraid the {aspect} would be {bad}, but it turned out {good}.",
            f"After {chance.choice(TIMES)} with this {subject} I would buy it again tomorrow.",
            f"Nothing about the {aspect} is {bad}, whatever other reviews say.",
            f"{chance.choice(PEOPLE).capitalize()} wanted one too after seeing the {aspect}.",
            f"The {other} could be better, yet the {aspect} is {good} and that is what counts.",
            f"Not a single complaint about the {aspect}, and the {other} is {good} as well.",
            f"I have owned worse at twice the price; here even the {aspect} is {good}.",
            f"If you hesitate because of the {other}: don't. The {subject} is {good}.",
            f"It took {chance.choice(TIMES)} to get used to the {aspect}, now I can't do without.",
        ]
    )


def negative(chance: Chance, subject: str, aspect: str, other: str) -> str:
    good, bad = chance.choice(GOOD), chance.choice(BAD)
    intensity = chance.choice(INTENSITY)
    return chance.choice(
        [
            f"The {aspect} of this {subject} is {intensity}{bad}.",
            f"They promise that the {aspect} is {good}. It is {bad}.",
            f"After {chance.choice(TIMES)} the {aspect} gave up, and nobody answers my mails.",
            f"I so wanted to like this {subject}, but the {aspect} is {bad}.",
            f"{chance.choice(PEOPLE).capitalize()} sent theirs back because of the {aspect}; "
            "I should have listened.",
            f"The {other} is {good}, yet with such a {aspect} that helps nobody.",
            f"Far from {good}: the {aspect} is not what was advertised.",
            f"I can't recommend the {subject} to anyone who cares about the {aspect}.",
            f"How anyone can call the {aspect} {good} is beyond me.",
            f"Save yourself the trouble and pick a {subject} with a decent {aspect}.",
        ]
    )


def neutral(chance: Chance, subject: str, aspect: str, other: str) -> str:
    good, bad, plain = chance.choice(GOOD), chance.choice(BAD), chance.choice(PLAIN)
    return chance.choice(
        [
            f"The {aspect} of this {subject} is {plain}.",
            f"The {aspect} is {good}, the {other} is {bad}: make of that what you will.",
            f"I have had the {subject} for {chance.choice(TIMES)} and have no strong feelings.",
            f"Neither {good} nor {bad}; the {aspect} is {plain}.",
            f"Bought for {chance.choice(PEOPLE)}, who says the {aspect} is {plain}.",
            f"It does its job. The {aspect} is {plain} and so is the {other}.",
            f"Some days the {aspect} seems {good}, on others {bad}. Undecided.",
            f"The {subject} arrived on time; the {aspect} is {plain}.",
        ]
    )


def turn(chance: Chance, subject: str, aspect: str, other: str, *, likes: bool) -> str:
    win, lose = (GOOD, BAD) if likes else (BAD, GOOD)
    return chance.choice(TURNS).format(
        subject=subject,
        aspect=aspect,
        other=other,
        win=chance.choice(win),
        lose=chance.choice(lose),
        time=chance.choice(TIMES),
        person=chance.choice(PEOPLE),
        intensity=chance.choice(INTENSITY),
    )


WRITERS: dict[str, Sentence] = {"positive": positive, "negative": negative, "neutral": neutral}
RATINGS = {"positive": (4, 5), "negative": (1, 2), "neutral": (3,)}
OPENINGS = ["", "", "", "Short version: ", "Update: ", "Verified purchase. ", "To be fair: "]
CLOSINGS = ["", "", "", " That is all.", " Ask me anything.", " Delivered in two days."]


def review(chance: Chance, label: str) -> str:
    """One to three sentences of one sentiment about one subject."""
    subject = chance.choice(list(SUBJECTS))
    sentences = []
    for _ in range(chance.choices((1, 2, 3), (5, 4, 1))[0]):
        aspect, other = chance.sample(SUBJECTS[subject], 2)
        if label != "neutral" and chance.random() < SHARE_OF_TURNS:
            sentences.append(turn(chance, subject, aspect, other, likes=label == "positive"))
        else:
            sentences.append(WRITERS[label](chance, subject, aspect, other))
    return chance.choice(OPENINGS) + " ".join(sentences) + chance.choice(CLOSINGS)


def label_spelling(chance: Chance, label: str) -> str:
    """People and exports spell the same label in many ways."""
    short = {"positive": "pos", "negative": "neg", "neutral": "neu"}[label]
    spellings = (label, label.capitalize(), label.upper(), f" {label} ", short, short.upper())
    return chance.choices(spellings, (70, 10, 6, 6, 5, 3))[0]


# What happens to a text on its way into an export. Each must leave the sentiment as it is.
DIRT: dict[str, Callable[[str], str]] = {
    "tags": lambda text: f"<p>{text.replace('. ', '.<br/>')}</p>",
    "entities": lambda text: text.replace("'", "&#39;").replace(", ", ",&nbsp;") + " &amp; so on",
    "mojibake": lambda text: text.replace("'", "â€™").replace(" - ", " â€“ ") + " â€¦",
    "smart quotes": lambda text: f"“{text.replace(chr(39), '’')}”",
    "zero width": lambda text: text.replace(" ", " \u200b", 2) + "\ufeff",
    "full width": lambda text: "ＯＫ！ " + text,
    "combining accents": lambda text: text + " Cafe\u0301 nearby.",
    "control characters": lambda text: text.replace(" ", "\x07 ", 1),
    "white space": lambda text: f"  {text.replace(' ', '   ', 3)}\t\n ",
    "emoji": lambda text: text + " \U0001f937",
}


def clean_rows(chance: Chance) -> list[dict[str, str]]:
    """Rows whose label is right but for a little noise, as human labels have it."""
    rows = []
    for _ in range(ROWS):
        label = chance.choices(list(SHARES), list(SHARES.values()))[0]
        text = review(chance, label)
        if chance.random() < LABEL_NOISE:
            label = chance.choice([other for other in SHARES if other != label])
        rows.append(
            {
                "review": text,
                "sentiment": label_spelling(chance, label),
                "rating": str(chance.choice(RATINGS[label])),
                "source": chance.choice(("shop", "app", "mail", "survey")),
            }
        )
    return rows


def add_dirt(chance: Chance, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Dirty texts, missing values, duplicates (some with another label), unusable rows."""
    for row in chance.sample(rows, len(rows) // 5):
        row["review"] = chance.choice(list(DIRT.values()))(row["review"])
    duplicates = [dict(row) for row in chance.sample(rows, 60)]
    for row in duplicates[:30]:
        row["review"] = f" {row['review'].upper()} "
    for row in duplicates[30:40]:
        row["sentiment"] = chance.choice(("positive", "negative"))
    for row in chance.sample(rows, 45):
        row["review"] = chance.choice(("", "   ", "N/A", "null", "-"))
    for row in chance.sample(rows, 35):
        row["sentiment"] = chance.choice(("", "nan", "?"))
    for row in chance.sample(rows, 20):
        row["sentiment"] = chance.choice(("mixed", "spam", "5 stars", "see comment"))
    for row in chance.sample(rows, 3):
        row["review"] = " ".join([row["review"]] * 400)
    dirty = rows + duplicates
    chance.shuffle(dirty)
    return dirty


def main() -> None:
    chance = random.Random(SEED)
    rows = add_dirt(chance, clean_rows(chance))
    text = io.StringIO()
    fields = ["review_id", "review", "sentiment", "rating", "source"]
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    for number, row in enumerate(rows, start=1):
        writer.writerow({"review_id": f"R{number:05d}", **row})
        if number in (700, 1_900):  # an export that lost its place: a line of another shape
            text.write(f"R{number:05d}b,continued on next page\n")
        if number == 1_300:  # an opening quote that is never closed
            text.write(f'R{number:05d}b,"The rest of this review is lost,positive,4,app\n')
    Path(__file__).with_name("raw.csv").write_text(text.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    main()
