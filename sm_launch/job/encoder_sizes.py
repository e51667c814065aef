"""What encoders, and models of an encoder and a decoder, are made of; see `model_size`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from sm_launch.job.matrices import Linear, Reader, layer_norms

Parts = Iterator[Linear | int]


def _layers(hidden: int, inner: int, copies: int) -> Parts:
    """BERT's layer: four matrices that attend, two that think, two norms."""
    yield Linear(hidden, hidden, 4 * copies, True)
    yield Linear(hidden, inner, copies, True)
    yield Linear(inner, hidden, copies, True)
    yield layer_norms(hidden, 2 * copies)


def _head(hidden: int) -> Parts:
    """A classifier of two labels with a layer before it, or a pooler."""
    yield Linear(hidden, hidden, 1, True)
    yield 2 * (hidden + 1)


def _embeddings(read: Reader, width: int, kinds: int) -> int:
    rows = read("vocab_size") + read("max_position_embeddings") + kinds
    return rows * width + layer_norms(width, 1)


def _bert(read: Reader) -> Parts:
    hidden = read("hidden_size")
    width = read("embedding_size", hidden)  # ELECTRA's may be narrower
    yield _embeddings(read, width, read("type_vocab_size", 2))
    if width != hidden:
        yield Linear(width, hidden, 1, True)
    yield from _layers(hidden, read("intermediate_size"), read("num_hidden_layers"))
    yield from _head(hidden)


def _mpnet(read: Reader) -> Parts:
    hidden = read("hidden_size")
    yield _embeddings(read, hidden, 0)
    yield read("relative_attention_num_buckets", 32) * read("num_attention_heads")
    yield from _layers(hidden, read("intermediate_size"), read("num_hidden_layers"))
    yield from _head(hidden)


def _distilbert(read: Reader) -> Parts:
    width = read("dim")
    yield _embeddings(read, width, 0)
    yield from _layers(width, read("hidden_dim"), read("n_layers"))
    yield from _head(width)


def _albert(read: Reader) -> Parts:
    """All layers of a group share their weights: they are there once."""
    hidden, width = read("hidden_size"), read("embedding_size")
    copies = read("num_hidden_groups", 1) * read("inner_group_num", 1)
    yield _embeddings(read, width, read("type_vocab_size", 2))
    yield Linear(width, hidden, 1, True)
    yield from _layers(hidden, read("intermediate_size"), copies)
    yield from _head(hidden)


def _deberta(read: Reader) -> Parts:
    hidden, layers = read("hidden_size"), read("num_hidden_layers")
    width = read("embedding_size", hidden)
    places = read("max_position_embeddings") if read("position_biased_input", 1) else 0
    yield (read("vocab_size") + places + read("type_vocab_size", 0)) * width
    yield layer_norms(hidden, 1)
    if width != hidden:
        yield Linear(width, hidden, 1)
    yield from _layers(hidden, read("intermediate_size"), layers)
    if read("relative_attention", 0):
        buckets = read("position_buckets", -1)
        reach = read("max_relative_positions", -1)
        reach = reach if reach > 0 else read("max_position_embeddings")
        yield 2 * (buckets if buckets > 0 else reach) * hidden
        if "layer_norm" in str(read.values.get("norm_rel_ebd") or ""):
            yield layer_norms(hidden, 1)
        named = read.values.get("pos_att_type") or ()
        kinds = named.split("|") if isinstance(named, str) else list(named)
        if not read("share_att_key", 0):
            yield Linear(hidden, hidden, layers * ("c2p" in kinds), True)
            yield Linear(hidden, hidden, layers * ("p2c" in kinds), True)
    if kernel := read("conv_kernel_size", 0):
        yield kernel * hidden * hidden // read("conv_groups", 1) + hidden + layer_norms(hidden, 1)
    yield from _head(hidden)


def _modernbert(read: Reader) -> Parts:
    hidden, layers, inner = (
        read("hidden_size"),
        read("num_hidden_layers"),
        read("intermediate_size"),
    )
    attends, thinks = bool(read("attention_bias", 0)), bool(read("mlp_bias", 0))
    norm = hidden * (2 if read("norm_bias", 0) else 1)
    yield read("vocab_size") * hidden
    yield Linear(hidden, 3 * hidden, layers, attends)
    yield Linear(hidden, hidden, layers, attends)
    yield Linear(hidden, 2 * inner, layers, thinks)
    yield Linear(inner, hidden, layers, thinks)
    # Two a layer, the first one's being the embedding's; a last one, and the head's.
    yield norm * (2 * layers + 2)
    yield Linear(hidden, hidden, 1, bool(read("classifier_bias", 0)))
    yield 2 * (hidden + 1)


def _t5(read: Reader) -> Parts:
    width, inner, each = read("d_model"), read("d_ff"), read("num_heads") * read("d_kv")
    first = read("num_layers")
    second = read("num_decoder_layers", first)
    gated = str(read.values.get("feed_forward_proj") or "relu").startswith("gated")
    attends = first + 2 * second
    yield Linear(width, each, 3 * attends)
    yield Linear(each, width, attends)
    yield Linear(width, inner, (2 if gated else 1) * (first + second))
    yield Linear(inner, width, first + second)
    yield width * (2 * first + 3 * second + 2)
    yield 2 * read("relative_attention_num_buckets", 32) * read("num_heads")
    yield read("vocab_size") * width  # transformers ties the head whatever the config says


def _bart(read: Reader) -> Parts:
    yield from _encoder_decoder(read, last_norms=0)


def _mbart(read: Reader) -> Parts:
    yield from _encoder_decoder(read, last_norms=2)


def _encoder_decoder(read: Reader, last_norms: int) -> Parts:
    width = read("d_model")
    first, second = read("encoder_layers"), read("decoder_layers")
    attends = first + 2 * second
    yield Linear(width, width, 4 * attends, True)
    for layers, inner in ((first, read("encoder_ffn_dim")), (second, read("decoder_ffn_dim"))):
        yield Linear(width, inner, layers, True)
        yield Linear(inner, width, layers, True)
    yield layer_norms(width, 2 * first + 3 * second + 2 + last_norms)
    yield 2 * (read("max_position_embeddings") + 2) * width
    yield read("vocab_size") * width


TYPES: Mapping[str, Callable[[Reader], Parts]] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra"), _bert),
    "mpnet": _mpnet,
    "distilbert": _distilbert,
    "albert": _albert,
    "deberta-v2": _deberta,
    "modernbert": _modernbert,
    **dict.fromkeys(("t5", "mt5"), _t5),
    "bart": _bart,
    "mbart": _mbart,
}
"""By `model_type`."""
