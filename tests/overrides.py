"""Hydra's own grammar, for tests of sweep files."""

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from support import ROOT

# With a loader, so that it knows the options that a glob matches.
_PARSER = OverridesParser.create(config_loader=ConfigLoaderImpl(create_config_search_path(str(ROOT / "conf"))))


def parsed(text: str) -> Override:
    (override,) = _PARSER.parse_overrides([text])
    return override


def expand(text: str) -> list[str]:
    """Return the "key=value" strings that Hydra makes of one override."""
    override = parsed(text)
    if not override.is_sweep_override():
        return [text]
    if not override.is_discrete_sweep():
        raise HydraException("an interval cannot be enumerated")
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
