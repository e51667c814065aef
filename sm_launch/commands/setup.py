"""`sm-launch setup`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sm_launch.commands.options import JobOptions, agree, echo_json, job_options, json_option

if TYPE_CHECKING:
    from sm_launch.account.policies import Grants


@click.command()
@click.option("--bucket", help="Name of the bucket. Default: sm-launch-<account>-<region>.")
@click.option("--prefix", default="sm-launch", show_default=True, help="Key prefix of the roles.")
@click.option("--kms-key", metavar="ARN", help="Encrypt bucket and volumes with this key.")
@click.option("--vpc", metavar="VPC", help="Let the roles run containers in this VPC's subnets.")
@click.option(
    "--read", multiple=True, metavar="S3", help="Let the roles read s3://BUCKET[/FOLDER] as well."
)
@click.option(
    "--write", multiple=True, metavar="S3", help="Let the roles write s3://BUCKET[/FOLDER], too."
)
@click.option(
    "--topic", multiple=True, metavar="ARN", help="Let asynchronous endpoints tell this SNS topic."
)
@click.option(
    "--mlflow",
    multiple=True,
    metavar="ARN",
    help="Let training log to this MLflow tracking server of SageMaker.",
)
@click.option("--fresh", is_flag=True, help="Take away what earlier calls granted besides.")
@click.option("--print", "only_print", is_flag=True, help="Print the CloudFormation template.")
@click.option(
    "--print-policy", is_flag=True, help="Print the IAM policy of those who launch, and stop."
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@job_options
@json_option
def setup(
    bucket: str | None,
    prefix: str,
    kms_key: str | None,
    vpc: str | None,
    read: tuple[str, ...],
    write: tuple[str, ...],
    topic: tuple[str, ...],
    mlflow: tuple[str, ...],
    fresh: bool,
    only_print: bool,
    print_policy: bool,
    yes: bool,
    options: JobOptions,
    as_json: bool,
) -> None:
    """Make what an AWS account needs once: bucket, ECR repositories, roles, a policy.

    It is one CloudFormation stack; doing it again changes nothing, and mends a half-made one.
    Nothing secret is stored.
    """
    from sm_launch.account import access
    from sm_launch.account.policies import Grants

    grants = Grants(prefix, kms_key, vpc, read, write, topic, mlflow)
    if only_print or print_policy:
        made = access.template(bucket or "sm-launch-bucket", grants)
        policies = [made["Resources"][name] for name in access.LAUNCHERS if name in made["Outputs"]]
        documents = [policy["Properties"]["PolicyDocument"] for policy in policies]
        statements = [each for document in documents for each in document["Statement"]]
        echo_json({**documents[0], "Statement": statements} if print_policy else made)
        return

    def confirm(named: str, wanted: Grants) -> None:
        if not yes:
            places = {"read": wanted.read, "write": wanted.write}
            besides = "".join(f", which {verb} {', '.join(named)}"
                              for verb, named in places.items() if named)  # fmt: skip
            agree(
                f"Make the stack {access.STACK} with bucket {named}, repositories "
                f"{', '.join(access.REPOSITORIES)}, four roles{besides}, and a policy for those "
                "who launch?"
            )

    context = options.find("sagemaker")
    stack = access.set_up(context, bucket=bucket, grants=grants, fresh=fresh, confirm=confirm)
    outputs = stack.outputs
    if as_json:
        echo_json(outputs)
        return
    click.echo("put this into job.yaml:\n\naws:")
    click.echo(f"  region: {stack.region}\n  bucket: {outputs['Bucket']}")
    click.echo(f"  prefix: {stack.grants.prefix}")
    if stack.grants.kms_key:
        click.echo(f"  kms_key: {stack.grants.kms_key}")
    click.echo(f"  training_role: {outputs['TrainingRole']}")
    click.echo(f"  hosting_role: {outputs['HostingRole']}")
    click.echo(f"  scheduler_role: {outputs['SchedulerRole']}")
    click.echo(f"  pipeline_role: {outputs['PipelineRole']}")
    click.echo("\nattach this to the user, group or role that launches:")
    for name in access.LAUNCHERS:
        if name in outputs:
            click.echo(f"  {outputs[name]}")
