"""What a preparation did: counts for people, manifest.json for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sm_launch.data.write import CREATED_BY, DATA_CARD, REJECTED, REJECTED_PARTS
from sm_launch.job.data import DataConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MANIFEST_VERSION = 1
LENGTH_EDGES = (0, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
"""Character counts at which the histogram's bins begin; the last bin is open."""


_SHOWN_LABELS = 8
"""Of a channel in a notebook's cell."""


@dataclass(frozen=True)
class SplitReport:
    """One channel."""

    path: Path
    rows: int
    sha256: str
    labels: dict[str, int] = field(default_factory=dict)
    characters: dict[str, float] = field(default_factory=dict)
    """mean, p50, p90, p99 and max of the text lengths."""
    characters_histogram: list[int] = field(default_factory=list)
    """Rows in each bin of LENGTH_EDGES: what drift of the inputs is measured against."""
    parts: dict[str, str] = field(default_factory=dict)
    """Of a channel in parts the files in the order of the rows, each with its sha256; `path` is
    their directory then."""

    def as_dict(self) -> dict[str, Any]:
        """All fields; `parts` where there are some."""
        plain = asdict(self)
        if not self.parts:
            del plain["parts"]
        return plain


@dataclass(frozen=True)
class InputReport:
    """One raw file."""

    location: str
    bytes: int
    sha256: str
    rows: int


@dataclass(frozen=True)
class PreparationReport:
    """The outcome of `prepare`."""

    output: Path
    inputs: dict[str, InputReport]
    splits: dict[str, SplitReport]
    rejected: dict[str, int]
    """Reason to number of rows, most frequent first."""
    labels: list[str]
    seconds: float
    taken_for_missing: dict[str, dict[str, int]] = field(default_factory=dict)
    """Column to the words that were taken for a missing value, with their rows."""
    notes: list[str] = field(default_factory=list)
    """What was read in a way that its owner may not expect, a sentence each."""

    @property
    def rows_read(self) -> int:
        """Rows of all inputs."""
        return sum(source.rows for source in self.inputs.values())

    @property
    def rows_kept(self) -> int:
        """Rows of all channels."""
        return sum(split.rows for split in self.splits.values())

    @property
    def rows_rejected(self) -> int:
        """Rows in rejected.jsonl."""
        return sum(self.rejected.values())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        plain = asdict(self) | {"output": str(self.output)}
        plain["splits"] = {name: split.as_dict() for name, split in self.splits.items()}
        for split in plain["splits"].values():
            split["path"] = str(split["path"])
        counts = {"read": self.rows_read, "kept": self.rows_kept, "rejected": self.rows_rejected}
        return plain | {"counts": counts}

    def _repr_html_(self) -> str:
        """For a notebook: the channels as a table, and why other rows are in none."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        from sm_launch.notebook import rendered

        first, *rest = self.render(written=False).splitlines()
        table = Table("channel", "rows", "characters: median", "99 %", "labels")
        for name, split in self.splits.items():
            lengths = [f"{split.characters.get(part, 0):.0f}" for part in ("p50", "p99")]
            table.add_row(name, str(split.rows), *lengths, Text(_labels(split.labels)))
        told = "\n".join(rest[len(self.splits) :])
        return rendered(Group(Text(first), table, Text(told)))

    def render(self, *, written: bool = True) -> str:
        """For a terminal: what went where, and why the rest did not.

        Args:
            written: whether the files exist that this could name.
        """
        width = max(map(len, self.splits))
        lines = [
            f"{self.rows_read} rows read, {self.rows_kept} kept, {self.rows_rejected} rejected "
            f"in {self.seconds:.1f} s"
        ]
        for name, split in self.splits.items():
            labels = ", ".join(f"{label} {count}" for label, count in split.labels.items())
            lines.append(f"  {name:<{width}} {split.rows:>7} rows  {labels}".rstrip())
        if self.rejected:
            reasons = ", ".join(f"{reason} {count}" for reason, count in self.rejected.items())
            lines.append(f"  rejected: {reasons}")
        for column, texts in self.taken_for_missing.items():
            shown = ", ".join(f"{word!r} {count}" for word, count in texts.items())
            lines.append(f"  taken for missing in {column}: {shown}")
        lines += [f"  note: {note}" for note in self.notes]
        if self.rejected and written:
            parts = any(split.parts for split in self.splits.values())
            rejected = self.output / (REJECTED_PARTS if parts else REJECTED)
            lines.append(f"  every rejected row with its reason: {rejected}")
        if written:
            lines.append(f"  channels: {self.output}")
            lines.append(f"  data card: {self.output / DATA_CARD}")
        return "\n".join(lines)

    def manifest(self, config: DataConfig) -> dict[str, Any]:
        """manifest.json: the same for the same input, configuration and seed."""
        counts = {"read": self.rows_read, "kept": self.rows_kept, "rejected": self.rows_rejected}
        splits = {name: split.as_dict() for name, split in self.splits.items()}
        for split in splits.values():
            split["path"] = split["path"].relative_to(self.output).as_posix()
        return {
            "version": MANIFEST_VERSION,
            "created_by": CREATED_BY,
            "task": config.task,
            "seed": config.split.seed,
            "labels": self.labels,
            "counts": counts,
            "rejected": self.rejected,
            "taken_for_missing": self.taken_for_missing,
            "notes": self.notes,
            "splits": splits,
            "characters_histogram_edges": LENGTH_EDGES,
            "inputs": {name: asdict(source) for name, source in self.inputs.items()},
            "config": config.model_dump(mode="json", exclude={"workers", "processing"}),
        }


def _labels(counts: dict[str, int]) -> str:
    """The first of them; there may be hundreds."""
    shown = [f"{label} {count}" for label, count in list(counts.items())[:_SHOWN_LABELS]]
    more = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def describe_split(
    *,
    path: Path,
    sha256: str,
    labels: NDArray[np.int32],
    names: list[str],
    members: NDArray[np.bool_],
    characters: NDArray[np.int32],
    parts: dict[str, str],
) -> SplitReport:
    """Count labels and lengths of one channel.

    Args:
        path: where its file will be.
        sha256: of that file.
        labels: label code of each row.
        names: label names; empty where there are none.
        members: of each code, which of the names it stands for.
        characters: text length of each row.
        parts: the files and their digests, where there are several.
    """
    import numpy as np

    counts = np.bincount(labels, minlength=len(members)) @ members
    p50, p90, p99 = np.percentile(characters, [50, 90, 99]).tolist()
    histogram, _ = np.histogram(characters, bins=[*LENGTH_EDGES, np.inf])
    return SplitReport(
        path=path,
        rows=len(labels),
        sha256=sha256,
        labels=dict(zip(names, counts.tolist(), strict=True)),
        characters={
            "mean": round(float(characters.mean()), 1),
            "p50": p50,
            "p90": p90,
            "p99": p99,
            "max": int(characters.max()),
        },
        characters_histogram=histogram.tolist(),
        parts=parts,
    )
