"""What goes wrong on purpose."""

import re
import threading
from dataclasses import dataclass


@dataclass
class Fault:
    """What is done to the next `times` requests that the pattern finds."""

    pattern: str
    times: int
    status: int = 0  # answered instead; 0: none
    drop: bool = False  # the connection is closed without an answer
    seconds: float = 0  # the answer waits for so long


class Faults:
    """The faults that are still to come; each is used up."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._waiting.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()

    def take(self, request: str) -> Fault | None:
        """Return what shall happen to a request, and count it."""
        with self._lock:
            for fault in self._waiting:
                if fault.times > 0 and re.search(fault.pattern, request, re.DOTALL):
                    fault.times -= 1
                    return fault
        return None
