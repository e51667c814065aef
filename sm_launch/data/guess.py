"""What the columns of a file are for a training method, so that nobody has to write it down."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sm_launch.data import aligned
from sm_launch.data.chunks import Chunk, cell, find_column, is_null, short_list
from sm_launch.data.folders import FORMAT, are_class_folders
from sm_launch.data.labels import as_list
from sm_launch.data.messages import looks_like_messages
from sm_launch.data.pipeline import fetch_by_default
from sm_launch.data.read import read
from sm_launch.data.sources import Source, is_data, list_files, locate
from sm_launch.errors import UserInputError
from sm_launch.job.data import Column, DataConfig, InputFormat
from sm_launch.job.tasks import TASKS, Shape, Task

_NAMES: dict[str, tuple[str, ...]] = {
    "text": ("text", "review", "sentence", "content", "body", "comment", "message", "tweet",
             "document", "utterance", "headline", "title", "description", "query", "premise",
             "sentence1", "question1", "text1", "text_a"),
    "text_pair": ("text_pair", "hypothesis", "sentence2", "question2", "text2", "text_b"),
    "label": ("label", "labels", "sentiment", "class", "category", "target", "intent", "topic",
              "emotion", "label_text", "stars", "rating", "overall", "tag", "gold_label",
              "relevance", "rel", "score", "is_duplicate", "duplicate"),
    "prompt": ("prompt", "instruction", "question", "query", "input", "problem", "source"),
    "completion": ("completion", "response", "answer", "output", "solution", "target"),
    "messages": ("messages", "conversations", "conversation", "dialogue", "dialog", "chat",
                 "turns"),
    "chosen": ("chosen", "preferred", "accepted", "response_chosen", "chosen_response", "better",
               "preferred_output"),
    "rejected": ("rejected", "dispreferred", "response_rejected", "rejected_response", "worse",
                 "non_preferred_output"),
    "question": ("question", "query"),
    "context": ("context", "passage", "paragraph", "document", "text"),
    "answers": ("answers", "answer", "answer_text"),
    "tokens": ("tokens", "words"),
    "tags": ("tags", "ner_tags", "pos_tags", "labels", "tag"),
    "anchor": ("anchor", "query", "question", "docstring"),
    "positive": ("positive", "pos", "answer", "passage", "document", "code"),
    "negative": ("negative", "neg", "hard_negative"),
    "sentence1": ("sentence1", "sentence_1", "text1", "premise", "question1"),
    "sentence2": ("sentence2", "sentence_2", "text2", "hypothesis", "question2"),
    "query": ("query", "question", "search_query", "topic"),
    "document": ("document", "passage", "text", "doc", "product", "answer"),
    "source": ("source", "document", "article", "dialogue", "src", "text", "input", "content",
               "body"),
    "target": ("target", "summary", "highlights", "abstract", "translation", "tgt", "output",
               "headline"),
    "score": ("score", "similarity", "similarity_score"),
}  # fmt: skip
"""What people call the columns, the best guess first."""
_PAIR_FIRST = frozenset(
    {"premise", "sentence1", "question1", "text1", "text_a", "sentence_1", "text"}
)
_ASKED_OF = frozenset({"sentence", "passage", "context", "paragraph", "document", "answer"})
"""Texts that a question beside them is about: QNLI's, BoolQ's."""
_NO_TEXT = frozenset({"id", "ids", "idx", "index", "url", "uuid", "guid", "hash", "sha"})
"""Parts of names that make a column no text, whatever else its name holds: review_id."""
_KTO_LABELS = ("label", "thumbs_up", "desirable", "rating")
_ANSWER_NAMES = ("answer", "solution", "ground_truth", "final_answer", "target", "label")
_SIDES = Shape({"query": "text", "positive": "text"})
"""Of a file for reranking without a label; documents that do not answer stand beside."""
_SAMPLE_ROWS = 2000
_MOST_LABELS = 50


@dataclass
class Guess:
    """What job.yaml has to say about a file."""

    columns: dict[str, Column | list[Column]] = field(default_factory=dict)
    """Output name to column; of several the filled ones are joined."""
    header: bool = True
    delimiter: str | None = None
    """Where it is not the format's own."""
    format: InputFormat | None = None
    """Where file names do not say it."""
    hyperparameters: dict[str, Any] = field(default_factory=dict)


def guess(method: Task, location: str, base: Path, given: dict[str, str] | None = None) -> Guess:
    """Look at a file's columns and first rows.

    Args:
        method: of training.
        location: path or URI, as `data.input` takes it.
        base: what a relative path is relative to.
        given: columns that the user named.

    Raises:
        UserInputError: the file cannot be read, or a column that the method needs is not found.
    """
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sm-launch-data-")))
        fetch = partial(fetch_by_default, stack)
        config = DataConfig(input=location, task=method)
        if method == "text-classification" and _has_class_folders(config, location, base):
            config = config.model_copy(update={"format": FORMAT})
        if _is_aligned(location, base):
            config = config.model_copy(update={"format": aligned.FORMAT})
        source = locate(config, base=base, fetch=fetch, scratch=scratch)[0]
        chunk = _sample(source, config)
        named: dict[str, Column | list[Column]] = dict(given or {})
        places = _places(named, chunk.names)
        is_table = source.format in ("csv", "tsv")
        names = chunk.names
        has_names = not (is_table and _headerless(chunk))
        _refuse_trees(chunk.names, location)
        columns = None if places else _columns(method, chunk, named, has_names=has_names)
        header = True
        if columns is None and is_table:
            config = config.model_copy(update={"header": False})
            source = locate(config, base=base, fetch=fetch, scratch=scratch)[0]
            chunk, header = _sample(source, config), False
            columns = _placed(method, places) or _by_content(method, chunk)
    if columns is None:
        raise UserInputError(
            f"its columns are {short_list(names)}: not those of the method {method}",
            field="--data",
            value=location,
            fix="say which is which: "
            + " ".join(f"--column {name}=COLUMN" for name in TASKS[method].shapes[0].required),
        )
    default = "\t" if source.format == "tsv" else ","
    return Guess(
        columns=columns,
        header=header,
        format=config.format,
        delimiter=source.delimiter if source.delimiter != default else None,
        hyperparameters=_hyperparameters(method, chunk, columns),
    )


def _has_class_folders(config: DataConfig, location: str, base: Path) -> bool:
    """Of what is on this machine: data elsewhere is fetched once, and then says so itself."""
    place = base / Path(location).expanduser()
    if not place.is_dir():
        return False
    return are_class_folders([each.name for each in list_files(config, "input", place)])


def _is_aligned(location: str, base: Path) -> bool:
    """Whether a file of no kind that is known has others beside it, line by line."""
    place = base / Path(location).expanduser()
    return place.is_file() and not is_data(place.name) and len(aligned.files_beside(place)) > 1


def _refuse_trees(names: Sequence[str], location: str) -> None:
    """One message a row, or a whole tree of them, as OpenAssistant publishes conversations."""
    single = {"parent_id", "text", "role"} <= set(names)
    if single or {"message_tree_id", "prompt"} <= set(names):
        held = "one message of a conversation each" if single else "trees of conversations"
        raise UserInputError(
            f"its rows are {held}, and no conversations",
            field="--data",
            value=location,
            fix="write a row with `messages` (a list of role and content) for each path from a "
            "first message to a last answer",
        )


def _places(named: dict[str, Column | list[Column]], names: Sequence[str]) -> dict[str, Column]:
    """The given columns as numbers, where they are numbers that no column is called by."""
    texts = {key: str(column) for key, column in named.items()}
    if not all(text.isdigit() and text not in names for text in texts.values()):
        return {}
    return {key: int(text) for key, text in texts.items()}


def _placed(method: Task, places: dict[str, Column]) -> dict[str, Column | list[Column]] | None:
    """Those columns, where they are all that a row of the method needs."""
    whole = any(shape.required.keys() <= places.keys() for shape in TASKS[method].shapes)
    return dict(places) if places and whole else None


def _sample(source: Source, config: DataConfig) -> Chunk:
    for chunk in read(source, config):
        if chunk.rows:
            chunk.rows = chunk.rows[:_SAMPLE_ROWS]
            return chunk
    raise UserInputError("has no rows", field="--data", value=source.location)


def _columns(
    method: Task,
    chunk: Chunk,
    given: dict[str, Column | list[Column]],
    *,
    has_names: bool,
) -> dict[str, Column | list[Column]] | None:
    """Output name to column, of the first shape whose columns all have a name that tells; without
    `has_names` the first row is one of data, unless it has just these names."""
    for shape in TASKS[method].shapes:
        columns = _by_name(shape, chunk.names, given, exact=not has_names)
        if columns is not None:
            return _refined(method, columns, chunk)
    if method == "seq2seq" and not given and len(chunk.names) == 2 and has_names:
        source, target = chunk.names
        return {"source": source, "target": target}
    if method == "seq2seq" and not given and (languages := _languages(chunk)):
        return languages
    if TASKS[method].rows == "ranked" and has_names:
        sides = _by_name(_SIDES, chunk.names, given, exact=False)
        if sides is not None:
            return _refined(method, sides, chunk)
    if method == "sft":
        talks = [n for at, n in enumerate(chunk.names) if looks_like_messages(chunk.rows[0][at])]
        if talks:
            return {"messages": talks[0]}
    if method == "text-classification" and has_names:
        by_content = _by_content(method, chunk, by_name=True)
        return by_content and _refined(method, by_content, chunk)
    return None


def _by_name(
    shape: Shape, names: Sequence[str], given: dict[str, Column | list[Column]], *, exact: bool
) -> dict[str, Column | list[Column]] | None:
    columns: dict[str, Column | list[Column]] = dict(given)
    for key in shape.required:
        if key in columns:
            continue
        wanted = _KTO_LABELS if key == "label" and "completion" in shape.required else _NAMES[key]
        taken = [column for column in columns.values() if isinstance(column, str)]
        column = _match(wanted, [name for name in names if name not in taken], exact=exact)
        if column is None:
            return None
        columns[key] = column
    return columns


def _languages(chunk: Chunk) -> dict[str, Column | list[Column]] | None:
    """The two languages of WMT's and OPUS's `translation`, the first as the source."""
    for at, name in enumerate(chunk.names):
        value = chunk.rows[0][at]
        texts = isinstance(value, dict) and all(isinstance(each, str) for each in value.values())
        if texts and len(value) == 2:
            source, target = value
            return {"source": f"{name}.{source}", "target": f"{name}.{target}"}
    return None


def _match(wanted: Sequence[str], names: Sequence[str], *, exact: bool = False) -> str | None:
    """The column whose name is, or else contains (not where `exact`), one of these words."""
    plain = {name: re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") for name in names}
    for word in wanted:
        same = [name for name in names if plain[name] == word]
        if same:
            return same[0]
    for word in () if exact else wanted:
        parts = {name: plain[name].split("_") for name in names}
        inside = [n for n in names if word in parts[n] and not _NO_TEXT.intersection(parts[n])]
        if inside:
            return inside[0]
    return None


def _refined(
    method: Task, columns: dict[str, Column | list[Column]], chunk: Chunk
) -> dict[str, Column | list[Column]]:
    """Second columns that belong to the first: Alpaca's input, a pair's other text, a negative.

    What the user named stays.
    """
    names = chunk.names
    about = next((name for name in ("input", "context") if name in names), None)
    if columns.get("prompt") == "instruction" and about:  # Alpaca's and Dolly's
        columns["prompt"] = ["instruction", about]
    wanted = []
    if method == "text-classification":
        columns = _both_texts(columns, names)
        if str(columns["text"]).lower() in _PAIR_FIRST:
            wanted.append("text_pair")
    of_first = {"positive": "negative", "chosen": "prompt", "question": "answers",
                "sentence1": "score"}  # fmt: skip
    wanted += [second for first, second in of_first.items() if first in columns]
    for key in wanted:
        second = _match(_NAMES[key], [n for n in names if n not in columns.values()])
        # negative_1, negative_2, … are read by their names
        its_own = key == "negative" and str(second).startswith("negative_")
        if second is not None and key not in columns and not its_own:
            columns[key] = second
    if columns.get("prompt") in names and _holds_objects(chunk, columns["prompt"]):
        columns["prompt"] = f"{columns['prompt']}.messages"  # OpenAI's preference format
    if "sentence1" in columns and not {"score", "label"} & columns.keys() and _grades(chunk):
        columns["score"] = "label"
    return columns


def _both_texts(
    columns: dict[str, Column | list[Column]], names: Sequence[str]
) -> dict[str, Column | list[Column]]:
    """With a question before the text that it is about, and question1 before question2."""
    text, rest = str(columns["text"]), [name for name in names if name not in columns.values()]
    if "text_pair" in columns:
        return columns
    if text.endswith("2") and f"{text[:-1]}1" in rest:
        return columns | {"text": f"{text[:-1]}1"}
    if text.lower() in _ASKED_OF and "question" in rest:
        return columns | {"text": "question", "text_pair": text}
    return columns


def _holds_objects(chunk: Chunk, column: Column | list[Column]) -> bool:
    place = None if isinstance(column, list) else find_column(chunk.names, column)
    values = [value for row in chunk.rows if not is_null(value := cell(row, place))]
    return bool(values) and all(isinstance(value, dict) and "messages" in value for value in values)


def _grades(chunk: Chunk) -> bool:
    """Whether `label` holds numbers beside 0 and 1, as GLUE's STS-B calls its grades."""
    values = {str(cell(row, find_column(chunk.names, "label"))) for row in chunk.rows}
    numbers = {value.replace(".", "", 1) for value in values}
    return all(number.isdigit() for number in numbers) and not values <= {"0", "1", "0.0", "1.0"}


def _headerless(chunk: Chunk) -> bool:
    """Whether the names look like a row: one is a value of its own column, or a whole sentence."""
    for at, name in enumerate(chunk.names):
        values = {str(row[at]).strip() for row in chunk.rows}
        if name in values or len(name.split()) > 4 or name.replace(".", "").isdigit():
            return True
    return False


def _by_content(
    method: Task, chunk: Chunk, *, by_name: bool = False
) -> dict[str, Column | list[Column]] | None:
    """Columns by what they hold: labels repeat, texts are long, prompts precede answers."""
    width = len(chunk.names)
    columns = [[str(row[at]) for row in chunk.rows] for at in range(width)]
    length = [sum(map(len, column)) / len(column) for column in columns]

    def name(at: int) -> Column:
        return chunk.names[at] if by_name else at

    if method == "text-classification":
        few = [at for at in range(width) if 1 < len(set(columns[at])) <= _most(len(columns[at]))]
        if not few or width < 2:
            return None
        label = min(few, key=lambda at: (len(set(columns[at])), length[at]))
        text = max((at for at in range(width) if at != label), key=lambda at: length[at])
        return {"text": name(text), "label": name(label)}
    if method == "sft" and width == 1:
        return {"text": name(0)}
    keys = list(TASKS[method].shapes[1 if method == "sft" else 0].required)
    if method == "embedding" and width == 3:
        keys.append("negative")  # MS MARCO's triples
    if TASKS[method].rows == "ranked" and not all(map(_is_number, columns[-1])):
        keys = [*_SIDES.required, "negative"]
    return {key: name(at) for at, key in enumerate(keys)} if width == len(keys) else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _most(rows: int) -> int:
    return min(_MOST_LABELS, max(2, rows // 2))


def _hyperparameters(
    method: Task, chunk: Chunk, columns: dict[str, Column | list[Column]]
) -> dict[str, Any]:
    """What a method needs to know of the columns: whether a text has several labels, or where the
    right answer stands."""
    if method == "text-classification" and _holds_lists(chunk, columns["label"]):
        return {"problem_type": "multi_label_classification"}
    if method not in ("grpo", "rloo"):
        return {}
    answer = next((name for name in _ANSWER_NAMES if name in chunk.names), None)
    if answer is None:
        return {"reward_funcs": ["length"]}
    return {} if answer == "answer" else {"answer_column": answer}


def _holds_lists(chunk: Chunk, column: Column | list[Column]) -> bool:
    """Whether most cells of a column are lists, or the JSON of one."""
    place = None if isinstance(column, list) else find_column(chunk.names, column)
    values = [value for row in chunk.rows if not is_null(value := cell(row, place))]
    return 2 * sum(as_list(value) is not None for value in values) > len(values)
