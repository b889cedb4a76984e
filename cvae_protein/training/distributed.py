"""One training run on several processes (`torchrun --nproc-per-node N`), each with its share of every batch.

Every process draws the whole batch and all its noise from generators in equal states and takes its own rows; gradients
are summed, each weighted by its share. A step thus equals that of one process with the whole batch, up to rounding, if
every term is a mean over structures; a term of the batch as a whole (free bits) is computed for each share separately.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Ranks:
    """The processes of a training run: their number and the rank of this one; only the first writes and prints."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    @property
    def rows(self) -> slice:
        """This process's rows of a batch."""
        return slice(self.rank, None, self.count)

    def part(self, index: int, count: int) -> Ranks:
        """This process as if its rows were divided among `count` processes and it were the one numbered `index`."""
        return Ranks(self.rank + index * self.count, self.count * count)

    def add(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients over all processes, in place and in one message."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.count > 1 and gradients:
            whole = self.add(torch.cat([g.flatten() for g in gradients]))
            for gradient, part in zip(gradients, whole.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def agree(self, row: dict[str, float], device: torch.device) -> dict[str, float]:
        """The first process's values of a row, so that all processes make the same decisions."""
        if self.count == 1:
            return row
        values = torch.tensor(list(row.values()), dtype=torch.double, device=device)
        dist.broadcast(values, 0)
        return dict(zip(row, values.tolist(), strict=True))


ALONE = Ranks()


class SharedNoise(TorchFunctionMode):
    """A context in which `torch.randn` and `torch.rand` draw for the whole batch and return this process's rows.

    This applies to draws from `generator` whose first dimension is the number of structures in this process's share.
    """

    def __init__(self, ranks: Ranks, generator: torch.Generator, structures: int) -> None:
        super().__init__()
        self.ranks, self.generator, self.structures = ranks, generator, structures

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in (torch.randn, torch.rand):
            return func(*args, **kwargs)
        shape = tuple(args[0]) if len(args) == 1 and not isinstance(args[0], int) else args
        own = len(range(self.structures)[self.ranks.rows])
        if kwargs.get("generator") is not self.generator or not shape or shape[0] != own:
            return func(*args, **kwargs)
        return func((self.structures, *shape[1:]), **kwargs)[self.ranks.rows]


def shared_noise(ranks: Ranks, generator: torch.Generator, structures: int) -> AbstractContextManager[object]:
    """`SharedNoise` if there are several processes; otherwise nothing, so as not to interfere with compilation."""
    return nullcontext() if ranks.count == 1 else SharedNoise(ranks, generator, structures)


@contextmanager
def join_processes() -> Iterator[Ranks]:
    """Join the processes that `torchrun` started, or run alone; all but the first are silent on standard error."""
    if not dist.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
        yield ALONE
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpu else "gloo")
    ranks = Ranks(dist.get_rank(), dist.get_world_size())
    with ExitStack() as stack:
        stack.callback(dist.destroy_process_group)
        if not ranks.first:
            stack.enter_context(redirect_stderr(stack.enter_context(open(os.devnull, "w", encoding="utf-8"))))
        yield ranks
