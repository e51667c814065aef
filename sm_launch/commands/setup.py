"""`sm-launch setup`."""

from __future__ import annotations

import click

from sm_launch.commands.options import JobOptions, echo_json, job_options, json_option


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
    options: JobOptions,
    as_json: bool,
) -> None:
    """Make what an AWS account needs once: bucket, ECR repositories, two roles.

    It is one CloudFormation stack; doing it again changes nothing. Nothing secret is stored.
    """
    from sm_launch.account import access

    if only_print:
        access.require_key_arn(kms_key)
        echo_json(access.template(bucket or "sm-launch-bucket", prefix, kms_key=kms_key, vpc=vpc))
        return

    def confirm(named: str) -> None:
        if not yes:
            click.confirm(
                f"Make the stack {access.STACK} with bucket {named}, repositories "
                f"{', '.join(access.REPOSITORIES)} and two roles?",
                abort=True,
                err=True,
            )

    stack = access.set_up(
        options.find("sagemaker"),
        bucket=bucket,
        prefix=prefix,
        kms_key=kms_key,
        vpc=vpc,
        confirm=confirm,
    )
    made = stack.outputs
    if as_json:
        echo_json(made)
        return
    click.echo("put this into job.yaml:\n\naws:")
    click.echo(f"  region: {stack.region}\n  bucket: {made['Bucket']}\n  prefix: {prefix}")
    if kms_key:
        click.echo(f"  kms_key: {kms_key}")
    click.echo(f"  training_role: {made['TrainingRole']}\n  hosting_role: {made['HostingRole']}")
