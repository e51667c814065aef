"""A preparation on several machines, equal to that on one.

Each machine has some of the files. Rows stay where their file is; what has to be compared across
all of them (keys, labels, lengths) comes to the first machine, which decides as one machine does.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from sm_launch.data.host import Listing, WrittenPart, rejected_only
from sm_launch.data.passes import Summary
from sm_launch.data.preparation import Verdicts, Written, complete
from sm_launch.data.report import PreparationReport
from sm_launch.data.rows import RowCleaner
from sm_launch.data.shard import Encoding, first_of_each_split
from sm_launch.data.sources import Listed, Source, check_filled, choose_files
from sm_launch.data.split import SPLITS
from sm_launch.data.write import part_suffix
from sm_launch.errors import UserInputError
from sm_launch.job.data import DataConfig
from sm_launch.progress import ProgressBar, StartProgress
from sm_launch.progress import progress as terminal_progress


class Hosts(Protocol):
    """The machines, each with a `Host`."""

    @property
    def names(self) -> Sequence[str]:
        """The first of them leads."""

    def call(self, host: str, method: str, *arguments: Any) -> Any:
        """Call a method of a machine's `Host`, and wait for its result."""


def prepare(
    config: DataConfig,
    output: Path,
    hosts: Hosts,
    *,
    progress: StartProgress = terminal_progress,
    tell: Callable[[str], None],
) -> PreparationReport:
    """Clean and split raw data whose files are on several machines.

    Every machine writes its part of the channels to its own `output`; the first one also
    manifest.json and data_card.html. Parts in the order of their names are what one machine
    writes.

    Args:
        config: the `data` section of job.yaml, with paths that hold on every machine.
        output: directory of the channels, on every machine.
        hosts: the machines.
        progress: shows how far it is.
        tell: prints a line about who has which share.

    Raises:
        UserInputError: the configuration or the data is at fault.
        LaunchError: the output cannot be written, or a machine has gone.
    """
    started = time.monotonic()
    try:
        placed = _place(config, hosts)
        tell(_shares(placed, hosts.names))
        with progress("Preparing data", 2 * sum(source.bytes for source, _ in placed)) as bar:
            rows = _SpreadRows(placed, hosts, output, bar)
            return complete(config, rows, output, started=started)
    except BaseException:
        for host in hosts.names:
            with suppress(Exception):  # one that has gone has nothing to clear away
                hosts.call(host, "abandon")
        raise


Placed = list[tuple[Source, str]]
"""All sources in order, each with the machine that prepares it."""


def _place(config: DataConfig, hosts: Hosts) -> Placed:
    """Find every file, and say who prepares it."""
    listings = dict(zip(hosts.names, _on_all(hosts, "listing"), strict=True))
    owners = _owners(config, listings)
    files = {host: [f for f, owner in owners.items() if owner == host] for host in hosts.names}
    opened = _on_all(hosts, "locate", files)
    sources: dict[File, list[Source]] = {}
    for own, of_files in zip(files.values(), opened, strict=True):
        sources |= dict(zip(own, of_files, strict=True))
    placed = [(source, host) for file, host in owners.items() for source in sources[file]]
    check_filled(config, [source for source, _ in placed])
    return placed


File = tuple[str, str]
"""Split, and the name of a file in its location; empty where the location is the file."""


def _owners(config: DataConfig, listings: Mapping[str, Listing]) -> dict[File, str]:
    """All files in order, each with the machine that prepares it: the one that has it.

    Of several that have it (an input that every machine gets whole) the one with the least so far.
    """
    load: Counter[str] = Counter()
    owners: dict[File, str] = {}
    for split in config.sources:
        sizes: dict[str, dict[str, int]] = {}
        for host, listing in listings.items():
            for each in listing[split] or ():
                sizes.setdefault(each.name, {})[host] = each.bytes
        for name in _names(config, split, listings, sizes):
            owner = min(sizes[name], key=lambda host: load[host])
            load[owner] += sizes[name][owner]
            owners[split, name] = owner
    return owners


def _names(
    config: DataConfig,
    split: str,
    listings: Mapping[str, Listing],
    sizes: Mapping[str, Mapping[str, int]],
) -> list[str]:
    """The files of a location, in the order in which one machine reads them."""
    field, location = f"data.{split}", config.sources[split]
    if all(listing[split] is None for listing in listings.values()):
        raise UserInputError(
            f"none of {len(listings)} machines has it", field=field, value=location
        )
    unlike = next((name for name, of in sizes.items() if len(set(of.values())) > 1), None)
    if unlike is not None:
        raise UserInputError(
            f"the file {unlike} is another one on each machine: {dict(sizes[unlike])} bytes",
            field=field,
            value=location,
            fix="give each machine files of its own, or all the same",
        )
    if "" in sizes:
        return [""]
    return choose_files(
        config, split, [Listed(name, max(of.values())) for name, of in sizes.items()]
    )


def _shares(placed: Placed, names: Sequence[str]) -> str:
    """Who prepares how much: a machine without a file is paid for nothing."""
    shares = []
    for name in names:
        own = [source for source, host in placed if host == name]
        size = sum(source.bytes for source in own) / 2**20
        shares.append(f"{name} {len(own)} file(s), {size:.1f} MiB")
    return f"{len(names)} machines: {'; '.join(shares)}"


class _SpreadRows:
    """Rows of files that are on several machines."""

    def __init__(self, placed: Placed, hosts: Hosts, output: Path, bar: ProgressBar) -> None:
        self.sources = [source for source, _ in placed]
        self._owners = {source.name: host for source, host in placed}
        self._hosts = hosts
        self._output = output
        self._bar = bar

    def columns(self) -> list[str]:
        names: dict[str, None] = {}
        for source in first_of_each_split(self.sources):
            host = self._owners[source.name]
            names |= dict.fromkeys(self._hosts.call(host, "columns", source.name))
        return list(names)

    def clean(self, cleaner: RowCleaner) -> list[Summary]:
        of_sources = self._of_each("clean", lambda _, source: (source.name, cleaner))
        return [summary for summaries in of_sources for summary in summaries]

    def write(self, verdicts: Verdicts, encoding: Encoding) -> Written:
        parts: list[WrittenPart] = self._of_each("write", self._parts(verdicts, encoding))
        channels: dict[str, dict[str, str]] = {}
        for split in SPLITS:
            files = dict(part.channels[split] for part in parts if split in part.channels)
            if files:
                channels[split] = files
        inputs = {s.name: part.sha256 for s, part in zip(self.sources, parts, strict=True)}
        return Written(channels, inputs, parts=True)

    def write_rejected(self, verdicts: Verdicts, encoding: Encoding) -> Path:
        self._of_each("write_rejected", self._parts(verdicts, encoding))
        return rejected_only(self._output)

    def _parts(self, verdicts: Verdicts, encoding: Encoding) -> Callable[[int, Source], Arguments]:
        places, count = verdicts.by_source(), len(self.sources)

        def arguments(at: int, source: Source) -> Arguments:
            own = verdicts.at(places.get(source.name, ()))
            return source.name, own, encoding, part_suffix(at, count)

        return arguments

    def finish(self, files: Mapping[str, str]) -> None:
        leader, *others = self._hosts.names
        for host in others:
            self._hosts.call(host, "finish", {})
        self._hosts.call(leader, "finish", files)

    def _of_each(self, method: str, arguments: Callable[[int, Source], Arguments]) -> list[Any]:
        """Call a method for every source, on all machines at once; results in their order."""

        def calls(host: str) -> Iterator[tuple[int, Arguments]]:
            for at, source in enumerate(self.sources):
                if self._owners[source.name] == host:
                    yield at, arguments(at, source)
                    self._bar.advance(source.bytes)

        results = _at_once(self._hosts, method, {host: calls(host) for host in self._hosts.names})
        return [results[at] for at in range(len(self.sources))]


Arguments = tuple[Any, ...]


def _on_all(hosts: Hosts, method: str, argument: Mapping[str, Any] | None = None) -> list[Any]:
    """Call a method of every machine, with an argument of its own; results in their order."""
    calls = {
        host: [(at, () if argument is None else (argument[host],))]
        for at, host in enumerate(hosts.names)
    }
    results = _at_once(hosts, method, calls)
    return [results[at] for at in range(len(hosts.names))]


def _at_once(
    hosts: Hosts, method: str, calls: Mapping[str, Iterable[tuple[int, Arguments]]]
) -> dict[int, Any]:
    """Call a method on all machines at once, on each one call after the other.

    Args:
        hosts: the machines.
        method: of `Host`.
        calls: of each machine, numbered in the order in which one machine would do them.

    Returns:
        Number of each call to its result.

    Raises:
        Exception: where the data is at fault, the error that one machine would meet first.
    """
    results: dict[int, Any] = {}
    failures: dict[int, BaseException] = {}

    def run(host: str) -> None:
        for number, arguments in calls[host]:
            if any(failed < number for failed in failures):
                return
            try:
                results[number] = hosts.call(host, method, *arguments)
            except BaseException as error:
                failures[number if isinstance(error, UserInputError) else -1] = error
                return

    with ThreadPoolExecutor(len(calls)) as pool:
        list(pool.map(run, calls))
    if failures:
        raise failures[min(failures)]
    return results
