"""What the method embedding takes from sentence-transformers: the model, its loss, its scores."""

from __future__ import annotations

import os
from typing import Any

from sm_train.data.cache import map_processes
from sm_train.errors import UserError
from sm_train.job import Job
from sm_train.modelling.embedding_losses import LOSSES, EmbeddingArguments, kind
from sm_train.modelling.model import loaded, seed_weights, weight_type

_COSINE = {"similarity_fn_names": ["cosine"], "write_csv": False}


def load_embedder(job: Job) -> Any:
    """The base model as a SentenceTransformer; an encoder that is none yet gets mean pooling."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    seed_weights(job)
    own: EmbeddingArguments = job.config.own
    options = job.config.model
    settings = {"dtype": weight_type(options), **options.model_init_kwargs}
    if options.attn_implementation:
        settings["attn_implementation"] = options.attn_implementation
    model = loaded(
        SentenceTransformer,
        job.model_source,
        revision=options.model_revision,
        trust_remote_code=options.trust_remote_code,
        model_kwargs=settings,
    )
    for module in model:
        if own.pooling and isinstance(module, Pooling):
            module.pooling_mode = own.pooling
    _set_length(model, own.max_length)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        # Scoring goes around the trainer's loop, which looks for a stop.
        model.register_forward_pre_hook(
            lambda module, _: None if module.training else job.stop.check("while evaluating")
        )
    return model


def _set_length(model: Any, length: int | None) -> None:
    positions = getattr(model.config, "max_position_embeddings", None) or length
    limit = min(positions or 0, model.tokenizer.model_max_length)
    if length is None:
        return
    if length > limit:
        raise UserError(
            f"is more than the {limit} tokens that the base model takes",
            field="max_length",
            value=length,
            fix=f"set it to {limit} at most",
        )
    model.max_seq_length = length


def loss(job: Job, model: Any) -> Any:
    """The loss that was asked for, or the one that suits the rows."""
    from sentence_transformers.sentence_transformer import losses

    own: EmbeddingArguments = job.config.own
    name = own.loss or LOSSES[kind(job.data.train[0])][0]
    made = getattr(losses, name)(model)
    if not own.matryoshka_dims:
        return made
    width = model.get_embedding_dimension()
    if not all(0 < length <= width for length in own.matryoshka_dims):
        raise UserError(
            f"holds a length that vectors of {width} numbers cannot be cut to",
            field="matryoshka_dims",
            value=own.matryoshka_dims,
            fix=f"use numbers from 1 to {width}",
        )
    return losses.MatryoshkaLoss(model, made, own.matryoshka_dims)


def evaluator(rows: Any) -> Any:
    """What scores a data set of this format, by the cosine of its vectors."""
    from sentence_transformers.sentence_transformer import evaluation

    made: Any = evaluation
    form = kind(rows[0])
    if form == "pairs":
        return made.InformationRetrievalEvaluator(
            *_retrieval(rows["anchor"], rows["positive"]),
            accuracy_at_k=[1, 10],
            precision_recall_at_k=[10],
            write_csv=False,
        )
    if form == "triplets":
        return made.TripletEvaluator(
            rows["anchor"], rows["positive"], rows[rows.column_names[2]], **_COSINE
        )
    texts = rows["sentence1"], rows["sentence2"]
    if form == "scored pairs":
        return made.EmbeddingSimilarityEvaluator(*texts, rows["score"], **_COSINE)
    return made.BinaryClassificationEvaluator(*texts, rows["label"], **_COSINE)


def _retrieval(
    anchors: list[str], positives: list[str]
) -> tuple[dict[str, str], dict[str, str], dict[str, set[str]]]:
    """Queries, documents and which of these answer which: a text that comes twice counts once."""
    queries = {text: f"q{i}" for i, text in enumerate(dict.fromkeys(anchors))}
    documents = {text: f"d{i}" for i, text in enumerate(dict.fromkeys(positives))}
    answers: dict[str, set[str]] = {}
    for anchor, positive in zip(anchors, positives, strict=True):
        answers.setdefault(queries[anchor], set()).add(documents[positive])
    return (
        {name: text for text, name in queries.items()},
        {name: text for text, name in documents.items()},
        answers,
    )


def cut_rows(dataset: Any, tokenizer: Any, limit: int | None) -> Any:
    """Of each row, in the column `cut`, whether the model reads one of its texts in part."""
    if dataset is None or limit is None:
        return None

    def marked(rows: dict[str, list[Any]]) -> dict[str, list[bool]]:
        texts = [cells for cells in rows.values() if isinstance(cells[0], str)]
        lengths = [map(len, tokenizer(cells, verbose=False)["input_ids"]) for cells in texts]
        return {"cut": [max(counts) > limit for counts in zip(*lengths, strict=True)]}

    return dataset.map(
        marked,
        batched=True,
        remove_columns=dataset.column_names,
        num_proc=map_processes(len(dataset)),
    )
