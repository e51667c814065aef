"""What a model's parameters are made of: matrices, which LoRA adapts, and the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sm_launch.job.activations import Shape, shape_of


@dataclass(frozen=True)
class Linear:
    """Linear layers of one shape.

    Attributes:
        inputs: width of what goes in.
        outputs: width of what comes out.
        copies: how many there are.
        bias: whether each has one.
        rank: of its adapter, in times that of the others. PEFT gives gate and up two where they are
            one tensor of all experts (`peft.utils.transformers_weight_conversion`), and passes over
            the experts of some models: 0.
    """

    inputs: int
    outputs: int
    copies: int
    bias: bool = False
    rank: int = 1

    @property
    def parameters(self) -> int:
        return self.copies * (self.inputs + self.bias) * self.outputs


@dataclass(frozen=True)
class Size:
    """A model's parameters.

    Attributes:
        linears: its linear layers.
        others: parameters of everything else: embeddings and norms.
        dtype: of its files, as its config.json says.
        shape: of its layers, as far as activations depend on them.
    """

    linears: tuple[Linear, ...]
    others: int
    dtype: str = ""
    shape: Shape | None = None

    @property
    def parameters(self) -> int:
        return self.others + sum(linear.parameters for linear in self.linears)

    def adapters(self, rank: int) -> int:
        """Parameters of LoRA on every linear layer."""
        return sum(
            rank * each.rank * (each.inputs + each.outputs) * each.copies for each in self.linears
        )


@dataclass(frozen=True)
class Reader:
    """The numbers of a config.json."""

    values: Mapping[str, Any]

    def __call__(self, name: str, default: Any = None) -> int:
        """A whole number.

        Raises:
            KeyError: there is none, nor a default.
            ValueError: it is no number.
        """
        value = self.values.get(name)
        value = default if value is None else value
        if value is None:
            raise KeyError(name)
        return int(value)


def layer_norms(width: int, copies: int) -> int:
    """Parameters of layer norms with weight and bias."""
    return 2 * width * copies


def size_of(
    parts: Callable[[Reader], Iterable[Linear | int]], config: Mapping[str, Any]
) -> Size | None:
    """The size of what `parts` lists; None where the config lacks what it takes."""
    read = Reader(config)
    try:
        listed = list(parts(read))
    except (KeyError, ValueError, TypeError, ZeroDivisionError):
        return None
    linears = tuple(each for each in listed if isinstance(each, Linear))
    others = sum(each for each in listed if isinstance(each, int))
    dtype = config.get("dtype") or config.get("torch_dtype") or ""
    return Size(linears, others, str(dtype), shape_of(config))
