"""The processes that learn together: each computes its share of every batch, and all of them have the same networks.

The batches are those of a lone process, so the result is its result, but for the order in which numbers are added up.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor

from batch_rl.errors import TrainingError

WAITING_SECONDS = 1800.0  # for the others; the first estimates meanwhile, which they wait for
_Value = TypeVar("_Value")


class Hosts:
    """A process that learns alone; one among several overrides everything.

    Attributes:
        number: of this process, from 0.
        count: of those that learn together.
        stopping: whether any of them has been asked to stop.
    """

    number, count, stopping = 0, 1, False

    @property
    def is_first(self) -> bool:
        """Whether this process estimates, and writes what is left of the run."""
        return self.number == 0

    def must_stop(self, asked: Callable[[], bool]) -> bool:
        """Return whether learning ends here, on all hosts after the same update."""
        return asked()

    def own_share(self, batches: Tensor) -> Tensor:
        """Return this process's rows of batches of rows, (..., rows)."""
        return batches

    def add_up(self, values: Tensor) -> None:
        """Put the sum over all processes in the place of ``values``."""

    def add_gradients(self, buffer: Tensor) -> None:
        """The same for gradients; the last value of the buffer is room for this class."""

    def take_largest(self, values: Tensor) -> None:
        """Put the largest of all processes in the place of ``values``."""

    def once(self, compute: Callable[[], _Value], *, by: int = 0) -> _Value:
        """Have one process compute something, and return it on all."""
        return compute()

    def hand_on(self, values: Tensor, *, by: int) -> None:
        """Put the values that one process has in the place of ``values`` on all."""

    def check_same(self, name: str, value: object) -> None:
        """Refuse to go on where a value is not that of the first process.

        Args:
            name: of the value, for people.
            value: such as a digest.
        Raises:
            TrainingError: it is another one; all of them say so, and none waits for another.
        """
        first = self.once(lambda: value)
        differing = torch.tensor([float(value != first)])
        self.take_largest(differing)
        if differing.item():
            other = "this" if value != first else "another"
            raise TrainingError(f"{name} of {other} host and of the first one differ; give all hosts the same.")

    def leave(self) -> None:
        """Say good-bye to the others."""


ALONE = Hosts()


class SeveralHosts(Hosts):
    """One of several processes; how they exchange values is a subclass's."""

    def __init__(self, number: int, count: int) -> None:
        self.number, self.count = number, count
        self._asked = False

    def must_stop(self, asked: Callable[[], bool]) -> bool:
        """See ``Hosts``: what any was asked is known to all with the gradients of the next update."""
        self._asked = self._asked or asked()
        return self.stopping

    def own_share(self, batches: Tensor) -> Tensor:
        """See ``Hosts``: shares differ by at most one row, and may be empty."""
        rows = batches.shape[-1]
        return batches[..., rows * self.number // self.count : rows * (self.number + 1) // self.count]

    def add_gradients(self, buffer: Tensor) -> None:
        """See ``Hosts``."""
        buffer[-1] = float(self._asked)
        self.add_up(buffer)
        self.stopping = self.stopping or bool(buffer[-1] > 0)


class JoinedHosts(SeveralHosts):
    """One of several processes, by ``torch.distributed`` (gloo), as the variables of torchrun tell it."""

    def __init__(self) -> None:
        import torch.distributed as distributed

        self._distributed = distributed
        with _named_errors("the hosts could not find each other"):
            distributed.init_process_group("gloo", timeout=timedelta(seconds=WAITING_SECONDS))
        super().__init__(distributed.get_rank(), distributed.get_world_size())
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())

    def add_up(self, values: Tensor) -> None:
        """See ``Hosts``."""
        with _named_errors("a host has lost the others"):
            self._distributed.all_reduce(values)

    def take_largest(self, values: Tensor) -> None:
        """See ``Hosts``."""
        with _named_errors("a host has lost the others"):
            self._distributed.all_reduce(values, op=self._distributed.ReduceOp.MAX)

    def once(self, compute: Callable[[], _Value], *, by: int = 0) -> _Value:
        """See ``Hosts``."""
        values: list[Any] = [compute() if self.number == by else None]
        with _named_errors("a host has lost the others"):
            self._distributed.broadcast_object_list(values, src=by)
        value: _Value = values[0]
        return value

    def hand_on(self, values: Tensor, *, by: int) -> None:
        """See ``Hosts``."""
        with _named_errors("a host has lost the others"):
            self._distributed.broadcast(values, src=by)

    def leave(self) -> None:
        """See ``Hosts``."""
        self._distributed.destroy_process_group()


def join_hosts() -> Hosts:
    """Return this process among those that learn together, when all of them are there.

    Raises:
        TrainingError: they do not find each other.
    """
    return JoinedHosts() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ALONE


@contextmanager
def _named_errors(problem: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TrainingError(f"{problem}: {reason}") from error
