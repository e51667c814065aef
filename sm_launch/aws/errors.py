"""What botocore's exceptions mean to a user, and what to do about each."""

from __future__ import annotations

from typing import Any

from sm_launch.aws.causes import likely_cause
from sm_launch.errors import LaunchError, UserInputError

SIGN_IN = "sign in again (aws sso login, or new keys)"
AWS_FAILED = "an error inside AWS: run the same command again in a few minutes"
CLOCK = "set this machine's clock: AWS takes requests of the last minutes only"
KEY = "enable the key, or name another one in aws.kms_key"
# Error code of the AWS API to the fix.
FIXES = {
    "ExpiredTokenException": SIGN_IN,
    "ExpiredToken": SIGN_IN,
    "RequestExpired": SIGN_IN,
    "UnrecognizedClientException": "check the access key; it is unknown in this account",
    "InvalidClientTokenId": "check the access key; it is unknown in this account",
    "InvalidAccessKeyId": "check the access key; it is unknown in this account",
    "SignatureDoesNotMatch": "check the secret key, and this machine's clock",
    "InvalidSignatureException": CLOCK,
    "RequestTimeTooSkewed": CLOCK,
    "KMS.DisabledException": KEY,
    "KMS.NotFoundException": KEY,
    "KMS.KMSInvalidStateException": KEY,
    "KMS.InvalidStateException": KEY,
    "OptInRequired": "enable the region for the account, or name another one (--region)",
    "InvalidObjectState": "restore the object from its archive (`aws s3api restore-object`) first",
    "ThrottlingException": "wait a little and run the same command again",
    "Throttling": "wait a little and run the same command again",
    "SlowDown": "wait a little and run the same command again",
    "InternalFailure": AWS_FAILED,
    "InternalServerError": AWS_FAILED,
    "InternalServerException": AWS_FAILED,
    "ServiceUnavailable": AWS_FAILED,
    "ServiceUnavailableException": AWS_FAILED,
    "ResourceLimitExceeded": "raise the quota in Service Quotas, or name another instance type",
    "ResourceInUse": "choose another name, or delete the old one first",
    "LimitExceeded": "that is a quota of the account, which Service Quotas raises; or ask for less",
    "AlreadyExistsException": "run the same command again: it goes on from what is there",
    "ResourceNotFound": "check the name with `sm-launch list`",
    "NoSuchBucket": "create the bucket, or correct aws.bucket in job.yaml",
}
DENIED = frozenset({"AccessDenied", "AccessDeniedException", "403", "UnauthorizedOperation"})
# What S3 does not say itself: the permission that an operation needs.
_S3_PERMISSIONS = {
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "HeadObject": "s3:GetObject and s3:ListBucket",
    "GetObject": "s3:GetObject",
    "HeadBucket": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
}
LISTING = "check the name with `sm-launch list`"
# Words of a message, where its code alone says too little, to the fix.
_FIXES_BY_WORDS = {
    "could not find endpoint": f"{LISTING}; `sm-launch deploy` makes an endpoint",
    "could not find": LISTING,
    "is not in service": "wait until it is, or read why not with `sm-launch logs NAME`",
    "cannot update in-progress": "wait until `sm-launch list` shows InService",
    "in_progress state and can not": "wait a few minutes and run the same command again",
    "form of server side encryption": "copy the object without a key of one's own (SSE-C), which "
    "nothing here can give",
    "unsupported manifest media type": "push it again by `make push`, which makes a single image "
    "and no index (`docker build --provenance=false`)",
    "already existing": "choose another name, or delete the old one first",
}


def explain(error: Exception) -> LaunchError | None:
    """The same failure in a user's words; None where it is not botocore's."""
    from boto3.exceptions import Boto3Error
    from botocore import exceptions

    # boto3's transfers wrap what S3 answered.
    if isinstance(error, Boto3Error) and isinstance(error.__context__, Exception):
        return explain(error.__context__)
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
    if isinstance(error, _sign_in_errors()):
        return LaunchError(str(error), fix=SIGN_IN)
    if isinstance(error, exceptions.InvalidConfigError | exceptions.ConfigParseError):
        return UserInputError(str(error), fix="correct ~/.aws/config, or choose another --profile")
    if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError):
        return LaunchError(
            str(error),
            fix="check network and proxy, and run the same command again (an upload goes on where "
            "it broke off)",
        )
    if isinstance(error, exceptions.ProfileNotFound):
        return UserInputError(
            str(error),
            field="--profile",
            fix="`aws configure list-profiles` names those that there are",
        )
    if isinstance(error, exceptions.BotoCoreError):
        return LaunchError(str(error))
    return None


def _sign_in_errors() -> tuple[type[Exception], ...]:
    from botocore import exceptions

    return (exceptions.TokenRetrievalError, exceptions.UnauthorizedSSOTokenError,
            exceptions.SSOTokenLoadError, exceptions.CredentialRetrievalError)  # fmt: skip


def explained(error: Exception) -> LaunchError:
    """The same failure in a user's words. Raises it as it is where it is neither AWS's nor ours."""
    known = error if isinstance(error, LaunchError) else explain(error)
    if known is None:
        raise error
    return known


def _explain_client_error(error: Exception) -> LaunchError:
    response = getattr(error, "response", {})
    code = response.get("Error", {}).get("Code", "")
    message = response.get("Error", {}).get("Message", str(error))
    operation = getattr(error, "operation_name", "")
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if "<html" in message.lower():
        # A proxy or a load balancer answered in the service's place.
        message = f"{operation} was answered by a page of HTML, status {status}"
    fix = FIXES.get(code)
    if code in DENIED:
        missing = _S3_PERMISSIONS.get(operation) or f"the permission for {operation}"
        named = "to perform" in message
        fix = f"ask for {'the permission named above' if named else missing}"
    elif code == "400" and operation.startswith("Head"):
        # S3 gives no reason to these requests, which have no body.
        message = f"S3 refused {operation} without a reason"
        fix = f"{SIGN_IN}: that is what expired credentials look like; `sm-launch doctor` tells"
    if fix is None:
        fixes = (fix for phrase, fix in _FIXES_BY_WORDS.items() if phrase in message.lower())
        fix = next(fixes, AWS_FAILED if status >= 500 else None)
    if fix is None and (known := likely_cause(message)):
        fix = known.step
    return LaunchError(f"{message} [{code}]" if code else message, fix=fix)


def is_missing(error: Exception) -> bool:
    """Whether the service says that there is no resource of that name."""
    # A lost connection has a response too, which is None.
    response: dict[str, Any] = getattr(error, "response", None) or {}
    details = response.get("Error", {})
    message = str(details.get("Message", "")).lower()
    return details.get("Code") in {"ResourceNotFound", "ResourceNotFoundException"} or (
        details.get("Code") == "ValidationException"
        and any(phrase in message for phrase in ("could not find", "not found", "can't find"))
    )


class SuppressMissing:
    """Ends a block, as `contextlib.suppress` does, where there is no resource of that name."""

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        return isinstance(error, Exception) and is_missing(error)


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
