"""Trains one cell, or with -m every cell of a grid: `python src/run.py --help`."""

import os
import sys
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from allcnn.config import Config
from strive import signals, streams
from strive.config.error_text import complaint
from strive.config.schema import to_config
from strive.errors import CellsFailedError, ConfigError, StoppedError
from strive.sweeps.override_syntax import check_options

CONF = Path(__file__).resolve().parents[1] / "conf"
ConfigStore.instance().store(name="schema", node=Config)


# Options with which Hydra does something other than training one cell.
OTHER_MODES = {"-m", "--multirun", "-c", "--cfg", "-i", "--info", "-sc", "--shell-completion", "-h", "--help", "--run"}

# Errors that main raised for a single cell, stored because Hydra would print an additional line for them.
raised: list[Exception] = []


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(composed: DictConfig) -> None:
    """Compose, check and train."""
    try:
        if any(text.startswith("sweeps=") for text in HydraConfig.get().overrides.task):
            raise ConfigError("sweeps=NAME is many cells: add -m")
        config = to_config(composed)
        # torch is imported only here, so that --help and tab completion respond at once.
        from allcnn.builder_arguments import as_recorded
        from allcnn.cells import run_when_free
        from strive.config import identity
        from strive.console import CONSOLE
        from strive.trackers.session import UploadSession

        # From here on a signal stops the cell gracefully, between two steps, with a checkpoint.
        signals.listen()
        config = as_recorded(config)
        runs, cell = Path(config.runs), identity.cell_id(config)
        with UploadSession(runs, config.tracker.kind, log=runs / cell / "wandb.log", say=CONSOLE.print) as session:
            session.show([cell])
            record = run_when_free(config)
        if not record.status.finished:
            raise CellsFailedError(f"{record.cell} has no result; see {config.runs}/{record.cell}/log.txt")
    except Exception as error:
        raised.append(error)


def _checked_overrides() -> None:
    """Move the overrides after the options, as Hydra requires; raise ConfigError for text on which Hydra fails."""
    parser = get_args_parser()
    parser.usage = "python src/run.py [-m] [KEY=VALUE ...] (--help: all of them)"  # keeps the error short
    options = parser.parse_intermixed_args()
    modes = (options.run, options.multirun, options.cfg, options.info, options.shell_completion)
    if sum(each not in (None, False) for each in modes) > 1:
        raise ConfigError(
            "give one of -m, --cfg, --info, --run and --shell-completion; each is all that a command does"
        )
    overrides = options.overrides
    sys.argv[1:] = [*(text for text in sys.argv[1:] if text not in overrides), *overrides]
    check_options(overrides)


if __name__ == "__main__":
    streams.guard()
    # Otherwise Hydra exits itself, after a stack trace or an error without the legal values.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    if any(text.startswith("sweeps=") for text in sys.argv) and not OTHER_MODES & set(sys.argv):
        # A sweep has many cells, so the user must have meant -m.
        sys.argv.insert(1, "-m")
    try:
        _checked_overrides()
        main()
        for error in raised:
            raise error
    except StoppedError as error:
        print(f"{error}\nthe same command goes on from there", file=sys.stderr)
        sys.exit(130)
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command goes on from the last checkpoint, if there is one yet")
    except CellsFailedError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        text = complaint(error)
        if text is None:
            raise
        print(f"error: {text}", file=sys.stderr)
        sys.exit(2)
