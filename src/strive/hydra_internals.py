"""The private pieces of Hydra and OmegaConf that the platform uses, in one place: what a new version may break."""

import argparse
import copy
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from hydra._internal import utils
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, Node, OmegaConf, open_dict, read_write
from omegaconf.grammar.gen.OmegaConfGrammarParser import OmegaConfGrammarParser
from omegaconf.grammar_parser import parse

try:
    from omegaconf._utils import get_yaml_loader as yaml_loader
except ImportError:  # OmegaConf 2.4
    from omegaconf._yaml import get_yaml_loader as yaml_loader  # type: ignore[import-not-found, no-redef]

__all__ = [
    "apply_overrides",
    "as_change",
    "before_report",
    "group_names",
    "hydra_config",
    "hydra_node",
    "is_group",
    "node_of",
    "parsed_arguments",
    "parsed_overrides",
    "reads_config",
    "replace_multirun",
    "resolvers",
    "run_as_job",
    "set_values",
    "with_number",
    "without_hydra",
    "yaml_loader",
]

AtMain = Callable[[TaskFunction, ConfigLoader], None]


def parsed_arguments(usage: str) -> argparse.Namespace:
    """Return the arguments of this process as Hydra reads them, its overrides on either side of its options.

    usage: shown where they cannot be read.
    """
    parser = get_args_parser()
    parser.usage = usage
    return parser.parse_intermixed_args()


def is_group(loader: ConfigLoader, name: str) -> bool:
    """Return whether a name is a config group of the app, whose options an override chooses."""
    return bool(loader.repository.group_exists(name))  # type: ignore[attr-defined]


def group_names(loader: ConfigLoader) -> list[str]:
    """Return the config groups of the app, such as model and model/head, without Hydra's own."""
    repository, found, waiting = loader.repository, [], [""]  # type: ignore[attr-defined]
    while waiting:
        group = waiting.pop()
        for name in repository.get_group_options(group, ObjectType.GROUP):
            whole = f"{group}/{name}" if group else str(name)
            if whole != "hydra" and whole not in found:
                found.append(whole)
                waiting.append(whole)
    return found


def with_number(override: Override, text: str, number: int) -> Override:
    """Return what the parser would make of another text of the same key, whose value is this number."""
    return dataclasses.replace(override, _value=number, input_line=text)


def as_change(override: Override) -> Override:
    """Return what sets the value of a key that is there, of an override that may add the key."""
    return dataclasses.replace(override, type=OverrideType.CHANGE)


def before_report(handle: Callable[[Exception], None]) -> None:
    """Have an error handled before Hydra reports it by a stack trace and exit code 1, which it does if this returns."""
    report = getattr(utils, "run_and_report", None)
    if report is None:  # a version without it words its own errors
        return

    def reported(func: Any) -> Any:
        def handled() -> Any:
            try:
                return func()
            except Exception as error:
                handle(error)
                raise

        return report(handled)

    utils.run_and_report = reported


def apply_overrides(overrides: Sequence[Override], config: DictConfig) -> None:
    """Set values in a composed config, with the conversions and errors of Hydra."""
    ConfigLoaderImpl._apply_overrides_to_config(list(overrides), config)


def set_values(texts: Sequence[str], config: DictConfig) -> None:
    """Set KEY=VALUE in a composed config, adding keys that are not there."""
    apply_overrides(parsed_overrides([text if text[:1] in "+~" else f"++{text}" for text in texts]), config)


def parsed_overrides(texts: Sequence[str]) -> list[Override]:
    """Return overrides as Hydra's grammar reads them; raises its errors."""
    return OverridesParser.create().parse_overrides(list(texts))


def node_of(config: DictConfig, key: str) -> Node:
    """Return the node of a dotted key, unresolved; it must be there."""
    node: Any = config
    for name in key.split("."):
        node = node._get_node(name)
    assert isinstance(node, Node)
    return node


@cache
def resolvers(text: str) -> frozenset[str]:
    """Return the names of the resolvers that an interpolation calls itself, at any depth of its text."""
    found, waiting = set(), [parse(text)]
    while waiting:
        item: Any = waiting.pop()
        if isinstance(item, OmegaConfGrammarParser.InterpolationResolverContext):
            found.add(item.resolverName().getText())
        waiting += getattr(item, "children", None) or []
    return frozenset(found)


@cache
def reads_config(resolver: str) -> bool:
    """Return whether a resolver may read more of the config than its arguments (_root_, _parent_, _node_)."""
    function = OmegaConf._get_resolver(resolver)
    inner = inspect.getclosurevars(function).nonlocals if inspect.isfunction(function) else {}
    passed = [inner.get(f"pass_{name}") for name in ("root", "parent", "node")]
    return any(each is not False for each in passed)


@contextmanager
def hydra_config(config: DictConfig) -> Iterator[Any]:
    """Let ${hydra:...} read this composed config in the block; yield what `hydra_node` takes."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)
    try:
        yield HydraConfig.instance().cfg
    finally:
        HydraConfig.instance().cfg = before


@contextmanager
def hydra_node(node: Any) -> Iterator[None]:
    """Let ${hydra:...} read in the block what hydra_config read before: that took a copy, which takes milliseconds."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().cfg = node
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


def without_hydra(config: DictConfig) -> DictConfig:
    """Return the config as an app's function gets it."""
    own = copy.deepcopy(config)
    with read_write(own), open_dict(own):
        del own["hydra"]
    return own


def replace_multirun(at_main: AtMain, wanted: Callable[[TaskFunction], bool]) -> None:
    """Make the next call of a @hydra.main function in this process call at_main, and nothing of Hydra's composition.

    wanted: says for a task function whether its app is meant; any other app runs as ever.
    """
    get_mode, multirun, run = Hydra.get_mode, Hydra.multirun, Hydra.run

    def restored(self: Hydra, task_function: TaskFunction) -> None:
        # The app may start further Hydra apps in this process.
        Hydra.get_mode, Hydra.multirun = get_mode, multirun  # type: ignore[method-assign]
        setup_globals()
        at_main(task_function, self.config_loader)

    def patched(self: Hydra, config_name: str | None, task_function: TaskFunction, *args: Any, **kwargs: Any) -> Any:
        if wanted(task_function):
            return restored(self, task_function)
        mode = get_mode(self, config_name, args[0] if args else kwargs.get("overrides", []))
        original = multirun if mode == RunMode.MULTIRUN else run
        return original(self, config_name, task_function, *args, **kwargs)

    Hydra.get_mode = lambda self, *args, **kwargs: RunMode.MULTIRUN  # type: ignore[method-assign]
    Hydra.multirun = patched  # type: ignore[method-assign]


def run_as_job(task_function: TaskFunction, config: DictConfig, loader: ConfigLoader) -> JobReturn:
    """Run a task function with a frozen config under Hydra's run_job, with logging, callbacks and hydra.job.chdir.

    config: with its hydra node, of which hydra.sweep.dir and hydra.sweep.subdir say where the output folder lies. It is
    the run's own: Hydra writes into it.
    """
    context = HydraContext(config_loader=loader, callbacks=Callbacks(config))
    return run_job(
        task_function=task_function,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
        hydra_context=context,
    )
