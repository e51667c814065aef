"""Is everything in the AWS account that a job needs? Each check ends in a fix, none raises."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import unquote

from sm_launch.account.checks import Check, Clients, State
from sm_launch.aws.errors import explained
from sm_launch.job import limits
from sm_launch.job.config import JobConfig
from sm_launch.job.training import Network

SERVICE = "sagemaker.amazonaws.com"
_SETUP = "run `sm-launch setup`"
_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


def examine_account(config: JobConfig, clients: Clients, missing: State) -> Iterator[Check]:
    """Every check of the account, one after the other.

    Args:
        config: the job.
        clients: makes a client of an AWS service.
        missing: state of what is missing: a problem where the job is to run on SageMaker.
    """
    for name, check in (
        ("bucket", _bucket),
        ("roles", _roles),
        ("aws.kms_key", _key),
        ("network", _networks),
        ("images", _images),
        ("quota", _quota),
    ):
        yield from _careful(name, check, config, clients, missing)


def _careful(
    name: str,
    check: Callable[[JobConfig, Clients, State], Iterator[Check]],
    config: JobConfig,
    clients: Clients,
    missing: State,
) -> Iterator[Check]:
    """A check that AWS refuses is a finding too."""
    try:
        yield from check(config, clients, missing)
    except Exception as error:
        known = explained(error)
        yield Check(name, "warning", known.message, known.fix or "ask for the permission")


def _bucket(config: JobConfig, clients: Clients, missing: State) -> Iterator[Check]:
    from sm_launch.target.buckets import bucket_of

    client = clients("s3", config.aws.region)
    bucket = bucket_of(config, client)
    try:
        client.head_bucket(Bucket=bucket)
    except client.exceptions.ClientError as error:
        code = error.response["Error"]["Code"]
        meanings = {"403": "may not be read", "301": "is in another region"}
        detail = f"{bucket} {meanings.get(code, 'does not exist')}"
        yield Check("bucket", missing, detail, f"{_SETUP}, or correct aws.bucket in job.yaml")
        return
    here = str(client.meta.region_name)
    place = client.get_bucket_location(Bucket=bucket).get("LocationConstraint") or "us-east-1"
    if place != here:
        fix = f"take a bucket in {here}: SageMaker reads only buckets of its own region"
        yield Check("bucket", missing, f"{bucket} is in {place}, the jobs run in {here}", fix)
        return
    yield Check("bucket", "ok", f"s3://{bucket}/{config.aws.prefix} in {here}")
    for name, check in (("bucket encryption", _encryption), ("bucket access", _public_access)):
        yield from _careful(name, check, config, clients, missing)


def _encryption(config: JobConfig, clients: Clients, missing: State) -> Iterator[Check]:
    from sm_launch.target.buckets import bucket_of

    client = clients("s3", config.aws.region)
    bucket, name = bucket_of(config, client), "bucket encryption"
    fix = (
        f"aws s3api put-bucket-encryption --bucket {bucket} --server-side-encryption-configuration "
        """'{"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}'"""
    )
    try:
        answer = client.get_bucket_encryption(Bucket=bucket)
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "ServerSideEncryptionConfigurationNotFoundError":
            raise
        yield Check(name, "warning", f"{bucket} has no default encryption", fix)
        return
    rule = answer["ServerSideEncryptionConfiguration"]["Rules"][0]
    default = rule.get("ApplyServerSideEncryptionByDefault", {})
    described = " ".join(filter(None, [default.get("SSEAlgorithm"), default.get("KMSMasterKeyID")]))
    yield Check(name, "ok", described)


def _public_access(config: JobConfig, clients: Clients, missing: State) -> Iterator[Check]:
    from sm_launch.target.buckets import bucket_of

    client = clients("s3", config.aws.region)
    bucket, name = bucket_of(config, client), "bucket access"
    try:
        answer = client.get_public_access_block(Bucket=bucket)
        settings = answer["PublicAccessBlockConfiguration"]
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchPublicAccessBlockConfiguration":
            raise
        settings = {}
    if open_ones := [block for block in _BLOCKS if not settings.get(block)]:
        settings = ",".join(f"{block}=true" for block in _BLOCKS)
        fix = (
            f"aws s3api put-public-access-block --bucket {bucket} "
            f"--public-access-block-configuration {settings}"
        )
        detail = f"public access of {bucket} is not blocked: {', '.join(open_ones)}"
        yield Check(name, "warning", detail, fix)
        return
    yield Check(name, "ok", "public access is blocked")


def _roles(config: JobConfig, clients: Clients, missing: State) -> Iterator[Check]:
    named = {
        "aws.training_role": config.aws.training_role,
        "aws.hosting_role": config.aws.hosting_role or config.aws.training_role,
    }
    client = clients("iam", config.aws.region)
    for key, arn in named.items():
        if not arn:
            yield Check(key, missing, "not set", f"{_SETUP} and copy what it prints into job.yaml")
            continue
        try:
            role = client.get_role(RoleName=arn.rsplit("/", 1)[-1])["Role"]
        except client.exceptions.NoSuchEntityException:
            yield Check(key, missing, f"{arn} does not exist", _SETUP)
            continue
        if reason := distrust(role["AssumeRolePolicyDocument"], arn.split(":")[4]):
            fix = f"let {SERVICE} assume the role: an Allow of sts:AssumeRole in its trust policy"
            yield Check(key, missing, f"{arn}: {reason}", fix)
            continue
        yield Check(key, "ok", arn)


def distrust(document: Any, account: str) -> str:
    """Why SageMaker cannot assume a role with this trust policy; empty where it can.

    Args:
        document: the policy, as GetRole gives it.
        account: whose SageMaker is to assume it.
    """
    if isinstance(document, str):
        document = json.loads(unquote(document))
    ours = [each for each in _listed(document.get("Statement")) if _concerns_sagemaker(each)]
    if any(each.get("Effect") == "Deny" and not each.get("Condition") for each in ours):
        return f"its trust policy denies {SERVICE}"
    allowing = [each for each in ours if each.get("Effect") == "Allow"]
    if not allowing:
        return f"its trust policy does not let {SERVICE} assume it"
    sources = [_source_accounts(each) for each in allowing]
    if all(accounts and account not in accounts for accounts in sources):
        return f"its trust policy is for SageMaker of other accounts: {', '.join(sources[0])}"
    return ""


def _concerns_sagemaker(statement: dict[str, Any]) -> bool:
    principal = statement.get("Principal")
    services = _listed(principal.get("Service")) if isinstance(principal, dict) else []
    actions = [str(action).lower() for action in _listed(statement.get("Action"))]
    return SERVICE in services and any(fnmatchcase("sts:assumerole", each) for each in actions)


def _source_accounts(statement: dict[str, Any]) -> list[str]:
    """The accounts that a condition names; empty where it names none."""
    accounts = []
    for operator, keys in (statement.get("Condition") or {}).items():
        if operator.lower() in {"stringequals", "stringlike"}:
            for key, values in keys.items():
                if key.lower() == "aws:sourceaccount":
                    accounts += [str(value) for value in _listed(values)]
    return accounts


def _listed(value: Any) -> list[Any]:
    """IAM lets a list of one go without brackets."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _key(config: JobConfig, clients: Clients, missing: State) -> Iterator[Check]:
    key, name = config.aws.kms_key, "aws.kms_key"
    if not key:
        return
    client = clients("kms", config.aws.region)
    try:
        key_metadata = client.describe_key(KeyId=key)["KeyMetadata"]
    except client.exceptions.NotFoundException:
        fix = f"correct it: a key of {client.meta.region_name}, by ARN, id or alias/NAME"
        yield Check(name, missing, f"{key} does not exist", fix)
        return
    if key_metadata["KeyState"] != "Enabled":
        identity = key_metadata["KeyId"]
        fix = {
            "Disabled": f"aws kms enable-key --key-id {identity}",
            "PendingDeletion": f"aws kms cancel-key-deletion --key-id {identity}, then enable it",
        }.get(key_metadata["KeyState"], "take another key")
        yield Check(name, missing, f"{key} is {key_metadata['KeyState']}", fix)
    elif key_metadata.get("KeyUsage", "ENCRYPT_DECRYPT") != "ENCRYPT_DECRYPT":
        detail = f"{key} is for {key_metadata['KeyUsage']}"
        yield Check(name, missing, detail, "take a symmetric key: usage ENCRYPT_DECRYPT")
    else:
        yield Check(name, "ok", key_metadata["Arn"])


def _networks(config: JobConfig, clients: Clients, missing: State) -> Iterator[Check]:
    training, endpoint = config.training, config.endpoint
    several = training.instances.count > 1
    yield from _network("training", training.network, clients, config, missing, several=several)
    if endpoint.network != training.network:
        yield from _network("endpoint", endpoint.network, clients, config, missing)


def _network(
    section: str,
    network: Network,
    clients: Clients,
    config: JobConfig,
    missing: State,
    *,
    several: bool = False,
) -> Iterator[Check]:
    if not network.subnets:
        return
    name, client = f"{section}.network", clients("ec2", config.aws.region)
    try:
        subnets = client.describe_subnets(SubnetIds=network.subnets)["Subnets"]
        groups = client.describe_security_groups(GroupIds=network.security_groups)["SecurityGroups"]
    except client.exceptions.ClientError as error:
        details = error.response["Error"]
        if "NotFound" not in details["Code"] and "Malformed" not in details["Code"]:
            raise
        fix = f"correct {name}.subnets and security_groups: ids of {client.meta.region_name}"
        yield Check(name, missing, details["Message"], fix)
        return
    vpcs = sorted({each["VpcId"] for each in (*subnets, *groups)})
    if len(vpcs) > 1:
        fix = "take subnets and security groups of one VPC"
        yield Check(name, missing, f"they are of several VPCs: {', '.join(vpcs)}", fix)
        return
    free = sum(each["AvailableIpAddressCount"] for each in subnets)
    if not free:
        detail = f"the subnets of {vpcs[0]} have no free address"
        yield Check(name, missing, detail, "name more or larger subnets")
        return
    yield Check(name, "ok", f"{vpcs[0]}, {free} free addresses")
    yield _way_to_s3(name, client, vpcs[0])
    if several:
        yield _among_themselves(name, groups)


def _way_to_s3(name: str, client: Any, vpc: str) -> Check:
    """Containers in a VPC reach S3 by an endpoint, or by a NAT gateway that charges for it."""
    service = f"com.amazonaws.{client.meta.region_name}.s3"
    wanted = [
        {"Name": "vpc-id", "Values": [vpc]},
        {"Name": "service-name", "Values": [service]},
    ]
    pages = client.get_paginator("describe_vpc_endpoints").paginate(Filters=wanted)
    if any(page["VpcEndpoints"] for page in pages):
        return Check(f"{name} S3", "ok", f"{vpc} has an endpoint for S3")
    fix = (
        f"aws ec2 create-vpc-endpoint --vpc-id {vpc} --service-name {service} "
        "--route-table-ids …, unless the subnets have a NAT gateway"
    )
    return Check(f"{name} S3", "warning", f"{vpc} has no endpoint for S3", fix)


def _among_themselves(name: str, groups: list[dict[str, Any]]) -> Check:
    """Instances that train together must be let through to each other."""
    names = {group["GroupId"] for group in groups}
    allowed = {
        pair["GroupId"]
        for group in groups
        for rule in group["IpPermissions"]
        for pair in rule.get("UserIdGroupPairs", [])
    }
    if names & allowed:
        return Check(f"{name} hosts", "ok", "the instances may talk to each other")
    group = min(names)
    fix = (
        f"aws ec2 authorize-security-group-ingress --group-id {group} --protocol -1 "
        f"--source-group {group}"
    )
    return Check(f"{name} hosts", "warning", f"{group} lets no traffic from itself in", fix)


def _images(config: JobConfig, clients: Clients, missing: State) -> Iterator[Check]:
    images = (("training.image", config.training.image), ("endpoint.image", config.endpoint.image))
    for key, image in images:
        if not image:
            fix = "run `make build push` and put the URI that it prints into job.yaml"
            yield Check(key, missing, "not set", fix)
            continue
        match = limits.ECR_IMAGE.fullmatch(image)
        if not match:
            fix = "SageMaker pulls from ECR: `make push`, then name the ECR URI"
            yield Check(key, missing, f"{image} is not an ECR image", fix)
            continue
        client = clients("ecr", match["region"])
        try:
            client.describe_images(
                registryId=match["account"],
                repositoryName=match["name"],
                imageIds=[_identity(match)],
            )
        except (
            client.exceptions.ImageNotFoundException,
            client.exceptions.RepositoryNotFoundException,
        ):
            yield Check(key, missing, f"{image} does not exist", "run `make build push`")
            continue
        yield Check(key, "ok", image)


def _identity(image: re.Match[str]) -> dict[str, str]:
    """What DescribeImages is asked for: the digest says it alone where there is one."""
    if image["digest"]:
        return {"imageDigest": image["digest"]}
    return {"imageTag": image["tag"] or "latest"}


def _quota(config: JobConfig, clients: Clients, missing: State) -> Iterator[Check]:
    training, endpoint = config.training, config.endpoint
    kind = "spot training job" if training.spot else "training job"
    wanted = {f"{training.instances.type} for {kind} usage": training.instances.count}
    if training.instances.keep_alive_seconds:
        wanted[f"{training.instances.type} for training warm pool usage"] = training.instances.count
    if not endpoint.serverless:
        for each in endpoint.instance_types:
            wanted[f"{each} for endpoint usage"] = endpoint.instances.count
    client = clients("service-quotas", config.aws.region)
    quotas = _quotas(client, "list_service_quotas")
    if not wanted.keys() <= quotas.keys():
        # Only quotas that were ever asked for are listed as applied.
        quotas = {**_quotas(client, "list_aws_default_service_quotas"), **quotas}
    for name, count in wanted.items():
        value = quotas.get(name)
        if value is None:
            yield Check("quota", "warning", f"{name}: unknown", "check the instance type's name")
        elif value < count:
            fix = f"ask for {count} in the console: Service Quotas, Amazon SageMaker, {name!r}"
            yield Check("quota", missing, f"{name}: {value:.0f}, needed {count}", fix)
        else:
            yield Check("quota", "ok", f"{name}: {value:.0f}")


def _quotas(client: Any, lister: str) -> dict[str, float]:
    pages = client.get_paginator(lister).paginate(ServiceCode="sagemaker")
    return {item["QuotaName"]: item["Value"] for page in pages for item in page["Quotas"]}
