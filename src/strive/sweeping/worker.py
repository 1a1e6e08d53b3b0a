"""A process that trains the cells it is given, one after the other.

`python -m strive.sweeping.worker FD THREADS GPU`: orders come on stdin, answers go to the file
descriptor FD; what a net prints goes to stdout and stderr, as everywhere. When its stdin ends the
worker leaves, also in the middle of a cell, which then has a checkpoint.
"""

import ctypes
import gc
import os
import queue
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from strive import stop

# First of all: a signal during the seconds that torch takes to load is a wish too.
stop.listen()

import torch  # noqa: E402

from strive import identity  # noqa: E402
from strive.cell import run_cell  # noqa: E402
from strive.claim import ClaimedError, LostClaimError  # noqa: E402
from strive.code_hash import code_hash  # noqa: E402
from strive.config import Config, ConfigError  # noqa: E402
from strive.networks import builder_file  # noqa: E402
from strive.records import Record, RecordError, Status  # noqa: E402
from strive.sweeping.messages import Answer, Kind, Order  # noqa: E402
from strive.training import LAYOUT, choose_execution, device_name  # noqa: E402

# A net that hangs when the launcher has died must not stay for ever. Long enough for a test split.
_GRACE_SECONDS = 300.0

_Orders = queue.SimpleQueue[Order | None]


def main(answers: int, threads: int, gpu: str) -> None:
    """Train what stdin orders until it ends.

    answers: file descriptor to answer on. threads: for cells that do not say how many they take.
    gpu: what CUDA_VISIBLE_DEVICES was set to for this process; "" is none.
    """
    # What a net starts has nothing to say there.
    os.set_inheritable(answers, False)
    orders = _Orders()
    threading.Thread(target=_listen, args=(_own_stdin(), orders), name="orders", daemon=True).start()
    code_hash()  # of the code that was just imported; what is edited later does not count
    if gpu and not torch.cuda.is_available():
        # It would train its cells on the processor, in silence.
        sys.exit(f"torch {torch.__version__} cannot use GPU {gpu}; trainer.device=cpu trains without GPUs")
    with open(answers, "wb") as pool:
        _say(pool, Answer(kind=Kind.ready))
        while (order := orders.get()) is not None:
            answer = _train(order, threads, pool)
            _say(pool, answer)
            if answer.leaves:
                return
            _tidy()


def _own_stdin() -> int:
    """Return where orders come from, out of reach of a net that reads stdin."""
    own = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return own


def _listen(source: int, orders: _Orders) -> None:
    try:
        with open(source, "rb") as lines:
            for line in lines:
                orders.put(Order.from_json(line))
    finally:
        stop.request("the end of its launcher")
        orders.put(None)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)


def _say(pool: BinaryIO, answer: Answer) -> None:
    try:
        pool.write((answer.to_json() + "\n").encode())
        pool.flush()
    except OSError:  # nobody listens any more
        stop.request("the end of its launcher")


def _train(order: Order, threads: int, pool: BinaryIO) -> Answer:
    cell = order.task.cell
    if stop.requested():
        return Answer(kind=Kind.stopped, cell=cell, cause=stop.requested(), leaves=True)
    try:
        config = _config(order, threads)
        _say(pool, Answer(kind=Kind.began, cell=cell, seen=_seen(config)))
        print(f"--- {cell}", flush=True)
        _forget_peak_memory()
        return _ended(run_cell(config, replaces=order.task.replaces, fence=order.fence))
    except (_RefusedError, RecordError) as error:
        return Answer(kind=Kind.refused, cell=cell, cause=_line(error))
    except (ClaimedError, LostClaimError) as error:
        return Answer(kind=Kind.owned, cell=cell, cause=_line(error))
    except (stop.StoppedError, KeyboardInterrupt) as error:
        return Answer(kind=Kind.stopped, cell=cell, cause=stop.requested() or _line(error), leaves=True)
    except BaseException as error:
        # One cell's trouble, even a sys.exit or a fault of ours, must not cost the others.
        text = traceback.format_exc()
        print(text, file=sys.stderr, flush=True)
        cause = _line(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {_line(error)}"
        return Answer(kind=Kind.crashed, cell=cell, cause=cause, traceback=text, leaves=torch.cuda.is_initialized())


def _ended(record: Record) -> Answer:
    if record.failure is None:
        return Answer(kind=Kind.ended, cell=record.cell, status=record.status)
    # After some errors no later call on the GPU succeeds in this process.
    spoilt = record.status is Status.out_of_memory or torch.cuda.is_initialized()
    return Answer(kind=Kind.ended, cell=record.cell, status=record.status, cause=record.failure.cause, leaves=spoilt)


class _RefusedError(Exception):
    """This process is not the one to train the cell."""


def _config(order: Order, threads: int) -> Config:
    """Return the cell's config, or raise _RefusedError if what would be trained is not what was launched."""
    task = order.task
    try:
        config = identity.config_of(task.config)
    except ConfigError as error:
        raise _RefusedError(f"its frozen config is not one of this version of strive: {_line(error)}") from None
    if (cell := identity.cell_id(config)) != task.cell:
        raise _RefusedError(
            f"its frozen config is that of {cell} in this version of strive; launch the sweep again with this version"
        )
    here = code_hash(builder_file(config.model))
    if task.code and here != task.code:
        raise _RefusedError(
            f"it was launched with code {task.code}, but this process has imported code {here} from"
            f" {Path(identity.__file__).parent}; launch the sweep again to train with that"
        )
    config.trainer.threads = config.trainer.threads or threads
    config.trainer.progress = False  # the launcher shows all cells together
    return config


def _seen(config: Config) -> dict[str, str | int]:
    return {
        "device": device_name(choose_execution(config.trainer).device),
        "threads": config.trainer.threads,
        "layout": LAYOUT,
        "torch": str(torch.__version__),
        "code_hash": code_hash(builder_file(config.model)),
    }


def _tidy() -> None:
    """Give the memory of the last cell's net back, for what trains beside this process."""
    if torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
    # Not every C library has it. Without it the process keeps all that a cell has freed (training.execution).
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _forget_peak_memory() -> None:
    # Otherwise a small cell's record would show the memory of a large one trained before it here.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _line(error: BaseException) -> str:
    return (str(error) or "no message").splitlines()[0]


if __name__ == "__main__":
    main(answers=int(sys.argv[1]), threads=int(sys.argv[2]), gpu=sys.argv[3])
