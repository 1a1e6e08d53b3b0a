"""Trains one cell again from its record and compares the numbers: `python src/reproduce.py --help`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from allcnn.config import Config
from strive import signals, streams
from strive.cells import records
from strive.cells.records import Record
from strive.cells.reproduce import find_record, foreseen, repeated, verdict, without_result
from strive.cli import complain
from strive.config.error_text import complaint
from strive.errors import ConfigError, LeasedError, LostLeaseError, RecordError, StoppedError
from strive.plain_text import printable

_HELP = """\
Train one cell again from its record, and say whether its numbers agree to the last bit.

  python src/reproduce.py all_cnn_c-cifar10-none-lr0.05-s0-1a2b3c4d5e
  python src/reproduce.py 1a2b3c4d5e                the id's last ten digits, or its start, or runs/ID
  python src/reproduce.py ID runs=results           the record is in another folder
  python src/reproduce.py ID data.root=DIR          the images have moved; data.download and trainer.* can be
                                                    set, too

The cell trains with the threads, the compilation and, where it is to be had, the device of the record:
these decide the last bits. An interrupted command goes on from its checkpoint. A record of an earlier
reproduction is kept beside the new one, as record-1.json and so on."""
_EXIT = "exit code: 0 if the result is identical, 1 if it is not, 2 if there is nothing to compare, 130 if stopped."


def main() -> int:
    """Train, compare and print the differences; return the exit code."""
    options = _parser().parse_intermixed_args()
    if not options.cell or "=" in options.cell:
        raise ConfigError(f"{options.cell or 'nothing'} names no cell; give its id, or the start of it, first")
    runs, overrides = _split(options.overrides)
    into = options.into or runs / "reproduced"
    first = find_record(runs, options.cell)
    record = records.read_record(first)
    if record.failure is not None:
        raise RecordError(without_result(record))
    again = records.record_path(into, record.cell)
    if again.resolve() == first.resolve():
        raise ConfigError(f"--into={into} is where the record lies that would be compared with; name another folder")
    if not (options.keep and again.exists()):
        _train(record, repeated(record, into, overrides), again)
    same, lines = verdict(first, again)
    print("\n".join(map(printable, lines)))
    return 0 if same else 1


def _train(record: Record, config: Config, again: Path) -> None:
    # torch is imported only here, so that --help and errors appear at once.
    from allcnn.cells import run_cell

    differences = foreseen(record, config)
    print(f"trains {record.cell} again, into {config.runs}", file=sys.stderr)
    if differences:
        print("\n".join(["not as it was, so the last bits may differ:", *differences]), file=sys.stderr)
    signals.listen()
    run_cell(config, replaces=records.file_hash(again) if again.exists() else "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        usage="python src/reproduce.py CELL [runs=DIR] [KEY=VALUE ...] [--into DIR] [--keep]",
        description=_HELP,
        epilog=_EXIT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cell", help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help="folder for the new record (default: reproduced, in the runs folder)")
    parser.add_argument("--keep", action="store_true", help="if it was trained again before, only compare with that")
    return parser


def _split(texts: Sequence[str]) -> tuple[Path, dict[str, str]]:
    """Return the runs folder and {key: value} of the other overrides."""
    runs, overrides = Path("runs"), {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{text} is no KEY=VALUE; one cell at a time")
        if key == "runs":
            runs = Path(value)
        else:
            overrides[key] = value
    return runs, overrides


def _run() -> int:
    try:
        return main()
    except StoppedError as error:
        print(f"{error}; the same command goes on from there", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last checkpoint, if there is one yet", file=sys.stderr)
        return 130
    except (LeasedError, LostLeaseError) as error:
        return _fail(str(error))
    except Exception as error:
        text = complaint(error)
        if text is None:
            raise
        return _fail(text)


def _fail(text: str) -> int:
    complain(text)
    return 2


if __name__ == "__main__":
    streams.guard()
    sys.exit(_run())
