"""Executors of training steps: one kernel after the other, or a whole step at once as a CUDA graph.

Both run `Training.learn`; the eager executor is the reference that the graph is held to.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from allcnn import randomness
from allcnn.config import Augment, Config, Family, Source
from allcnn.data.augment import purposes as augment_purposes
from allcnn.data.splits import ResidentSplit
from allcnn.networks.dropout import purposes as dropout_purposes
from allcnn.training.cell_training import Training
from allcnn.training.device import Execution

Replay = Callable[[], None]
Capture = Callable[[Replay], Replay]
_Tables = tuple[Tensor, Tensor, Tensor]


class Executor(Protocol):
    """Takes the steps of cells that are at the same step of an epoch."""

    def steps(self, trainings: Sequence[Training]) -> Iterator[None]:
        """Take one step of each at each `next`, to the end of the epoch."""
        ...


def make_executor(execution: Execution) -> Executor:
    """Return the executor for this device."""
    return GraphExecutor(fast=execution.fast) if execution.graph else EagerExecutor()


class EagerExecutor:
    """Queues one kernel after the other; the host reads the images of each batch."""

    def steps(self, trainings: Sequence[Training]) -> Iterator[None]:
        """Take one step of each at each `next`, to the end of the epoch."""
        for batches in zip(*map(self._batches, trainings), strict=True):
            for training, (images, labels) in zip(trainings, batches, strict=True):
                self._step(training, images, labels)
            yield

    def _batches(self, training: Training) -> Iterator[tuple[Tensor, Tensor]]:
        order = training.order(len(training.history)).split(training.config.budget.batch_size)
        return training.splits.train.batches(order[training.place :])

    def _step(self, training: Training, images: Tensor, labels: Tensor) -> None:
        config, step = training.config, training.step
        if config.model.family is Family.custom or config.augment.kind is Augment.custom:
            # Whatever a user's net or augmentation draws from torch's own generator is then stateless too.
            torch.manual_seed(randomness.number(config.seed, "custom", step))
        training.lr.fill_(training.learning_rate(step))
        training.learn(images, labels, randomness.streams(config.seed, step, training.device))
        training.step += 1


class GraphExecutor:
    """Replays CUDA graphs: one of all cells' steps for each batch size, each cell a branch of its own.

    Unverified on a GPU until `make gpu-check` has run on one. A graph that cannot be captured, or whose
    first step is not that of the eager executor, is not used; `Training.not_graph` then says why.
    """

    def __init__(self, capture: Capture | None = None, *, fast: bool = False) -> None:
        """capture: makes of a function what repeats its kernels; fast: these may differ in the last bits."""
        self._capture, self._fast = capture or cuda_capture, fast
        self._eager = EagerExecutor()
        self._branches: list[_Branch] = []
        self._replays: dict[int, Replay] = {}
        self._why_not: dict[int, str] = {}  # why the step of a batch size is not a graph; "" if it is

    def steps(self, trainings: Sequence[Training]) -> Iterator[None]:
        """Take one step of each at each `next`, to the end of the epoch."""
        if why := next(filter(None, (obstacle(training.config) for training in trainings)), ""):
            for training in trainings:
                training.not_graph = why
            yield from self._eager.steps(trainings)
            return
        self._hold(trainings)
        for branch in self._branches:
            branch.load()
        for size in trainings[0].batch_sizes():
            self._replay(size)()
            for training in trainings:
                training.step += 1
            yield
        # While the device works on the queued kernels.
        for branch in self._branches:
            branch.foresee()

    def seconds_per_step(self, trainings: Sequence[Training], *, steps: int = 20) -> float:
        """Return how long a step of all of them takes, and leave them as they were."""
        self._hold(trainings)
        for branch in self._branches:
            branch.load()
            branch.place.zero_()  # a cell that was resumed may stand at the end of its epoch
        config, kept = trainings[0].config, self._kept()
        replay = self._replay(min(config.budget.batch_size, len(trainings[0].splits.train)))
        rounds = []
        for _ in range(3):
            _wait(trainings[0].device)
            started = time.perf_counter()
            for _ in range(steps):
                for branch in self._branches:
                    branch.place.zero_()
                replay()
            _wait(trainings[0].device)
            rounds.append((time.perf_counter() - started) / steps)
        _put_back(kept)
        return min(rounds)

    def _hold(self, trainings: Sequence[Training]) -> None:
        if [branch.training for branch in self._branches] != list(trainings):
            # The graphs first: they read what the branches own.
            self._replays.clear()
            self._why_not.clear()
            self._branches = [_Branch(training) for training in trainings]
        for training in trainings:
            # Scoring leaves it in eval mode, and a graph would keep that.
            training.network.train()
            training.not_graph = ""

    def _replay(self, size: int) -> Replay:
        if size not in self._replays:
            self._replays[size] = self._captured(size)
        if why := self._why_not[size]:
            for branch in self._branches:
                branch.training.not_graph = f"CUDA graph: {why}"
        return self._replays[size]

    def _one_by_one(self, size: int) -> None:
        for branch in self._branches:
            branch.step(size)

    def _side_by_side(self, size: int) -> None:
        streams = [branch.stream for branch in self._branches if branch.stream is not None]
        if len(streams) < 2:
            self._one_by_one(size)
            return
        here = torch.cuda.current_stream()
        # All of them first: one of these may be `here`, and the others must not wait for its step.
        for stream in streams:
            stream.wait_stream(here)
        for branch, stream in zip(self._branches, streams, strict=True):
            with torch.cuda.stream(stream):
                branch.step(size)
        for stream in streams:
            here.wait_stream(stream)

    def _captured(self, size: int) -> Replay:
        """Return the step as a graph if that does what the eager step does, or the eager step."""
        eager, kept = partial(self._one_by_one, size), self._kept()
        try:
            eager()
            wanted = self._kept()
            _put_back(kept)
            replay = self._capture(partial(self._side_by_side, size))
            _put_back(kept)
            replay()
            same = all(map(self._same, wanted, self._kept()))
            why = "" if same else "its first step was not that of the eager executor"
        except Exception as error:  # whatever a kernel may raise that cannot be captured
            first = _first(error)
            if isinstance(first, torch.OutOfMemoryError):
                raise first from None
            why = f"{type(first).__name__}: {(str(first) or 'no message').splitlines()[0]}"
        finally:
            _put_back(kept)
        self._why_not[size] = why
        return eager if why else replay

    def _same(self, a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> bool:
        (_, wanted), (_, got) = a, b
        if self._fast:
            return bool(
                torch.isclose(wanted, got, rtol=0.02, atol=0.02 * float(wanted.abs().max()), equal_nan=True).all()
            )
        return torch.equal(torch.nan_to_num(wanted), torch.nan_to_num(got))

    def _kept(self) -> list[tuple[Tensor, Tensor]]:
        """Return (tensor, its copy) of all that a step changes."""
        return [(tensor, tensor.clone()) for branch in self._branches for tensor in branch.tensors()]


class _Branch:
    """One cell in a graph, with the tables that a replay reads instead of asking the host."""

    def __init__(self, training: Training) -> None:
        self.training = training
        split, device, steps = training.splits.train, training.device, training.steps_per_epoch
        assert isinstance(split, ResidentSplit)
        self._split = split
        self._draws, self._masks = augment_purposes(training.config.augment), dropout_purposes(training.network)
        size = training.config.budget.batch_size
        self.place = torch.zeros(1, dtype=torch.int64, device=device)  # in the epoch, in steps
        self._order = torch.zeros(len(split), dtype=torch.int64, device=device)
        self._rates = torch.zeros(steps, dtype=training.lr.dtype, device=device)
        self._keys = torch.zeros(steps, len(self._masks), dtype=torch.int32, device=device)
        # The bits themselves for what is drawn once for each image: an epoch of them costs as much as a step of them.
        self._bits = torch.zeros(steps, len(self._draws), size, dtype=torch.int32, device=device)
        self._within = torch.arange(size, device=device)
        self._foreseen: tuple[int, _Tables] | None = None
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def load(self) -> None:
        """Fill the tables with the order, learning rates and streams of the current epoch."""
        epoch = len(self.training.history)
        foreseen, self._foreseen = self._foreseen, None
        order, rates, keys = foreseen[1] if foreseen and foreseen[0] == epoch else self._tables(epoch)
        self._order.copy_(order)
        self._rates.copy_(rates)
        count = len(self._draws)
        self._keys.copy_(keys[:, count:])
        self._bits.copy_(randomness.drawn(keys[:, :count].to(self.place.device), self._bits.shape[2]))
        self.place.fill_(self.training.place)

    def foresee(self) -> None:
        """Compute the tables of the next epoch."""
        epoch = len(self.training.history) + 1
        if epoch < self.training.config.budget.epochs:
            self._foreseen = (epoch, self._tables(epoch))

    def _tables(self, epoch: int) -> _Tables:
        training, seed = self.training, self.training.config.seed
        steps = range(epoch * training.steps_per_epoch, (epoch + 1) * training.steps_per_epoch)
        rates = torch.tensor([training.learning_rate(step) for step in steps], dtype=torch.float64)
        keys = [randomness.keys(seed, purpose, steps) for purpose in (*self._draws, *self._masks)]
        table = torch.stack(keys, dim=1) if keys else torch.zeros(len(steps), 0, dtype=torch.int32)
        return training.order(epoch), rates, table

    def step(self, size: int) -> None:
        """Learn from the batch of so many images that comes next. Asks the host nothing."""
        training = self.training
        training.lr.copy_(self._rates.index_select(0, self.place)[0])
        bits, keys = (table.index_select(0, self.place)[0] for table in (self._bits, self._keys))
        streams = dict(zip((*self._draws, *self._masks), (*bits.unbind(), *keys.unbind()), strict=True))
        rows = self._order.index_select(0, self.place * len(self._within) + self._within[:size])
        images, labels = self._split.take(rows)
        training.learn(images, labels, streams.__getitem__)
        self.place.add_(1)

    def tensors(self) -> list[Tensor]:
        """Return all tensors that `step` changes in place."""
        return [*self.training.tensors(), self.place]


def obstacle(config: Config) -> str:
    """Return why a cell's steps cannot be one CUDA graph, "" if they can."""
    if config.model.family is Family.custom:
        return "CUDA graph: model.builder's net may ask the host for something, which a graph would not do again"
    if config.augment.kind is Augment.custom:
        return "CUDA graph: augment.builder's function may ask the host for something, which a graph would not do again"
    if config.data.source is Source.imagenet:
        return "CUDA graph: the images of data=imagenet are not in the GPU's memory"
    return ""


def cuda_capture(step: Replay) -> Replay:
    """Return what repeats the step's kernels. Takes the step once to warm up, no more: it may be an epoch's last."""
    stream, here = torch.cuda.Stream(), torch.cuda.current_stream()
    stream.wait_stream(here)
    with torch.cuda.stream(stream):
        step()
    here.wait_stream(stream)
    graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
    try:
        with torch.cuda.graph(graph, pool=pool, stream=stream):
            step()
    except BaseException:
        # Before torch 2.12 a capture that fails leaves its stream the current one, and its memory pool open.
        torch.cuda.set_stream(here)
        with suppress(Exception):
            torch._C._cuda_endAllocateToPool(here.device_index, pool)
        raise
    return graph.replay


def _first(error: BaseException) -> BaseException:
    """Return the first error: an aborted capture raises further ones."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _put_back(kept: Sequence[tuple[Tensor, Tensor]]) -> None:
    for tensor, copy in kept:
        tensor.copy_(copy)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
