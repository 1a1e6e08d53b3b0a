"""Cells of a foreign app, composed from overrides: each choice of groups is composed once, values are set in it.

Hydra takes 50 to 200 ms for a cell. A value is set by Hydra's own conversion, only what depends on it is evaluated
again, and the first cells of each choice are compared with what Hydra composes.
"""

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.base import Container

from strive.config.platform_keys import NEEDS, is_need, needs_with
from strive.hydra_app.cell import HydraCell, Options, cell_of
from strive.hydra_app.frozen import FrozenBase, frozen_cell
from strive.hydra_app.leaves import Leaf, leaf_of, leaves
from strive.hydra_app.logistics import DividedConfig, check_constant, divided
from strive.hydra_internals import apply_overrides, as_change, group_names, hydra_config, hydra_node, is_group, node_of
from strive.sweeps.compose import Composer
from strive.sweeps.override_syntax import bare_key

# Where a composed config says which overrides it was asked for by.
_ASKED = ("hydra.overrides.task", "hydra.job.override_dirname")
_COMPARED = 2  # cells of each choice of groups that are composed by Hydra as well


@dataclass
class ComposedBase:
    """A composed choice of groups, and what is known of its leaves."""

    config: DictConfig
    hydra: Any  # what ${hydra:...} reads
    leaves: dict[str, Leaf]
    name: str  # of the app
    left_to_compare: int = _COMPARED
    reusable: bool = True  # False: values are not only set, so each cell is composed by Hydra
    touched: dict[str, list[str]] = field(default_factory=dict)

    @cached_property
    def frozen(self) -> FrozenBase:
        """Return what its cells share when they are frozen."""
        return FrozenBase(self.config)

    def dependants(self, key: str) -> list[str]:
        """Return the interpolations that a new value of this key may change."""
        if key not in self.touched:
            traces = [leaf.trace for leaf in self.leaves.values() if leaf.trace and leaf.trace.touches(key)]
            self.touched[key] = list(dict.fromkeys(trace.origin for trace in traces))
        return self.touched[key]


class HydraComposer(Composer):
    """Builds cells of any Hydra app."""

    def __init__(self, loader: ConfigLoader, master: DictConfig, options: Options) -> None:
        super().__init__(loader, master)
        self._options = options
        self._base = lru_cache(maxsize=None)(self._compose_base)
        self._values: dict[tuple[int, str], tuple[str, Leaf]] = {}
        self._added: dict[tuple[object, ...], str] = {}  # {others and new key: the override whose value the base has}
        self._groups = lru_cache(maxsize=None)(lambda key: is_group(loader, key))

    def unchecked(self, overrides: Sequence[str]) -> HydraCell:
        """Return the cell; raises ConfigError for a leaf that no cell can be found by, and Hydra's errors."""
        needs = [text for text in overrides if is_need(bare_key(text))]
        if not needs or self.has_own_needs:
            return self._cell_of(overrides)
        # Of the job alone: the app has no such keys.
        cell = self._cell_of([text for text in overrides if text not in needs])
        parsed = [self._parsed(text) for text in needs]
        asked = needs_with({each.key_or_group: each.value() for each in parsed})
        return replace(cell, settings=replace(cell.settings, needs=asked))

    @cached_property
    def has_own_needs(self) -> bool:
        """Whether `needs` is a key of the app's own."""
        return NEEDS in self._base(()).config

    def _cell_of(self, overrides: Sequence[str]) -> HydraCell:
        with self._refusals(overrides):
            return self._built(overrides, self._plain(overrides))

    def _built(self, overrides: Sequence[str], plain: Sequence[str]) -> HydraCell:
        base = self._base(self._shared(overrides, plain))
        if not base.reusable or not all(self._is_leaf(base, text) for text in plain):
            return self._composed(overrides)
        found = self._set(base, plain)
        if base.left_to_compare:
            base.left_to_compare -= 1
            whole = self._composed(overrides)
            if (whole.science, whole.logistics.keys()) != (found.science, found.logistics.keys()):
                base.reusable = False
                return whole
        return self._cell(
            found,
            base.name,
            lambda: self._with_values(base, plain, overrides),
            lambda: self._frozen(base, plain, overrides),
        )

    def _shared(self, overrides: Sequence[str], plain: Collection[str]) -> tuple[str, ...]:
        """Return the overrides of a base whose values can be set: new keys are in it with one of their values."""
        others = tuple(text for text in overrides if text not in plain)
        shared = []
        for text in overrides:
            if text not in plain:
                shared.append(text)
            elif _adds(self._parsed(text)):
                key = text.partition("=")[0]
                # With its sign: +KEY is an error where the key is there, ++KEY is none.
                shared.append(self._added.setdefault((others, key), text))
        return tuple(shared)

    def _plain(self, overrides: Sequence[str]) -> list[str]:
        """Return the overrides whose values can be set, without a new key that another one reaches, too."""
        keys = [self._parsed(text).key_or_group for text in overrides]
        return [
            text
            for text in super()._plain(overrides)
            if not _adds(self._parsed(text)) or sum(_overlap(self._parsed(text).key_or_group, key) for key in keys) == 1
        ]

    def group_names(self) -> list[str]:
        """Return the config groups of the app."""
        return group_names(self._loader)

    def _is_group(self, key: str) -> bool:
        return self._groups(key)

    def _is_plain(self, override: Override) -> bool:
        value = override.value() if not override.is_delete() else None
        return (
            override.package is None
            and not (override.is_delete() or isinstance(value, dict))
            and not self._is_group(override.key_or_group)
            and "${" not in (override.input_line or "")
        )

    def _is_leaf(self, base: ComposedBase, text: str) -> bool:
        key = self._parsed(text).key_or_group
        leaf = base.leaves.get(key)
        # A part of an interpolated mapping is no node that could be set.
        return leaf is not None and "[" not in key and (leaf.trace is None or leaf.trace.origin == key)

    def _compose_base(self, overrides: tuple[str, ...]) -> ComposedBase:
        config = self._prepared(overrides)
        with hydra_config(config) as node:
            found = leaves(config)
            check_constant(found, leaves(config), self._options.logistics)
        # These say how a cell was asked for, so that setting a value is not all that its override does.
        asks = ("overrides", "job.override_dirname", "job.num")
        reusable = not any(
            call.resolver == "hydra" and f"{call.argument}.".startswith(tuple(f"{each}." for each in asks))
            for leaf in found.values()
            for call in leaf.calls
        )
        return ComposedBase(config, node, found, _name(config), reusable=reusable)

    def _composed(self, overrides: Sequence[str]) -> HydraCell:
        """Return the cell as Hydra composes it."""
        config = self._prepared(overrides)
        with hydra_config(config):
            found = leaves(config)
        return self._cell(
            divided(found, self._options.logistics), _name(config), lambda: config, lambda: _frozen_whole(config)
        )

    def _cell(
        self, found: DividedConfig, name: str, composed: Callable[[], DictConfig], freeze: Callable[[], dict[str, str]]
    ) -> HydraCell:
        return replace(cell_of(found, self._options, name=name), composed=composed, freeze=freeze)

    def _prepared(self, overrides: Sequence[str]) -> DictConfig:
        """Return a composed config in which what only a launch knows has a value, so that it can be evaluated."""
        config = self._load(overrides)
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.job.num, config.hydra.job.id = 0, "0"
            config.hydra.runtime.output_dir = config.hydra.runtime.cwd
        return config

    def _set(self, base: ComposedBase, plain: Sequence[str]) -> DividedConfig:
        """Return the parts of a cell whose values are set in a composed base."""
        values = dict(self._value(base, text) for text in plain)
        if not values:
            return divided(base.leaves, self._options.logistics)
        found = base.leaves | values
        origins = dict.fromkeys(origin for key in values for origin in base.dependants(key) if origin not in values)
        if origins:
            found = {key: leaf for key, leaf in found.items() if not (leaf.trace and leaf.trace.origin in origins)}
            with self._with_nodes(base, plain) as config, hydra_node(base.hydra):
                for origin in origins:
                    found |= leaf_of(origin, node_of(config, origin))
        return divided(found, self._options.logistics)

    def _value(self, base: ComposedBase, text: str) -> tuple[str, Leaf]:
        """Return (key, leaf) with the value converted to the type of its node."""
        if (id(base), text) not in self._values:
            override = self._parsed(text)
            key = override.key_or_group
            with self._with_nodes(base, [text]) as config:
                self._values[id(base), text] = key, leaf_of(key, node_of(config, key))[key]
        return self._values[id(base), text]

    @contextmanager
    def _with_nodes(self, base: ComposedBase, plain: Sequence[str]) -> Iterator[DictConfig]:
        """Yield the base's config with the values set; they are taken out again."""
        # A key that is added is in the base.
        parsed = [as_change(self._parsed(text)) for text in plain]
        with _kept(base.config, [each.key_or_group for each in parsed]):
            apply_overrides(parsed, base.config)
            yield base.config

    def _with_values(self, base: ComposedBase, plain: Sequence[str], overrides: Sequence[str]) -> DictConfig:
        """Return the whole config of a cell, as Hydra would compose it."""
        with self._as_cell(base, plain, overrides) as config:
            return copy.deepcopy(config)

    def _frozen(self, base: ComposedBase, plain: Sequence[str], overrides: Sequence[str]) -> dict[str, str]:
        """Return that config as `frozen_cell` does."""
        frozen = base.frozen  # without the cell's values
        with self._as_cell(base, plain, overrides) as config, hydra_node(base.hydra):
            keys = {self._parsed(text).key_or_group for text in plain}
            return frozen_cell(config, frozen.with_values(config, [*keys, *_ASKED]))

    @contextmanager
    def _as_cell(self, base: ComposedBase, plain: Sequence[str], overrides: Sequence[str]) -> Iterator[DictConfig]:
        """Yield the base's config as the whole config of a cell; it is put back."""
        with _kept(base.config, _ASKED), self._with_nodes(base, plain) as config:
            with read_write(config.hydra), open_dict(config.hydra):
                config.hydra.overrides.task = list(overrides)
                if not OmegaConf.is_interpolation(config.hydra.job, "override_dirname"):  # as it is in Hydra 1.4
                    config.hydra.job.override_dirname = _dirname(config, [self._parsed(text) for text in overrides])
            yield config


def _adds(override: Override) -> bool:
    return bool(override.is_add() or override.is_force_add())


def _overlap(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _name(config: DictConfig) -> str:
    return str(config.hydra.job.name)


def _frozen_whole(config: DictConfig) -> dict[str, str]:
    with hydra_config(config):
        return frozen_cell(config)


@contextmanager
def _kept(config: DictConfig, keys: Sequence[str]) -> Iterator[None]:
    """Put the nodes of these keys back after the block."""
    kept = []
    for key in keys:
        node = node_of(config, key)
        parent = node._get_parent()
        assert isinstance(parent, Container)
        kept.append((parent, node._key(), copy.deepcopy(node)))
    try:
        yield
    finally:
        for parent, name, node in kept:
            node._set_parent(parent)
            parent.__dict__["_content"][name] = node


def _dirname(config: DictConfig, overrides: Sequence[Override]) -> str:
    """Return hydra.job.override_dirname, as Hydra makes it."""
    options = config.hydra.job.config.override_dirname
    texts = sorted(
        (each.input_line or "").replace("=", options.kv_sep)
        for each in overrides
        if each.key_or_group not in options.exclude_keys
    )
    return str(options.item_sep).join(texts)
