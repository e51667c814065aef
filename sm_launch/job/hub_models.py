"""Models of the Hugging Face Hub that an endpoint serves as they are: `hf://OWNER/NAME[@REVISION]`.

The serving container downloads them at its start; a deployment names them in its environment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from sm_launch.errors import UserInputError
from sm_launch.job.config import Endpoint

SCHEME = "hf://"
IDENTITY, REVISION = "HF_MODEL_ID", "HF_MODEL_REVISION"
# huggingface_hub's validate_repo_id, which this package need not have.
_NAME = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ASK_SECONDS = 10.0


@dataclass(frozen=True)
class HubModel:
    """A repository and, where it is named, its revision."""

    repository: str
    revision: str = ""

    @classmethod
    def of(cls, named: str, field: str) -> HubModel:
        """Take `OWNER/NAME[@REVISION]` apart, with or without the scheme before it.

        Raises:
            UserInputError: it is no such name.
        """
        repository, at, revision = named.removeprefix(SCHEME).partition("@")
        bad = ".." in repository or "--" in repository or not _NAME.fullmatch(repository)
        if bad or (at and not revision):
            raise UserInputError(
                "names no model of the Hub",
                field=field,
                value=named,
                fix="give OWNER/NAME, with @REVISION behind it if wanted",
            )
        return cls(repository, revision)

    @property
    def uri(self) -> str:
        return SCHEME + self.repository + (f"@{self.revision}" if self.revision else "")

    @property
    def environment(self) -> dict[str, str]:
        """What tells the serving container."""
        named = {IDENTITY: self.repository}
        return {**named, REVISION: self.revision} if self.revision else named

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which cannot move."""
        return _COMMIT.fullmatch(self.revision) is not None


def environment_of(model_data: str, endpoint: Endpoint) -> dict[str, str]:
    """Variables by which the container downloads `model_data`; none where that is no hf:// URI.

    Raises:
        UserInputError: the endpoint has no network, or its environment names a model as well.
    """
    named = endpoint.environment.get(IDENTITY, "")
    if named and not named.startswith("/"):
        raise UserInputError(
            "the model is named twice",
            field=f"endpoint.environment.{IDENTITY}",
            value=named,
            fix="leave it out, and name a model of the Hub in endpoint.model",
        )
    if not model_data.startswith(SCHEME):
        return {}
    model = HubModel.of(model_data, "endpoint.model")
    if endpoint.network.isolation:
        raise UserInputError(
            f"the endpoint cannot download {model.repository}",
            field="endpoint.network.isolation",
            value=True,
            fix="set it to false, or give a directory or an s3:// URI in endpoint.model",
        )
    return model.environment


def of_environment(environment: dict[str, str]) -> HubModel | None:
    """The model that a container of this environment downloads; None where it has its own."""
    identity = environment.get(IDENTITY, "")
    if not identity or identity.startswith("/"):
        return None
    return HubModel(identity, environment.get(REVISION, ""))


@dataclass(frozen=True)
class Looked:
    """A model as the Hub describes it.

    Attributes:
        model: at its commit, so that every instance serves the same.
        weights: bytes of its weights; None where the Hub was not asked.
        problem: why the Hub was not asked; empty where it was.
    """

    model: HubModel
    weights: int | None = None
    problem: str = ""


def look_up(model: HubModel) -> Looked:
    """Ask the Hub where this machine can; a container may reach what this machine cannot."""
    try:
        from huggingface_hub import HfApi
    except ImportError:
        return Looked(model, problem="it needs pip install 'sm-launch[hub]'")
    try:
        info = HfApi().model_info(
            model.repository,
            revision=model.revision or None,
            timeout=_ASK_SECONDS,
            files_metadata=True,
        )
    except Exception as error:  # the library's own, those of its HTTP client
        first = str(error).strip().partition("\n")[0][:200]
        return Looked(model, problem=first or type(error).__name__)
    sizes = [f.size or 0 for f in info.siblings or () if f.rfilename.endswith(".safetensors")]
    return Looked(replace(model, revision=info.sha or model.revision), sum(sizes) or None)
