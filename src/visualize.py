"""Draws figures of the features that a trained net's units respond to: `python src/visualize.py --help`."""

import argparse
import dataclasses
import difflib
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from allcnn.config import Config
from allcnn.visualize_options import TAKES, FigureRequest, pair, parse_request
from strive import streams
from strive.cells.find_record import find_record
from strive.cells.records import Status, read_record, record_path
from strive.cli.folders import AskedSweeps, plan_of_overrides
from strive.cli.main import print_error
from strive.config.error_text import complaint
from strive.config.keys import knobs
from strive.config.schema import to_config
from strive.console import CONSOLE
from strive.errors import ConfigError, RecordError, UsageError
from strive.plain_text import printable
from strive.sweeps.plan import StoredPlan, plan_folders

if TYPE_CHECKING:  # torch takes seconds to import, and neither --help nor most errors need it
    from allcnn.attribution.figure import FigureContent
    from allcnn.attribution.trained_cell import TrainedCell

CONF = Path(__file__).resolve().parents[1] / "conf"
_USAGE = "python src/visualize.py cell=ID|sweeps=NAME|weights=FILE [figure=NAME] [KEY=VALUE ...]"
_HELP = """\
Show what the units of a trained net respond to: backpropagation, deconvnet and guided backpropagation
(the paper's section 4), each figure as .png and .pdf, the numbers behind it as .csv, its words as .json.

  python src/visualize.py cell=1a2b3c4d5e                  all figures of one cell: its id, the id's start,
                                                           its last ten digits, or its folder
  python src/visualize.py cell=ID figure=filters           conv1 to conv3, without any image (figure 2)
  python src/visualize.py cell=ID figure=patches layer=conv6 units=8
                                                           top patches, deconvnet, guided (figure 3)
  python src/visualize.py cell=ID figure=methods images=4  three methods, with and without switches (figure 4)
  python src/visualize.py cell=ID figure=sanity            how far to trust the others: their controls, in numbers
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
  out=DIR             default: pictures, in the cell's folder; with weights=FILE a folder next to the file
  data.*, trainer.*   with cell= and sweeps=: where the images lie now, threads"""
_EXIT = """\
exit code: 0; 1 if a cell of a sweep failed, each is named; 2 for a mistake in the command.

The ranking of patches is kept with the figures, and read again for the same weights and images."""
_CELL_KEYS = frozenset(key for key, meaning, _ in knobs(Config()) if not meaning.science)
_NEEDS = "figures are drawn by matplotlib, which is not installed here: pip install -e '.[study]'"


def main(argv: Sequence[str] | None = None) -> int:
    """Make the figures; return the exit code."""
    request = parse_request(_parser().parse_intermixed_args(argv).overrides)
    _check_drawing()
    if request.kind == "sweeps":
        return _make_for_sweep(request)
    _make(_load_cell(_record(request), request) if request.kind == "cell" else _load_weights(request), request)
    return 0


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(usage=_USAGE, description=_HELP, epilog=_EXIT, formatter_class=form)
    parser.add_argument("overrides", nargs="*", help=argparse.SUPPRESS)
    # A launch's option, taken so that its line needs only another file name.
    parser.add_argument("-m", "--multirun", action="store_true", help=argparse.SUPPRESS)
    return parser


def _check_drawing() -> None:
    """Raise ConfigError if drawing is impossible, before anything is computed."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise ConfigError(_NEEDS) from None


def _record(request: FigureRequest) -> Path:
    runs, name = request.runs, request.target
    try:
        return find_record([runs], name)
    except UsageError:
        cells = [path.parent.name for path in runs.glob("*/record.json")]
        close = difflib.get_close_matches(name, [cell for cell in cells if not cell.startswith(name)], n=5)
        if not close or any(cell.startswith(name) for cell in cells):
            raise
        listed = "".join(f"\n  {cell}" for cell in close)
        raise UsageError(f"there is no cell {name} in {runs}; is one of these meant?{listed}") from None


def _load_cell(record: Path, request: FigureRequest) -> "TrainedCell":
    # torch is imported only here, so that --help and most errors appear at once.
    from allcnn.attribution.trained_cell import load_cell

    return load_cell(record, device=request.device, overrides=dict(map(pair, request.overrides)))


def _load_weights(request: FigureRequest) -> "TrainedCell":
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra

    from allcnn.attribution.trained_cell import load_weights
    from strive.sweeps.override_syntax import check_options

    check_options(request.overrides)
    ConfigStore.instance().store(name="schema", node=Config)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = to_config(compose("config", [f"trainer.device={request.device}", *request.overrides]))
    return load_weights(config, Path(request.target))


def _make_for_sweep(request: FigureRequest) -> int:
    """Make the figures of every finished cell of a sweep; return the exit code."""
    runs = request.runs
    plans = plan_folders([runs])
    name = plan_of_overrides(AskedSweeps(folders=[runs], sweeps=[request.target], overrides=request.overrides), plans)
    of_cells = [text for text in request.overrides if pair(text)[0] in _CELL_KEYS]
    request = dataclasses.replace(request, overrides=of_cells)
    cells = list(dict.fromkeys(cell.cell for cell in StoredPlan.read(plans[name]).cells))
    done = [cell for cell in cells if _is_done(record_path(runs, cell))]
    if not done:
        raise ConfigError(f"no cell of {name} is done in {runs}: strive status {name} shows their status")
    if left := len(cells) - len(done):
        CONSOLE.print(f"{left} of {len(cells)} cells are not done, or diverged, and are left out")
    failed = [cell for cell in done if not _try_to_make(record_path(runs, cell), request)]
    if failed:
        print_error(f"{len(failed)} of {len(done)} cells have not all of their figures: {', '.join(failed)}")
    return 1 if failed else 0


def _is_done(path: Path) -> bool:
    try:
        return read_record(path).status is Status.done
    except (FileNotFoundError, NotADirectoryError):
        return False
    except RecordError:
        return True  # drawing will report the error


def _try_to_make(path: Path, request: FigureRequest) -> bool:
    """Make one cell's figures, or print the error; return whether all were made."""
    try:
        cell = _load_cell(path, request)
        out = request.out and request.out / cell.name
        _make(cell, dataclasses.replace(request, out=out))
        return True
    except Exception as error:
        print_error(f"{path.parent.name}: {_user_message(error) or traceback.format_exc()}")
        return False


def _make(cell: "TrainedCell", request: FigureRequest) -> None:
    """Make, draw and write the figures of one trained cell."""
    from allcnn.attribution.figure_image import draw
    from allcnn.training import choose_execution, enter_execution

    enter_execution(choose_execution(cell.config.trainer))
    if request.out is not None:
        cell = dataclasses.replace(cell, folder=request.out)
    try:
        cell.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{cell.folder} cannot be made: {error.strerror}; name another with out=DIR") from None
    about = {"cell": cell.name, "weights_sha256": cell.weights_sha256, "command": request.command}
    for name in request.figures:
        figure = _figure(name, cell, request)
        for path in (*figure.files, *draw(figure, cell.folder, about)):
            print(printable(str(path)), flush=True)


def _figure(name: str, cell: "TrainedCell", request: FigureRequest) -> "FigureContent":
    from allcnn.attribution.figures import filters, methods, patches, sanity

    renamed = {"batch": "batch_size"}
    options = {renamed.get(key, key): value for key, value in request.options.items() if key in TAKES[name]}
    several = len(request.figures) > 1
    match name:
        case "filters":
            # If several figures are made, units=8 is meant for the patches; these filters take only seconds anyway.
            return filters.make(cell, filters.FiltersOptions(**{} if several else options), CONSOLE.print)
        case "patches":
            return patches.make(cell, patches.PatchesOptions(**options), CONSOLE.print)
        case "methods":
            return methods.make(cell, methods.MethodsOptions(**options), CONSOLE.print)
        case _:
            if not isinstance(options.get("images", 0), int):
                options.pop("images")
            with CONSOLE.status("sanity") as status:  # visible only on a terminal
                return sanity.make(cell, sanity.SanityOptions(**options), status.update)


def _user_message(error: BaseException) -> str | None:
    """Return the message for a user's mistake, or None for a bug, which needs its stack trace."""
    # If the module was not imported, the error cannot be from it, and importing torch for the check would take seconds.
    module = sys.modules.get("allcnn.attribution.relu_override")
    if isinstance(error, UsageError) or (module is not None and isinstance(error, module.AttributionError)):
        return str(error)
    if type(error).__name__ == "OutOfMemoryError":
        return f"not enough memory: {str(error).splitlines()[0]}\n  a smaller batch=100 needs less, as does device=cpu"
    return complaint(error)


if __name__ == "__main__":
    streams.guard()
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if (message := _user_message(error)) is None:
            raise
        print_error(message)
        sys.exit(2)
