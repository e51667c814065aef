"""The `data` section of job.yaml: where rows are, what they mean, how they become channels."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from sm_launch.job.tasks import MULTI_LABEL, TASKS, NamedTask

InputFormat = Literal[
    "csv", "tsv", "json", "jsonl", "parquet", "text", "arrow", "conll", "folders", "beir", "aligned"
]
OutputFormat = Literal["jsonl", "parquet", "csv"]
Step = Literal[
    "unicode",
    "html",
    "control_characters",
    "mask_pii",
    "white_space",
    "trim",
    "lowercase",
    "stem",
    "lemmatize",
]
StemLanguage = Literal[
    "arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian",
    "indonesian", "italian", "norwegian", "portuguese", "romanian", "russian", "spanish", "swedish",
    "turkish",
]  # fmt: skip
LemmaLanguage = Literal[
    "arabic", "bulgarian", "catalan", "czech", "danish", "dutch", "english", "estonian", "finnish",
    "french", "german", "greek", "hindi", "hungarian", "indonesian", "italian", "latvian",
    "lithuanian", "norwegian", "persian", "polish", "portuguese", "romanian", "russian", "slovak",
    "slovene", "spanish", "swedish", "turkish", "ukrainian",
]  # fmt: skip
Column = str | int
Several = Annotated[list[Column], Field(min_length=1)]
_PAIR_NAMES = frozenset({
    "text_pair", "text2", "text_2", "text_b", "sentence2", "sentence_2", "sentence_b", "hypothesis",
    "question2", "question_2", "passage", "response", "reply", "answer",
})  # fmt: skip
"""What people call the second text of a pair."""


def _label_text(value: object) -> object:
    """YAML reads `0`, `1.0` and `yes` as numbers and booleans; labels are text everywhere else."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


LabelText = Annotated[
    str, BeforeValidator(_label_text, json_schema_input_type=str | int | float | bool)
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Columns(_Section):
    """Which column holds what: a name, or a 0-based index (needed where `header: false`)."""

    text: Column | Several = "text"
    """The text (text-classification, text, sft); of several columns, such as a title and a body,
    the filled ones are joined by an empty line."""
    text_pair: Column | Several | None = None
    """The second text of a pair (text-classification): rows are equal where both texts are."""
    label: Column | Several = "label"
    """The label (text-classification, kto; embedding: 0 or 1). Of several labels a text it may be
    a list of columns, one a label, each with 0 or 1."""
    prompt: Column | Several = "prompt"
    """The prompt (all generation tasks); of several columns the filled ones are joined, as
    Alpaca's `instruction` and `input`."""
    completion: Column = "completion"
    """The completion (prompt-completion, sft, kto)."""
    messages: Column = "messages"
    """A list of {role, content}, or its JSON (messages, sft)."""
    chosen: Column = "chosen"
    """The better answer (dpo, orpo, cpo, reward, kto)."""
    rejected: Column = "rejected"
    """The worse answer (likewise)."""
    question: Column = "question"
    """The question (question-answering)."""
    context: Column = "context"
    """The text that answers it; unchanged, because answers are places in it."""
    answers: Column = "answers"
    """The answers: texts, or SQuAD's texts with their places."""
    tokens: Column = "tokens"
    """A list of words, or its JSON (token-classification)."""
    tags: Column = "tags"
    """A tag for each word."""
    anchor: Column = "anchor"
    """The text that others are compared with (embedding)."""
    positive: Column = "positive"
    """A text that means the same (embedding); a document that answers (reranking)."""
    negative: Column = "negative"
    """A text that does not; may be missing."""
    sentence1: Column = "sentence1"
    """One of two sentences with a score or a label (embedding)."""
    sentence2: Column = "sentence2"
    """The other one."""
    score: Column = "score"
    """How alike the two are."""
    query: Column = "query"
    """What documents are ordered for (reranking)."""
    document: Column | Several = "document"
    """One of them; `label` is its relevance, from 0 up. Lists of both, of one length, are a row for
    each document."""
    source: Column | Several = "source"
    """The text to read (seq2seq): an article, a sentence to translate."""
    target: Column = "target"
    """The text to write: its summary, its translation."""
    keep: list[Column] = []
    """Further columns carried into the channels unchanged, e.g. for slices."""


class Split(_Section):
    """Fractions of the rows; a split given as a file of its own ignores its fraction."""

    train: float = 0.8
    """Share of the rows for training."""
    validation: float = 0.1
    """Share for choosing the best checkpoint."""
    test: float = 0.1
    """Share held out for the evaluation; 0 for none."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 42
    """Same seed and rows: same split."""
    stratify: bool = True
    """Keep the label shares equal in every split."""
    group: Column | None = None
    """Rows with the same value here (user, document) stay in one split; of reranking those of a
    query, of question answering those of a context, unless it says otherwise."""
    time: Column | None = None
    """Sort by this column: the oldest rows train, the newest are the test."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        shares = {"train": self.train, "validation": self.validation, "test": self.test}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"split.{name} must be between 0 and 1, got {share}")
        if abs(sum(shares.values()) - 1) > 1e-6:
            raise ValueError(
                "split.train, split.validation and split.test must add up to 1, "
                f"got {' + '.join(map(str, shares.values()))} = {sum(shares.values()):g}"
            )
        if self.train == 0:
            raise ValueError("split.train must be above 0: there would be nothing to train on")
        if self.group is not None and self.time is not None:
            raise ValueError("split.group and split.time exclude each other: remove one")
        return self


class Missing(_Section):
    """What a row without a text or a label becomes."""

    policy: Literal["drop", "fill", "fail"] = "drop"
    """drop: quarantine the row; fill: use the values below; fail: stop."""
    text: str | None = None
    """Replaces a missing text where policy is fill."""
    label: LabelText | None = None
    """Replaces a missing label, likewise."""
    values: list[str] = [
        "", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "-", "?",
        "#value!", "#ref!", "#div/0!", "#name?", "#num!", "<na>",
    ]  # fmt: skip
    """Cells that mean missing, compared without case and outer white space. A label such as `NA`
    that is frequent, or of the form of the other labels, is a class all the same, unless this list
    is given; an answer is missing only where it is empty."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.policy == "fill" and self.text is None and self.label is None:
            raise ValueError("missing.policy fill needs missing.text or missing.label")
        if self.policy != "fill" and (self.text is not None or self.label is not None):
            raise ValueError("missing.text and missing.label need missing.policy: fill")
        return self


class Duplicates(_Section):
    """Rows whose texts are equal when case and white space are ignored, or nearly equal."""

    exact: Literal["drop", "keep"] = "drop"
    """drop: keep the first; keep: keep all, in one split."""
    conflicting: Literal["majority", "drop", "first", "fail"] = "majority"
    """Equal texts with different labels: the most frequent label wins and a tie is dropped;
    drop all of them; keep the first; or fail."""
    near: Annotated[float | None, Field(ge=0.6, le=1)] = None
    """Least similarity (Jaccard of 5-character pieces, estimated) at which a text of the same
    label counts as a duplicate of an earlier one, e.g. 0.8; empty: only equal texts do."""


class Length(_Section):
    """Limits on the cleaned text; prompts and completions count together."""

    min_characters: Annotated[int, Field(ge=1)] = 1
    """Shorter texts are quarantined."""
    max_characters: Annotated[int, Field(ge=1)] = 20000
    """Longer texts are too_long."""
    too_long: Literal["drop", "truncate"] = "drop"
    """Quarantine over-long texts, or cut them."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_characters > self.max_characters:
            raise ValueError("length.min_characters is greater than length.max_characters")
        return self


class Languages(_Section):
    """Keep texts of these languages only (needs the extra `text`)."""

    allowed: Annotated[list[str], Field(min_length=1)]
    """ISO 639-1 codes, such as [en, de]."""
    least_confidence: Annotated[float, Field(ge=0, le=1)] = 0.8
    """A text in another language goes only where the recognition is at least that sure."""
    min_characters: Annotated[int, Field(ge=1)] = 20
    """Shorter texts stay: their language cannot be told."""


class Tokens(_Section):
    """Limits in tokens of the model's own tokenizer, special tokens included (extra `text`)."""

    tokenizer: str | None = None
    """Model directory or tokenizer.json; empty: that of training.model, where it is local."""
    min: Annotated[int, Field(ge=0)] = 0
    """Texts with fewer tokens go, with the reason too_few_tokens."""
    max: Annotated[int, Field(ge=3)] | None = None
    """Texts with more tokens are too long."""
    too_long: Literal["drop", "truncate"] = "drop"
    """Quarantine texts that are too long (too_many_tokens), or cut them."""


class Presidio(_Section):
    """What the step mask_pii masks besides its own patterns, as presidio recognises it (extra
    `pii`)."""

    model: str | None = None
    """spaCy pipeline that recognises names and places: an installed package such as en_core_web_sm,
    or a directory. Empty: presidio's patterns alone, and no names."""
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}$")] = "en"
    """ISO 639-1 code of the texts' language."""
    entities: Annotated[list[str], Field(min_length=1)] | None = None
    """What to mask, by presidio's names, such as [PERSON, LOCATION]. Empty: all that it knows in
    this language but dates, URLs, organisations and groups of people."""
    least_score: Annotated[float, Field(ge=0, le=1)] = 0.5
    """How sure presidio must be."""


class Balance(_Section):
    """Fewer training rows of frequent labels; validation and test stay as they are."""

    most_per_label: Annotated[int, Field(ge=1)] | None = None
    """So many rows of a label at most."""
    ratio: Annotated[float, Field(ge=1)] | None = None
    """The most frequent label has at most so many times the rows of the rarest."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.most_per_label is None) == (self.ratio is None):
            raise ValueError("balance needs most_per_label or ratio, and not both")
        return self


class Processing(_Section):
    """The machines of `data prepare --processing-job`."""

    instance_type: str = "ml.m5.xlarge"
    """SageMaker instance type."""
    instance_count: Annotated[int, Field(ge=1, le=100)] = 1
    """Machines; with several each gets some of the raw files, and the channels are directories of
    parts."""
    volume_size_gb: Annotated[int, Field(ge=1, le=16384)] = 50
    """Disk; preparation needs about three times the size of the input."""
    max_runtime_seconds: Annotated[int, Field(ge=60, le=432_000)] = 3600
    """Stop the job after this many seconds."""


class DataConfig(_Section):
    """Raw rows in, channels train/validation/test out."""

    input: str | None = None
    """What to split: a file or a directory of files, by path, file://, s3:// or hf:// URI."""
    train: str | None = None
    """Instead of input: a ready training file."""
    validation: str | None = None
    """A ready validation file; without it one is carved out of train."""
    test: str | None = None
    """A ready test file; without it one is carved out of train."""
    task: NamedTask = "text-classification"
    """What a row is; default in job.yaml: training.method."""
    format: InputFormat | None = None
    """Empty: from the file name. conll: a word and its tags on each line, an empty line between
    sentences; the words are `tokens`, the last column is `tags`, others go by their number.
    folders: a text a file, its folder's name is the `label`. beir: of each split
    qrels/SPLIT.tsv, below queries.jsonl and corpus.jsonl. aligned: one of the files whose lines
    belong together, such as train.de beside train.en; the columns are `de` and `en`."""
    header: bool = True
    """CSV/TSV: whether the first row names the columns."""
    delimiter: Annotated[str | None, Field(min_length=1, max_length=1)] = None
    """CSV/TSV; empty: ',' for csv, tab for tsv. CoNLL; empty: a tab, or blanks."""
    quoting: Literal["auto", "none"] = "auto"
    """none: quote characters of a CSV/TSV are ordinary text."""
    encoding: str | None = None
    """Empty: UTF-8 or what a byte order mark says; broken bytes as cp1252."""
    columns: Columns = Columns()
    """Which column holds what."""
    conversational: bool = False
    """Make messages of prompts and answers that are texts, and of dialogues as HH has them, so that
    the base model's chat template frames them; without it such texts are learnt as they stand."""
    label_map: dict[LabelText, LabelText] = {}
    """Raw label to label, e.g. {pos: positive, 0: negative}; of tags likewise, e.g. {1: B-PER}; to
    numbers where those are learnt, e.g. {4 stars: 4}, and what it does not name stays a number."""
    labels: list[LabelText] | None = None
    """The labels, or tags, allowed after the map; empty: those of the map, or of the data."""
    label_separator: Annotated[str | None, Field(min_length=1)] = None
    """Multi-label: what stands between the labels of a cell that is text, e.g. ";"; an empty cell
    is then a text without labels. Empty: cells are lists, as JSON in a CSV file."""
    normalise_labels: bool = True
    """Ignore case and outer white space of labels; the most frequent spelling is kept."""
    steps: list[Step] | None = None
    """Text repairs in order. Empty: unicode, html, control_characters and white_space for
    classification; unicode, control_characters and trim otherwise."""
    stem_language: StemLanguage = "english"
    """Language of the step `stem`."""
    lemma_language: LemmaLanguage = "english"
    """Language of the step `lemmatize`."""
    presidio: Presidio | None = None
    language: Languages | None = None
    tokens: Tokens | None = None
    balance: Balance | None = None
    missing: Missing = Missing()
    duplicates: Duplicates = Duplicates()
    length: Length = Length()
    split: Split = Split()
    max_rejected_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Fail when more than this share of the rows is bad."""
    output_format: OutputFormat = "jsonl"
    """File format of the channels."""
    processing: Processing = Processing()
    workers: Annotated[int | None, Field(ge=1)] = None
    """Processes that clean; empty: one, or every core above 32 MB."""

    @model_validator(mode="after")
    def _check_sources(self) -> Self:
        if (self.input is None) == (self.train is None):
            raise ValueError("give either input (one file to split) or train (ready splits)")
        if self.input is not None and (self.validation or self.test):
            raise ValueError("validation and test go with train, not with input")
        if self.output_format == "csv" and (self.task == "messages" or self.conversational):
            raise ValueError("output_format csv cannot hold messages: use jsonl or parquet")
        turns = {kind for shape in TASKS[self.task].shapes for kind in shape.required.values()}
        if self.conversational and "turn" not in turns:
            raise ValueError(
                f"conversational is for prompts and answers, and rows of {self.task} have none: "
                "remove it"
            )
        return self

    @model_validator(mode="after")
    def _check_filters(self) -> Self:
        if self.presidio is not None and "mask_pii" not in self.effective_steps:
            raise ValueError("presidio is part of the step mask_pii: add that to steps")
        if self.balance is not None and self.task != "text-classification":
            raise ValueError("balance needs one label a row: it is for text-classification")
        if self.label_separator is not None and self.task != MULTI_LABEL:
            raise ValueError(
                "label_separator is for several labels a row: set "
                "training.hyperparameters.problem_type to multi_label_classification"
            )
        cuts = self.tokens is not None and self.tokens.too_long == "truncate"
        if cuts and not TASKS[self.task].one_text:
            raise ValueError(f"tokens.too_long truncate would cut answers of {self.task}: drop")
        return self

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        if self.labels is not None and len(set(self.labels)) < 2:
            raise ValueError(f"labels needs at least two different labels, got {self.labels}")
        given = next((key for key in ("labels", "label_map") if getattr(self, key)), None)
        if given is not None and not self._has_labels(numbers=given == "label_map"):
            raise ValueError(f"{given} has no meaning for {self.task}, whose rows have no classes")
        if isinstance(self.columns.label, list) and self.task != MULTI_LABEL:
            raise ValueError(
                "columns.label is a list of columns only where a text has several labels: name one,"
                " or set training.hyperparameters.problem_type to multi_label_classification"
            )
        stray = sorted(set(self.label_map.values()) - set(self.labels or self.label_map.values()))
        if stray:
            raise ValueError(f"label_map leads to {stray[0]!r}, which labels does not contain")
        return self

    def _has_labels(self, *, numbers: bool) -> bool:
        """Whether rows have classes or tags; with `numbers`, or a number that may have a name."""
        kinds = TASKS[self.task].shapes[0].required
        known = ("label", "labels", *(("number",) if numbers else ()))
        return "tags" in kinds or kinds.get("label") in known

    @property
    def pair_column(self) -> Column | None:
        """A kept column that is the second text of a pair, by its usual names."""
        if TASKS[self.task].rows != "labelled" or self.columns.text_pair is not None:
            return None
        return next((c for c in self.columns.keep if str(c).lower() in _PAIR_NAMES), None)

    @property
    def sources(self) -> dict[str, str]:
        """Split name to location as given; one file to split stands under the name `input`."""
        names = ("input", "train", "validation", "test")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @property
    def effective_steps(self) -> list[Step]:
        """`steps`, or the defaults of the task: only classification may lose its line breaks."""
        if self.steps is not None:
            return self.steps
        if TASKS[self.task].rows == "labelled":
            return ["unicode", "html", "control_characters", "white_space"]
        return ["unicode", "control_characters", "trim"]
