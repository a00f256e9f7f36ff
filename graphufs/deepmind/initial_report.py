"""What became of each tensor of a network that begins with another's weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

How = Literal["kept", "permuted", "in part", "rescaled", "new", "left out"]


@dataclass(frozen=True)
class Kept:
    """What became of one tensor, by DeepMind's name, and why, or of which channels.

    `kept` as it is, `permuted` (the source's rows or columns in another order, or a choice of them), `in part` (some
    rows or columns are the source's, the others new), `rescaled` (the source's for other statistics), `new`, or `left
    out` (only the source has it: then the shape is the source's).
    """

    tensor: str
    how: How
    shape: tuple[int, ...]
    why: str = ""


@dataclass(frozen=True)
class InitialReport:
    """Where the initial weights come from, tensor by tensor, and how the two trainings differ otherwise."""

    source: str
    tensors: tuple[Kept, ...]
    remarks: tuple[str, ...] = ()

    def count(self, how: How) -> int:
        """The number of tensors of which this is true."""
        return sum(tensor.how == how for tensor in self.tensors)

    @property
    def summary(self) -> str:
        """One line."""
        words: tuple[How, ...] = ("kept", "permuted", "in part", "rescaled", "new", "left out")
        counts = ", ".join(f"{self.count(how)} {how}" for how in words if self.count(how))
        return f"initial weights from {self.source}: of {len(self.tensors)} tensors {counts}"

    def lines(self) -> list[str]:
        """As text: the summary, the remarks, and the tensors that are not simply kept."""
        tensors = [tensor for tensor in self.tensors if tensor.how != "kept"]
        return [self.summary, *self.remarks, *(
            f"{tensor.how}: {tensor.tensor} {list(tensor.shape)}" + (f" ({tensor.why})" if tensor.why else "")
            for tensor in tensors
        )]  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """As JSON objects."""
        return asdict(self)
