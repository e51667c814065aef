"""The process session: which part answers which of the SageMaker client's methods."""

from __future__ import annotations

from pathlib import Path

from sm_launch.sessions.process.base import Machine, Settings
from sm_launch.sessions.process.garbage import GarbageCollection
from sm_launch.sessions.process.hosting.definitions import EndpointConfigs, Models
from sm_launch.sessions.process.hosting.endpoints import Endpoints
from sm_launch.sessions.process.hosting.runtime import Runtime
from sm_launch.sessions.process.hosting.transform import TransformJobs
from sm_launch.sessions.process.jobs.training import TrainingJobs
from sm_launch.sessions.process.jobs.tuning import TuningJobs
from sm_launch.sessions.process.tags import Tags


class ProcessSession:
    """SageMaker's client methods, run by `train` and `serve` processes on this machine.

    Args:
        home: where jobs, models and endpoints keep their state.
        settings: commands and time limits, where they are to differ from SageMaker's.
        kind: of machine; Docker's runs containers.
    """

    seconds_between_looks: float = 0.3
    log_lag_seconds: float = 0.0

    def __init__(
        self, home: Path, settings: Settings | None = None, *, kind: type[Machine] = Machine
    ) -> None:
        machine = kind(home, settings)
        self._store, self._settings = machine.store, machine.settings
        self.local = self
        training = TrainingJobs(machine)
        tuning = TuningJobs(machine, training)
        models = Models(machine)
        configs = EndpointConfigs(machine, models)
        endpoints = Endpoints(machine, configs, models)
        transforms = TransformJobs(machine, models)
        runtime = Runtime(machine, endpoints)
        tags = Tags(machine, training, tuning, transforms, models, configs, endpoints)

        self.create_training_job = training.create
        self.describe_training_job = training.describe
        self.stop_training_job = training.stop
        self.list_training_jobs = training.summaries
        self.delete_training_job = training.delete
        self.training_log_path = training.log_path
        self.training_log_lines = training.log_lines

        self.create_hyper_parameter_tuning_job = tuning.create
        self.describe_hyper_parameter_tuning_job = tuning.describe
        self.stop_hyper_parameter_tuning_job = tuning.stop
        self.list_hyper_parameter_tuning_jobs = tuning.summaries
        self.delete_hyper_parameter_tuning_job = tuning.delete
        self.list_training_jobs_for_hyper_parameter_tuning_job = tuning.trials

        self.create_transform_job = transforms.create
        self.describe_transform_job = transforms.describe
        self.stop_transform_job = transforms.stop
        self.list_transform_jobs = transforms.summaries
        self.transform_log_path = transforms.log_path
        self.transform_log_lines = transforms.log_lines

        self.create_model = models.create
        self.describe_model = models.describe
        self.list_models = models.summaries
        self.delete_model = models.delete

        self.create_endpoint_config = configs.create
        self.describe_endpoint_config = configs.describe
        self.list_endpoint_configs = configs.summaries
        self.delete_endpoint_config = configs.delete

        self.create_endpoint = endpoints.create
        self.update_endpoint = endpoints.update
        self.update_endpoint_weights_and_capacities = endpoints.update_weights
        self.describe_endpoint = endpoints.describe
        self.list_endpoints = endpoints.summaries
        self.delete_endpoint = endpoints.delete
        self.endpoint_log_path = endpoints.log_path
        self.endpoint_log_lines = endpoints.log_lines
        self.endpoint_url = endpoints.url
        self.endpoint_processes = endpoints.processes

        self.invoke_endpoint = runtime.invoke
        self.invoke_endpoint_with_response_stream = runtime.invoke_with_stream
        self.invoke_endpoint_async = runtime.invoke_async

        self.add_tags = tags.add
        self.list_tags = tags.all
        self.delete_tags = tags.delete

        self.collect_garbage = GarbageCollection(
            machine, endpoints, tuning, training, transforms
        ).collect

    def has_objects(self, uri: str) -> bool | None:
        """What a local job leaves is in files; nobody looks elsewhere."""
        return None
