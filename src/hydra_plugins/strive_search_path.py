"""Makes sweeps/ a group of configs, from any working directory: sweeps=NAME."""

from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

ROOT = Path(__file__).resolve().parents[2]


class StriveSearchPath(SearchPathPlugin):
    """Adds the folder that sweeps/ lies in."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append it: what conf/ has comes first."""
        search_path.append("strive", f"file://{ROOT}")
