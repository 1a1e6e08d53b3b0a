"""Trains one cell, or with -m every cell of a grid: `python src/run.py --help`."""

from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore

import strive
from allcnn.config import Config
from strive.app import in_use

CONF = Path(__file__).resolve().parents[1] / "conf"
ConfigStore.instance().store(name="schema", node=Config)


@strive.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(config: Config) -> Any:
    """Train one cell and return its record. Torch is imported only here: --help and tab completion respond at once."""
    return in_use().trainer().run_when_free(config)


if __name__ == "__main__":
    main()
