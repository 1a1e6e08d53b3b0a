"""Queue of waiting cells; picks the next one for the worker of a slot. Imports no torch."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain

from strive import app
from strive.cells.task import Task
from strive.launch.devices import MAX_ROOM, Slot
from strive.launch.protocol import TrainRequest


class CellQueue:
    """Requests in a row; each slot's worker gets the first one that it can train."""

    def __init__(self, tasks: Iterable[Task], slots: Sequence[Slot]) -> None:
        self._slots = slots
        self._waiting = deque(TrainRequest(task=task) for task in tasks)
        self._refusals: dict[str, dict[int, str]] = {}  # {cell: {slot: why its worker refused it}}
        self._loaded: dict[int, str] = {}  # images that each slot's worker has loaded
        self._alone = set[str]()  # cells that must train alone from now on
        self._rooms: dict[
            tuple[int, str], int
        ] = {}  # most cells at once, by slot and packing key, as workers found out
        self._keys: dict[str, str] = {}  # packing key of each cell

    def __len__(self) -> int:
        """Return how many cells wait."""
        return len(self._waiting)

    # --- in

    def put(self, request: TrainRequest) -> None:
        """Let a cell wait behind the others."""
        self._waiting.append(request)

    def put_back(self, requests: Sequence[TrainRequest]) -> None:
        """Let cells wait in front of the others."""
        self._waiting.extendleft(reversed(requests))

    def keep_alone(self, requests: Iterable[TrainRequest]) -> None:
        """Let each of these cells train alone from now on."""
        self._alone.update(request.task.cell for request in requests)

    def limit(self, number: int, request: TrainRequest, room: int) -> None:
        """Note that a slot's worker has room for so many cells that pack with this one; one can always train."""
        self._rooms[number, self._pack_key(request)] = max(1, min(room, self.room(number, request)))

    def refuse(self, number: int, request: TrainRequest, cause: str) -> None:
        """Let a cell wait for the worker of another slot."""
        self._refusals.setdefault(request.task.cell, {})[number] = cause
        self._waiting.append(request)

    def pop_refused(self, given_up: Collection[int]) -> list[tuple[str, int, str]]:
        """Take out the cells that no worker takes, and return with each a slot and why its worker does not.

        One that started later than the others may refuse alone: it has imported code that was edited since.
        """
        refused = [
            (cell, *next(iter(causes.items())))
            for cell, causes in self._refusals.items()
            if len({*causes, *given_up}) == len(self._slots)
        ]
        for cell, _, _ in refused:
            del self._refusals[cell]
            self._waiting = deque(request for request in self._waiting if request.task.cell != cell)
        return refused

    def forget_images(self, number: int) -> None:
        """Note that a slot has a new worker."""
        self._loaded[number] = ""

    # --- out

    def room(self, number: int, request: TrainRequest) -> int:
        """Return how many cells that pack with this one the slot's worker may have at once, as far as is known."""
        slot, task = self._slots[number], request.task
        # Side by side pays on a GPU: a cell that keeps off it has a process of its own.
        if task.cell in self._alone or (slot.gpus and task.settings.device == "cpu"):
            return 1
        return self._rooms.get((number, self._pack_key(request)), slot.room or MAX_ROOM)

    def has_request_for(self, number: int) -> bool:
        """Return whether there is a request for the slot's worker when it has no cell."""
        return next(self._requests_for(number), None) is not None

    def request_for(self, number: int, held: Sequence[TrainRequest]) -> TrainRequest | None:
        """Return the next request for a worker that holds others already; it stays in the row until `take`."""
        requests = self._requests_for(number)
        if held:
            if len(held) >= self.room(number, held[0]):
                return None
            key = self._pack_key(held[0])
            return next(
                (each for each in requests if self._pack_key(each) == key and self.room(number, each) > 1), None
            )
        first = next(requests, None)
        if first is None:
            return None
        # Images that the worker has need not be loaded again.
        loaded = self._loaded[number]
        return next(
            (each for each in chain((first,), requests) if app.in_use().data_key(each.task.flat) == loaded), first
        )

    def take(self, number: int, request: TrainRequest) -> None:
        """Take the request out of the row, for the slot's worker."""
        self._waiting.remove(request)
        self._loaded[number] = app.in_use().data_key(request.task.flat)

    def _requests_for(self, number: int) -> Iterator[TrainRequest]:
        return (request for request in self._waiting if number not in self._refusals.get(request.task.cell, ()))

    def _pack_key(self, request: TrainRequest) -> str:
        cell = request.task.cell
        if cell not in self._keys:
            self._keys[cell] = app.in_use().pack_key(request.task.flat)
        return self._keys[cell]
