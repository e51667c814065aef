"""`sm-launch setup`."""

from __future__ import annotations

from pathlib import Path

import click

from sm_launch.commands.options import echo_json, find_workplace, job_options, json_option
from sm_launch.config import Target
from sm_launch.errors import UserInputError
from sm_launch.progress import progress


@click.command()
@click.option("--bucket", help="Name of the bucket. Default: sm-launch-<account>-<region>.")
@click.option("--prefix", default="sm-launch", show_default=True, help="Key prefix of the roles.")
@click.option("--kms-key", metavar="ARN", help="Encrypt bucket and volumes with this key.")
@click.option("--vpc", is_flag=True, help="Let the roles run containers in a VPC's subnets.")
@click.option("--print", "only_print", is_flag=True, help="Print the CloudFormation template.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@job_options
@json_option
def setup(
    bucket: str | None,
    prefix: str,
    kms_key: str | None,
    vpc: bool,
    only_print: bool,
    yes: bool,
    config_path: Path,
    overrides: tuple[str, ...],
    target: Target | None,
    as_json: bool,
) -> None:
    """Make what an AWS account needs once: bucket, ECR repositories, two roles.

    It is one CloudFormation stack; doing it again changes nothing. Nothing secret is stored.
    """
    if kms_key and not kms_key.startswith("arn:"):
        # A policy takes no alias: it would quietly allow nothing.
        raise UserInputError("must be the key's ARN", field="--kms-key", value=kms_key)
    from sm_launch import access
    from sm_launch.aws_clients import account_id, make_client

    if only_print:
        echo_json(access.template(bucket or "sm-launch-bucket", prefix, kms_key=kms_key, vpc=vpc))
        return
    region = find_workplace(config_path, overrides, "sagemaker").config.aws.region
    client = make_client("s3", region)
    named = bucket or f"sm-launch-{account_id(region)}-{client.meta.region_name}"
    if not yes:
        click.confirm(
            f"Make the stack {access.STACK} with bucket {named}, repositories "
            f"{', '.join(access.REPOSITORIES)} and two roles?",
            abort=True,
            err=True,
        )
    with progress(f"CloudFormation stack {access.STACK}"):
        made = access.create(named, prefix, region, make_client, kms_key=kms_key, vpc=vpc)
    if as_json:
        echo_json(made)
        return
    click.echo("put this into job.yaml:\n\naws:")
    click.echo(f"  region: {client.meta.region_name}\n  bucket: {made['Bucket']}")
    click.echo(f"  prefix: {prefix}")
    if kms_key:
        click.echo(f"  kms_key: {kms_key}")
    click.echo(f"  training_role: {made['TrainingRole']}\n  hosting_role: {made['HostingRole']}")
