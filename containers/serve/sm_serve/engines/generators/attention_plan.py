"""Which tokens of a step of the continuous batch attend to which keys, for all layers of a kind.

Requests with one new token each are taken together where they have about as many keys: a call of
attention costs more than the few keys that fill each of them up to the longest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

CALL_TOKENS = 160
"""Keys that cost as much as one more call."""
GROUP_TOKENS = 2048
"""Most keys of several requests together: they stay in the processor's own memory."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A request by itself: its new tokens, and its keys, among those of the step."""

    new: slice
    known: slice
    index: Any
    """Where its keys are in the cache."""


@dataclass(frozen=True, slots=True)
class Group:
    """Requests with one new token each."""

    rows: Any
    """Their tokens among those of the step; None where these are all."""
    index: Any
    """Where their keys are in the cache, [requests * longest]."""
    requests: int
    mask: Any
    """[requests, 1, 1, longest], added to the scores; None where nothing is filled up."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the tokens of one step attend in the layers of one kind."""

    pieces: Sequence[Piece]
    groups: Sequence[Group]


def plan_step(new: Sequence[int], known: Sequence[int], index: Any, *, grouped: bool) -> Plan:
    """The plan of a step.

    Args:
        new: each request's number of new tokens.
        known: each request's number of keys, the new ones among them.
        index: where all these keys are in the cache.
        grouped: whether requests may be taken together.
    """
    spans, places = list(_spans(new)), list(_spans(known))
    single = [n for n, count in enumerate(new) if grouped and count == 1]
    groups = [
        _group([spans[single[each]].start for each in members],
               [index[places[single[each]]] for each in members], sum(new))
        for members in alike([known[n] for n in single])
    ]  # fmt: skip
    alone = sorted({*range(len(new))} - {*single})
    return Plan([Piece(spans[n], places[n], index[places[n]]) for n in alone], groups)


def alike(lengths: Sequence[int]) -> list[list[int]]:
    """Places of lengths that are near enough to be filled up to the longest of them."""
    groups: list[list[int]] = []
    filled = longest = 0
    for place in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        filled += longest - lengths[place]
        fits = groups and (len(groups[-1]) + 1) * longest <= GROUP_TOKENS
        if fits and filled <= CALL_TOKENS:
            groups[-1].append(place)
        else:
            groups.append([place])
            filled, longest = 0, lengths[place]
    return [sorted(members) for members in groups]


def _spans(counts: Sequence[int]) -> Iterator[slice]:
    """Of what lies one behind the other, each one's part."""
    ends = list(accumulate(counts))
    return (slice(end - count, end) for end, count in zip(ends, counts, strict=True))


def _group(rows: Sequence[int], own: Sequence[Any], tokens: int) -> Group:
    """A group by its requests' tokens, and by the places of each one's keys in the cache."""
    import torch

    lengths = [len(each) for each in own]
    longest, mask = max(lengths), None
    if min(lengths) < longest:
        beyond = torch.arange(longest) >= torch.tensor(lengths)[:, None]
        mask = torch.zeros(beyond.shape).masked_fill_(beyond, float("-inf"))[:, None, None]
        # Masked keys are read too: the request's own first one is a number like any other.
        own = [torch.cat((each, each[:1].expand(longest - len(each)))) for each in own]
    place = None if len(rows) == tokens else torch.tensor(rows)
    return Group(place, torch.cat(list(own)), len(rows), mask)
