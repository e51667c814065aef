"""Evaluation of models: quality, latency and throughput on held-out rows; comparison of two."""

from sm_launch.evaluation.artefact import Artefact, read_artefact
from sm_launch.evaluation.as_trained import beside_training, files_sha256
from sm_launch.evaluation.client import RetryPolicy, Sender, session_invoker
from sm_launch.evaluation.comparison import LEAST_SHARED, Comparison, compare
from sm_launch.evaluation.gates import (
    GateResult,
    check_gates,
    gate_dict,
    parse_gates,
    require_gates,
)
from sm_launch.evaluation.latency import LatencyPlan
from sm_launch.evaluation.load import LoadPlan
from sm_launch.evaluation.plan import EvaluationPlan
from sm_launch.evaluation.result import EvaluationResult, Prediction, RowFailure, RunInfo
from sm_launch.evaluation.rows import data_files, fetch_any, local_path, read_rows
from sm_launch.evaluation.runner import (
    EvaluationFailedError,
    evaluate_endpoint,
    evaluate_outputs,
)
from sm_launch.evaluation.store import PredictionStore, read_predictions
from sm_launch.evaluation.summary import render_summary
from sm_launch.evaluation.task import Task
from sm_launch.evaluation.tasks import TASKS, make_task, task_of_method
from sm_launch.evaluation.transform import read_outputs
from sm_launch.evaluation.wire import Invoke, InvokeReply

__all__ = [
    "LEAST_SHARED",
    "TASKS",
    "Artefact",
    "Comparison",
    "EvaluationFailedError",
    "EvaluationPlan",
    "EvaluationResult",
    "GateResult",
    "Invoke",
    "InvokeReply",
    "LatencyPlan",
    "LoadPlan",
    "Prediction",
    "PredictionStore",
    "RetryPolicy",
    "RowFailure",
    "RunInfo",
    "Sender",
    "Task",
    "beside_training",
    "check_gates",
    "compare",
    "data_files",
    "evaluate_endpoint",
    "evaluate_outputs",
    "fetch_any",
    "files_sha256",
    "gate_dict",
    "local_path",
    "make_task",
    "parse_gates",
    "read_artefact",
    "read_outputs",
    "read_predictions",
    "read_rows",
    "render_summary",
    "require_gates",
    "session_invoker",
    "task_of_method",
]
