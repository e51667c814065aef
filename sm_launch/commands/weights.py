"""`sm-launch weights`."""

from __future__ import annotations

from typing import Any

import click

from sm_launch.commands.options import (
    JobOptions,
    adopt_option,
    dry_run_option,
    echo_json,
    job_options,
    json_option,
)
from sm_launch.errors import UserInputError
from sm_launch.progress import progress


@click.command()
@click.argument("endpoint")
@click.argument("pairs", nargs=-1, metavar="[VARIANT=WEIGHT]...")
@click.option(
    "--instances",
    "counts",
    multiple=True,
    metavar="VARIANT=COUNT",
    help="Give a variant so many instances. Repeatable; on SageMaker only.",
)
@adopt_option
@dry_run_option
@job_options
@json_option
def weights(
    endpoint: str,
    pairs: tuple[str, ...],
    counts: tuple[str, ...],
    adopt: bool,
    dry_run: bool,
    options: JobOptions,
    as_json: bool,
) -> None:
    """Share an endpoint's traffic out anew, without a deployment.

    A variant's share is its weight over the sum of all; variants that are not named keep theirs.
    Without any it shows how the traffic is shared now.
    """
    from sm_launch.hosting import traffic

    wanted = {name: _number(name, text) for name, text in _split(pairs)}
    instances = {name: _count(name, text) for name, text in _split(counts, "--instances")}
    context = options.find()
    if dry_run:
        requests = traffic.prepare(context, endpoint, wanted, instances)
        echo_json({"update_endpoint_weights_and_capacities": requests})
        return
    with progress(f"Endpoint {endpoint}") as bar:
        shares = traffic.share(
            context,
            endpoint,
            wanted,
            instances,
            adopt=adopt,
            on_description=lambda seen: bar.update(
                description=f"Endpoint {endpoint}: {_described(seen)}"
            ),
        )
    if as_json:
        echo_json({"endpoint": endpoint, "variants": shares})
        return
    for each in shares:
        machines = f"{each['instances']} instance(s)" if each["instances"] else ""
        share = f"{100 * each['share']:.1f} %"
        click.echo(f"{each['variant']:<32} {each['weight']:>8g} {share:>8}  {machines}".rstrip())


def _described(described: dict[str, Any]) -> str:
    from sm_launch.hosting.traffic import shares

    parts = [f"{each['variant']} {each['weight']:g}" for each in shares(described)]
    return f"{described['EndpointStatus']}, {', '.join(parts)}"


def _split(pairs: tuple[str, ...], field: str = "VARIANT=WEIGHT") -> list[tuple[str, str]]:
    texts: dict[str, str] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not name or not sign:
            raise UserInputError(
                "is not NAME=NUMBER", field=field, value=pair, fix="such as new=10"
            )
        if name in texts:
            raise UserInputError("names a variant twice", field=field, value=pair)
        texts[name] = text
    return list(texts.items())


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserInputError(
            "is not a number", field=name, value=text, fix="a weight such as 90 or 0.9"
        ) from None


def _count(name: str, text: str) -> int:
    if not text.isdecimal():
        raise UserInputError(
            "is not a count", field=name, value=text, fix="a whole number such as 2"
        )
    return int(text)
