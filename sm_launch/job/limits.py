"""SageMaker's limits and names, as far as the launcher must know them: each fact stands here once.

Shapes and most limits of requests are checked against botocore's own service model
(`sm_launch.sessions`); this module holds what that model does not say.
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

# Hosting: container start-up health check, in seconds.
STARTUP_TIMEOUT_SECONDS = (60, 3600)

# Training: SIGTERM first, SIGKILL after this many seconds.
TRAINING_GRACE_SECONDS = 120

# CreateTrainingJob, StoppingCondition: default and hard maximum, in seconds.
DEFAULT_MAX_RUNTIME_SECONDS = 86_400
HARD_MAX_RUNTIME_SECONDS = 28 * 86_400

# ResourceConfig.KeepAlivePeriodInSeconds (warm pools).
KEEP_ALIVE_SECONDS = (0, 21_600)

TRAINING_FINAL_STATUSES = frozenset({"Completed", "Failed", "Stopped"})
TRANSFORM_FINAL_STATUSES = TUNING_FINAL_STATUSES = TRAINING_FINAL_STATUSES
ENDPOINT_FINAL_STATUSES = frozenset({"InService", "Failed", "OutOfService"})

# Every resource that the launcher creates bears this tag; `list`, `gc` and `delete` go by it.
TAG_KEY = "sm-launch:job"
# On local targets also the directory of its job.yaml: all jobs of a machine share one home there.
DIRECTORY_TAG_KEY = "sm-launch:directory"
# Tag, Value.
TAG_VALUE_LENGTH = 256
TAG_VALUE_PATTERN = re.compile(r"[\w .:/=+\-@]*")
# What the descriptions of our alarms begin with: tags cannot be searched for there.
DESCRIPTION = "sm-launch:"
