"""SageMaker's limits and names, as far as the launcher must know them: each fact stands here once.

Shapes and most limits of requests are checked against botocore's own service model
(`sm_launch.sessions`); this module holds what that model says in words only, or not at all. Which
requests AWS refuses for it is the table of `sm_launch.target.refusals`.
"""

from __future__ import annotations

import re

# CreateTrainingJob, HyperParameters: a map of at most 100 strings.
HYPERPARAMETER_COUNT = 100
HYPERPARAMETER_VALUE_LENGTH = 2500

# CreateTrainingJob, TrainingJobName; CreateEndpoint uses the same pattern.
NAME_PATTERN = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
NAME_LENGTH = 63
# CreateHyperParameterTuningJob, HyperParameterTuningJobName.
TUNING_NAME_LENGTH = 32

# InputDataConfig: channel names; SDK v3 claims the three reserved ones.
CHANNEL_NAME_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,64}")
RESERVED_CHANNELS = frozenset({"code", "sm_drivers", "recipe"})

# What the SDK names the variant of an endpoint's main model.
MAIN_VARIANT = "AllTraffic"

# Hosting: container start-up health check, in seconds.
STARTUP_TIMEOUT_SECONDS = (60, 3600)

# Training: SIGTERM first, SIGKILL after this many seconds.
TRAINING_GRACE_SECONDS = 120

# CreateTrainingJob, StoppingCondition: default and hard maximum, in seconds.
DEFAULT_MAX_RUNTIME_SECONDS = 86_400
HARD_MAX_RUNTIME_SECONDS = 28 * 86_400

# ResourceConfig.KeepAlivePeriodInSeconds (warm pools).
KEEP_ALIVE_SECONDS = (0, 21_600)

# CreateEndpoint, DeploymentConfig: the shares of the capacity that a step may have, in per cent.
# Service model: TrafficRoutingConfig (LinearStepSize, CanarySize) and RollingUpdatePolicy.
STEP_PERCENT = {"linear": (10, 50), "canary": (1, 50), "rolling": (5, 50)}

# CreateTransformJob, MaxPayloadInMB: times MaxConcurrentTransforms.
TRANSFORM_BUFFER_MB = 100
# CreateModel, Environment: names and values of all containers together.
MODEL_ENVIRONMENT_BYTES = 32 * 1024

# An image in Amazon ECR: its parts. Amazon ECR user guide, "Private registries": FIPS and
# dual-stack hosts too; each partition has a domain of its own behind the region.
ECR_IMAGE = re.compile(
    r"(?P<account>\d{12})\.dkr[.-]ecr(-fips)?\.(?P<region>[a-z0-9-]+)(\.[a-z0-9-]+)+"
    r"/(?P<name>[^:@]+)(:(?P<tag>[^@]+))?(@(?P<digest>sha256:[0-9a-f]{64}))?"
)
# Of an ARN: partition, service, region (empty where it has none). General reference, "ARNs".
ARN = re.compile(r"arn:(?P<partition>aws[a-z-]*):(?P<service>[a-z0-9-]+):(?P<region>[a-z0-9-]*):.+")
# IAM's ARN of a role. Service model: RoleArn.
ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+")
# An instance type as AWS forms them; EC2 user guide, "Instance type naming conventions".
INSTANCE_TYPE = re.compile(
    r"ml\.[a-z]+\d[a-z0-9-]*\.(nano|micro|small|medium|large|\d*xlarge|metal.*)"
)
# General reference, "AWS service endpoints": what regions are called; one letter more is a zone.
REGION = r"^[a-z]{2,}(-[a-z]+)+-\d+$"
# S3 user guide, "General purpose bucket naming rules": the name alone, no URI.
BUCKET = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"
# EC2 user guide, "Resource IDs".
SUBNET_ID, SECURITY_GROUP_ID = r"^subnet-[0-9a-z]+$", r"^sg-[0-9a-z]+$"
FORMS = {
    REGION: "is no region, such as eu-central-1 (one letter more is a zone of it)",
    BUCKET: "is no bucket's name: lower case, and the name alone, without s3:// and folders",
    SUBNET_ID: "is no subnet's id, such as subnet-0123456789abcdef0",
    SECURITY_GROUP_ID: "is no security group's id, such as sg-0123456789abcdef0",
}
"""What is said of a value that has not the form."""
# General reference, "Tag naming limits and requirements": AWS's own tags begin so.
RESERVED_TAG_PREFIX = "aws:"

TRAINING_FINAL_STATUSES = frozenset({"Completed", "Failed", "Stopped"})
TRANSFORM_FINAL_STATUSES = TUNING_FINAL_STATUSES = TRAINING_FINAL_STATUSES
# EndpointStatus, of DescribeEndpoint's answer: what it does not leave by itself.
ENDPOINT_FINAL_STATUSES = frozenset({"InService", "Failed", "OutOfService", "UpdateRollbackFailed"})

# Every resource that the launcher creates bears this tag; `list`, `gc` and `delete` go by it.
TAG_KEY = "sm-launch:job"
# On local targets also the directory of its job.yaml: all jobs of a machine share one home there.
DIRECTORY_TAG_KEY = "sm-launch:directory"
# Tag, Value.
TAG_VALUE_LENGTH = 256
TAG_VALUE_PATTERN = re.compile(r"[\w .:/=+\-@]*")
# What the descriptions of our alarms begin with: tags cannot be searched for there.
DESCRIPTION = "sm-launch:"


def require_name(name: str) -> str:
    """The name of a variant or an endpoint. Raises ValueError for one that SageMaker refuses."""
    if len(name) > NAME_LENGTH or not NAME_PATTERN.fullmatch(name):
        raise ValueError(
            "letters, digits and hyphens between them, 63 characters at most: "
            "SageMaker takes no name that begins or ends with a hyphen"
        )
    return name
