"""The cells that wait, and which of them the worker of a slot may be given. Imports no torch."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain

from strive import app
from strive.launch.devices import MAX_ROOM, Slot
from strive.launch.protocol import Order
from strive.launch.task import Task


class Offer:
    """Orders in a row; each slot's worker takes the first one that it can use."""

    def __init__(self, tasks: Iterable[Task], slots: Sequence[Slot]) -> None:
        self._slots = slots
        self._queue = deque(Order(task=task) for task in tasks)
        self._refusals: dict[str, dict[int, str]] = {}  # why the workers of which slots refused which cell
        self._loaded: dict[int, str] = {}  # what images each slot's worker has
        self._alone = set[str]()  # cells that nothing may train beside any more
        self._rooms: dict[tuple[int, str], int] = {}  # most cells at once of a kind, where a slot's worker found out
        self._kinds: dict[str, str] = {}  # of each cell: what it shares with those that it can train beside

    def __len__(self) -> int:
        """Return how many cells wait."""
        return len(self._queue)

    # --- what comes in

    def put(self, order: Order) -> None:
        """Let a cell wait behind the others."""
        self._queue.append(order)

    def put_back(self, orders: Sequence[Order]) -> None:
        """Let cells wait in front of the others."""
        self._queue.extendleft(reversed(orders))

    def keep_alone(self, orders: Iterable[Order]) -> None:
        """Let nothing train beside these cells from now on."""
        self._alone.update(order.task.cell for order in orders)

    def limit(self, number: int, order: Order, room: int) -> None:
        """Note that a slot's worker has room for so many cells of this kind; one can always train."""
        self._rooms[number, self._kind(order)] = max(1, min(room, self.room(number, order)))

    def refuse(self, number: int, order: Order, cause: str) -> None:
        """Let a cell wait for the worker of another slot."""
        self._refusals.setdefault(order.task.cell, {})[number] = cause
        self._queue.append(order)

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
            self._queue = deque(order for order in self._queue if order.task.cell != cell)
        return refused

    def forget_images(self, number: int) -> None:
        """Note that a slot has a new worker."""
        self._loaded[number] = ""

    # --- what goes out

    def room(self, number: int, order: Order) -> int:
        """Return how many cells of this kind the slot's worker may have at once, as far as is known."""
        slot, task = self._slots[number], order.task
        # Side by side pays on a GPU: a cell that keeps off it has a process of its own.
        if task.cell in self._alone or (slot.gpu and task.config["trainer.device"] == "cpu"):
            return 1
        return self._rooms.get((number, self._kind(order)), slot.room or MAX_ROOM)

    def has_order_for(self, number: int) -> bool:
        """Return whether there is something to do for the slot's worker when it has no cell."""
        return next(self._orders_for(number), None) is not None

    def order_for(self, number: int, held: Sequence[Order]) -> Order | None:
        """Return what the slot's worker may be given beside what it has; it stays in the row until `take`."""
        orders = self._orders_for(number)
        if held:
            if len(held) >= self.room(number, held[0]):
                return None
            kind = self._kind(held[0])
            return next((each for each in orders if self._kind(each) == kind and self.room(number, each) > 1), None)
        first = next(orders, None)
        if first is None:
            return None
        # Images that the worker has need not be loaded again.
        loaded = self._loaded[number]
        return next(
            (each for each in chain((first,), orders) if app.current().data_key(each.task.config) == loaded), first
        )

    def take(self, number: int, order: Order) -> None:
        """Take the order out of the row, for the slot's worker."""
        self._queue.remove(order)
        self._loaded[number] = app.current().data_key(order.task.config)

    def _orders_for(self, number: int) -> Iterator[Order]:
        return (order for order in self._queue if number not in self._refusals.get(order.task.cell, ()))

    def _kind(self, order: Order) -> str:
        cell = order.task.cell
        if cell not in self._kinds:
            self._kinds[cell] = app.current().pack_key(order.task.config)
        return self._kinds[cell]
