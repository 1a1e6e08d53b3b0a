"""What a trained net's units respond to, as figures: `python src/visualize.py --help`."""

import argparse
import dataclasses
import difflib
import re
import shlex
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strive.complaint import complaint
from strive.config import Config, ConfigError, DeviceChoice, knobs, to_config
from strive.progress import CONSOLE
from strive.records import RecordError, Status, read_record, record_path
from strive.reproduction import find_record
from strive.sweeping.named import UsageError, wanted
from strive.sweeping.plan import StoredPlan, sweep_folder
from strive.sweeping.view import printable

if TYPE_CHECKING:  # torch takes seconds to import, and --help and most errors need none of it
    from strive.attribution.figure import Figure
    from strive.attribution.subject import Subject

CONF = Path(__file__).resolve().parents[1] / "conf"
_HELP = """\
Show what the units of a trained net respond to: backpropagation, deconvnet and guided backpropagation
(the paper's section 4), each figure as .png and .pdf, the numbers behind it as .csv, its words as .json.

  python src/visualize.py cell=1a2b3c4d5e                  all figures of one cell: its id, the id's start,
                                                           its last ten digits, or its folder
  python src/visualize.py cell=ID figure=filters           conv1 to conv3, without any image (figure 2)
  python src/visualize.py cell=ID figure=patches layer=conv6 units=8
                                                           top patches, deconvnet, guided (figure 3)
  python src/visualize.py cell=ID figure=methods images=4  three methods, with and without switches (figure 4)
  python src/visualize.py cell=ID figure=sanity            what the others are worth: their controls, in numbers
  python src/visualize.py cell=ID runs=results data.root=DIR    records, and images, in other folders
  python src/visualize.py sweeps=table3 figure=patches     every finished cell of a sweep, as it was launched
  python src/visualize.py weights=net.pt data=imagenet data.root=DIR model=extra/custom \\
      model.builder=package.module:function                any net: a state dict, and what src/run.py takes

options, of the figures in brackets
  figure=all          filters, patches, methods, sanity or all
  layer=NAME          [patches] conv6 where there is one, else the convolution in the middle
  units=8             [patches] so many channels; units=3,17,40 are these, units=17, is one
                      [filters] likewise of each layer, with figure=filters alone; by default all
  top=10              [patches] patches of each unit
  split=test          [patches, sanity] test, val or train
  images=4            [methods, sanity] so many images; [methods] images=12,55 are these test images
  score_images=96     [sanity] images that the numbers are means over
  seeds=5             [sanity] draws of fresh weights
  seed=0              [methods] of the control's random weights; with sweeps= it is the launch's
  batch=250           images in a forward pass
  device=auto         or cpu, cuda
  out=DIR             default: pictures, in the cell's folder; with weights=FILE a folder beside the file
  data.*, trainer.*   with cell= and sweeps=: where the images lie now, threads"""
_EXIT = """\
exit code: 0; 1 if a cell of a sweep failed, each is named; 2 for a mistake in the command.

The ranking of patches is kept beside the figures, and read again for the same weights and images."""
_FIGURES = ("filters", "patches", "methods", "sanity")
_SUBJECTS = ("cell", "sweeps", "weights")
_COMMON = ("figure", "runs", "out", "device")
_TAKES = {
    "filters": ("units",),
    "patches": ("layer", "units", "top", "split", "batch"),
    "methods": ("images", "seed", "batch"),
    "sanity": ("images", "score_images", "seeds", "split"),
}
_OPTIONS = tuple(dict.fromkeys(key for keys in _TAKES.values() for key in keys))
_SPLITS = ("train", "val", "test")
_CELL_KEYS = frozenset(key for key, meaning, _ in knobs(Config()) if not meaning.science)
_NEEDS = "figures are drawn by matplotlib, which is not installed here: pip install -e '.[analysis]'"

Value = Any  # int, str, or tuple of int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wish:
    """What is asked for, of each subject alike."""

    figures: tuple[str, ...]
    options: dict[str, Value]  # of the figures
    overrides: list[str]  # of the config, as they were typed
    device: str
    out: Path | None
    command: str


def main(argv: Sequence[str] | None = None) -> int:
    """Make the figures; return the exit code."""
    texts = _parser().parse_intermixed_args(argv).overrides
    given = dict(_pair(text) for text in texts)
    kind = _subject_kind(given)
    wish = _wish(kind, given, texts)
    _check_drawing()
    runs = Path(given.get("runs", "runs"))
    if kind == "sweeps":
        return _each(runs, given["sweeps"], wish)
    _make(_cell(_record(runs, given["cell"]), wish) if kind == "cell" else _weights(given["weights"], wish), wish)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        usage="python src/visualize.py cell=ID|sweeps=NAME|weights=FILE [figure=NAME] [KEY=VALUE ...]",
        description=_HELP,
        epilog=_EXIT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", help=argparse.SUPPRESS)
    # So that a launch's line needs only another file name.
    parser.add_argument("-m", "--multirun", action="store_true", help=argparse.SUPPRESS)
    return parser


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals and not text.startswith("~"):
        raise ConfigError(f"{text} is no KEY=VALUE; is cell={text} meant?")
    return key, value.strip("'\"") if key in (*_SUBJECTS, *_COMMON, *_OPTIONS) else value


def _subject_kind(given: Mapping[str, str]) -> str:
    kinds = [key for key in _SUBJECTS if key in given]
    if len(kinds) != 1:
        raise ConfigError(
            f"give one of cell=ID, sweeps=NAME or weights=FILE, got {' and '.join(kinds) or 'none'};"
            " python src/visualize.py --help shows how"
        )
    return kinds[0]


def _wish(kind: str, given: Mapping[str, str], texts: Sequence[str]) -> _Wish:
    """Return what is asked for; raise ConfigError for what is not legal, before anything is loaded."""
    _check_keys(kind, given)
    figure, device, out = given.get("figure", "all"), given.get("device", "auto"), given.get("out", "")
    _check_choice("figure", figure, (*_FIGURES, "all"))
    _check_choice("device", device, tuple(DeviceChoice))
    figures = _FIGURES if figure == "all" else (figure,)
    # seed=0,1 of a sweep is the launch's, whose overrides name the plan.
    keys = [key for key in _OPTIONS if key in given and not (kind == "sweeps" and key == "seed")]
    for key in keys:
        if not any(key in _TAKES[name] for name in figures):
            raise ConfigError(
                f"{key}={given[key]} has no effect on figure={figure}, which takes {', '.join(_TAKES[figure])}"
            )
    if out and Path(out).exists() and not Path(out).is_dir():
        raise ConfigError(f"out={out} is a file; name a folder for the figures")
    own = {*_SUBJECTS, *_COMMON, *keys}
    return _Wish(
        figures=figures,
        options={key: _value(key, given[key], figure) for key in keys},
        overrides=[text for text in texts if text.partition("=")[0] not in own],
        device=device,
        out=Path(out) if out else None,
        command=f"python src/visualize.py {shlex.join(texts)}",
    )


def _check_keys(kind: str, given: Mapping[str, str]) -> None:
    """Raise ConfigError for an option that nobody knows; what is below a group is the config's business."""
    known = [*_SUBJECTS, *_COMMON, *_OPTIONS]
    groups = [] if kind == "cell" else [item.name for item in dataclasses.fields(Config)]
    for key in given:
        if key in (*known, *groups) or re.search(r"[./+~@]", key):
            continue
        close = difflib.get_close_matches(key, known, n=3)
        meant = f"; is {' or '.join(close)} meant?" if close else ""
        why = ": a cell is what its record says" if key in {item.name for item in dataclasses.fields(Config)} else ""
        raise ConfigError(f"there is no option {key} with {kind}={why}{meant}\n  options: {', '.join(known)}")


def _check_choice(key: str, got: str, legal: Sequence[str]) -> None:
    if got not in legal:
        close = difflib.get_close_matches(got, legal, n=1)
        meant = f"; is {close[0]} meant?" if close else ""
        raise ConfigError(f"{key} must be one of {', '.join(legal)}, got {got!r}{meant}")


def _value(key: str, text: str, figure: str) -> Value:
    """Return the option's value, or raise ConfigError with what is legal."""
    if key == "layer":
        return text
    if key == "split":
        _check_choice(key, text, _SPLITS)
        return text
    listed = key in ("units", "images") and figure != "sanity"
    numbers = [part.strip() for part in text.strip("[]()").split(",")]
    if listed and "," in text and numbers[-1] == "":
        numbers.pop()  # units=17, is one unit
    if not all(re.fullmatch(r"[0-9]{1,9}", part) for part in numbers) or (len(numbers) > 1 and not listed):
        several = f", or numbers such as {key}=3,17,40" if listed else ""
        raise ConfigError(f"{key} must be a whole number{several}, got {text!r}")
    if listed and "," in text:
        if len(set(map(int, numbers))) < len(numbers):
            raise ConfigError(f"{key}={text} names one of them twice")
        return tuple(map(int, numbers))
    if int(numbers[0]) < (0 if key == "seed" else 1):
        raise ConfigError(f"{key} must be 1 or more, got {text}")
    return int(numbers[0])


def _check_drawing() -> None:
    """Raise ConfigError where nothing could be drawn, before anything is computed."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise ConfigError(_NEEDS) from None


def _record(runs: Path, name: str) -> Path:
    try:
        return find_record(runs, name)
    except ConfigError:
        cells = [path.parent.name for path in runs.glob("*/record.json")]
        close = difflib.get_close_matches(name, [cell for cell in cells if not cell.startswith(name)], n=5)
        if not close or any(cell.startswith(name) for cell in cells):
            raise
        listed = "".join(f"\n  {cell}" for cell in close)
        raise ConfigError(f"there is no record of {name} in {runs}; is one of these meant?{listed}") from None


def _cell(record: Path, wish: _Wish) -> "Subject":
    # torch is imported only here: --help and most errors answer at once.
    from strive.attribution.subject import cell_subject

    return cell_subject(record, device=wish.device, overrides=dict(map(_pair, wish.overrides)))


def _weights(path: str, wish: _Wish) -> "Subject":
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra

    from strive.attribution.subject import weights_subject

    ConfigStore.instance().store(name="schema", node=Config)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = to_config(compose("config", [f"trainer.device={wish.device}", *wish.overrides]))
    return weights_subject(config, Path(path))


def _each(runs: Path, sweep: str, wish: _Wish) -> int:
    """Make the figures of every cell of a sweep that is done; return the exit code."""
    name = wanted(runs, [*wish.overrides, f"sweeps={sweep}"])
    wish = dataclasses.replace(wish, overrides=[text for text in wish.overrides if _pair(text)[0] in _CELL_KEYS])
    cells = list(dict.fromkeys(cell.cell for cell in StoredPlan.read(sweep_folder(runs, name)).cells))
    done = [cell for cell in cells if _is_done(record_path(runs, cell))]
    if not done:
        raise ConfigError(
            f"no cell of {name} is done in {runs}: python src/status.py sweeps={name} says how they stand"
        )
    if left := len(cells) - len(done):
        CONSOLE.print(f"{left} of {len(cells)} cells are not done, or diverged, and are left out")
    failed = [cell for cell in done if not _made(record_path(runs, cell), wish)]
    if failed:
        _complain(f"{len(failed)} of {len(done)} cells have not all of their figures: {', '.join(failed)}")
    return 1 if failed else 0


def _is_done(path: Path) -> bool:
    try:
        return read_record(path).status is Status.done
    except (FileNotFoundError, NotADirectoryError):
        return False
    except RecordError:
        return True  # which then says what is wrong with it


def _made(path: Path, wish: _Wish) -> bool:
    """Make one cell's figures, or say what is wrong; return whether all are made."""
    try:
        subject = _cell(path, wish)
        out = wish.out and wish.out / subject.name
        _make(subject, dataclasses.replace(wish, out=out))
        return True
    except Exception as error:
        _complain(f"{path.parent.name}: {_told(error) or traceback.format_exc()}")
        return False


def _make(subject: "Subject", wish: _Wish) -> None:
    """Make, draw and write the figures of one subject."""
    from strive.attribution.grid import draw
    from strive.training import choose_execution, enter_execution

    enter_execution(choose_execution(subject.config.trainer))
    if wish.out is not None:
        subject = dataclasses.replace(subject, folder=wish.out)
    try:
        subject.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{subject.folder} cannot be made: {error.strerror}; name another with out=DIR") from None
    about = {"cell": subject.name, "weights_sha256": subject.weights_sha256, "command": wish.command}
    for name in wish.figures:
        figure = _figure(name, subject, wish)
        for path in (*figure.files, *draw(figure, subject.folder, about)):
            print(printable(str(path)), flush=True)


def _figure(name: str, subject: "Subject", wish: _Wish) -> "Figure":
    from strive.attribution.figures import filters, methods, patches, sanity

    renamed = {"batch": "batch_size"}
    options = {renamed.get(key, key): value for key, value in wish.options.items() if key in _TAKES[name]}
    several = len(wish.figures) > 1
    match name:
        case "filters":
            # units=8 of all figures together are those of the patches: these filters are a matter of seconds.
            return filters.make(subject, filters.Options(**{} if several else options), CONSOLE.print)
        case "patches":
            return patches.make(subject, patches.Options(**options), CONSOLE.print)
        case "methods":
            return methods.make(subject, methods.Options(**options), CONSOLE.print)
        case _:
            if not isinstance(options.get("images", 0), int):
                options.pop("images")
            with CONSOLE.status("sanity") as status:  # seen on a terminal alone
                return sanity.make(subject, sanity.Options(**options), status.update)


def _told(error: BaseException) -> str | None:
    """Return what to tell the user, or None if the error is ours and needs its stack trace."""
    # Where torch was not imported yet there is no such error, and telling another does not wait for it.
    module = sys.modules.get("strive.attribution.overriding")
    if isinstance(error, UsageError) or (module is not None and isinstance(error, module.AttributionError)):
        return str(error)
    if type(error).__name__ == "OutOfMemoryError":
        return f"not enough memory: {str(error).splitlines()[0]}\n  a smaller batch=100 needs less, as does device=cpu"
    return complaint(error)


def _complain(text: str) -> None:
    print("error: " + "\n".join(map(printable, text.splitlines())), file=sys.stderr)


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        # Not every terminal can write every name.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if (told := _told(error)) is None:
            raise
        _complain(told)
        sys.exit(2)
