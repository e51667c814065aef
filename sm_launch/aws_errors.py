"""What botocore's exceptions mean to a user, and what to do about each."""

from __future__ import annotations

from typing import Any

from sm_launch.errors import LaunchError, UserInputError

# Error code of the AWS API to the fix.
FIXES = {
    "AccessDenied": "ask for the missing permission named above",
    "AccessDeniedException": "ask for the missing permission named above",
    "ExpiredToken": "sign in again (aws sso login, or new keys)",
    "ExpiredTokenException": "sign in again (aws sso login, or new keys)",
    "UnrecognizedClientException": "check the access key; it is unknown in this account",
    "InvalidClientTokenId": "check the access key; it is unknown in this account",
    "ThrottlingException": "wait a little and run the same command again",
    "ResourceLimitExceeded": "raise the quota in Service Quotas, or name another instance type",
    "ResourceInUse": "choose another name, or delete the old one first",
    "ResourceNotFound": "check the name with `sm-launch list`",
    "NoSuchBucket": "create the bucket, or correct aws.bucket in job.yaml",
}
LISTING = "check the name with `sm-launch list`"


def explain(error: Exception) -> LaunchError | None:
    """The same failure in a user's words; None where it is not botocore's."""
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        return _explain_client_error(error)
    if isinstance(error, exceptions.ParamValidationError):
        return UserInputError(f"the request is not valid: {error}")
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return LaunchError(
            "no AWS credentials",
            fix="sign in (aws configure, aws sso login) or run locally with --target process",
        )
    if isinstance(error, exceptions.NoRegionError):
        return UserInputError(
            "no AWS region", field="aws.region", fix="put one into job.yaml or set AWS_REGION"
        )
    if isinstance(error, exceptions.BotoCoreError):
        return LaunchError(str(error))
    return None


def _explain_client_error(error: Exception) -> LaunchError:
    response = getattr(error, "response", {})
    code = response.get("Error", {}).get("Code", "")
    message = response.get("Error", {}).get("Message", str(error))
    fix = FIXES.get(code)
    if fix is None and "could not find" in message.lower():
        fix = LISTING
    return LaunchError(f"{message} [{code}]" if code else message, fix=fix)


def is_missing(error: Exception) -> bool:
    """Whether the service says that there is no resource of that name."""
    found: dict[str, Any] = getattr(error, "response", {}).get("Error", {})
    message = str(found.get("Message", "")).lower()
    return found.get("Code") in {"ResourceNotFound", "ResourceNotFoundException"} or (
        found.get("Code") == "ValidationException"
        and any(words in message for words in ("could not find", "not found", "can't find"))
    )


def is_passing(error: Exception) -> bool:
    """Whether trying again later can help: throttling, a server's bad moment, a lost connection."""
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return (
            "Throttl" in code
            or code in {"RequestLimitExceeded", "TooManyRequestsException", "ServiceUnavailable"}
            or int(status) >= 500
        )
    return isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError)
