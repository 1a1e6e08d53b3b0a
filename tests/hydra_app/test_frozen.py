import enum
import pathlib
from dataclasses import dataclass, field
from typing import Any

import pytest
from omegaconf import MISSING, DictConfig, OmegaConf, ValidationError

from strive.errors import ConfigError
from strive.hydra_app.frozen import frozen, thawed


class Kind(enum.Enum):
    small = 1
    large = 2


@dataclass
class Optimizer:
    lr: float = 0.1
    kind: Kind = Kind.small
    betas: list[float] = field(default_factory=lambda: [0.9, 0.99])


@dataclass
class Experiment:
    optimizer: Optimizer = field(default_factory=Optimizer)
    root: pathlib.Path = pathlib.Path("/data")
    steps: int = MISSING
    twice: float = 0.0
    note: str | None = None
    extra: dict[str, int] = field(default_factory=dict)


def test_a_typed_config_comes_back_typed():
    config = OmegaConf.structured(Experiment)
    config.optimizer.kind = Kind.large
    config.twice = "${optimizer.lr}"
    config.extra.x = 3
    OmegaConf.set_struct(config, True)
    again = thawed(frozen(config))
    assert again == config
    assert OmegaConf.get_type(again, "optimizer") is Optimizer
    assert again.optimizer.kind is Kind.large
    assert again.root == pathlib.Path("/data")
    assert OmegaConf.is_missing(again, "steps")
    assert OmegaConf.is_interpolation(again, "twice")
    again.optimizer.lr = 7
    assert again.twice == 7.0, "an interpolation follows what the app assigns"
    with pytest.raises(ValidationError):
        again.optimizer.lr = "fast"
    with pytest.raises(Exception, match="stepz"):
        again.stepz = 3


def test_an_untyped_config_comes_back_with_its_flags_and_keys():
    config = OmegaConf.create({"a": {1: "one", "x.y": [1, {"b": None}], "c": float("inf")}, "d": b"\x00", "e": []})
    OmegaConf.set_readonly(config.a, True)
    again = thawed(frozen(config))
    assert again == config
    assert again.a._get_flag("readonly")
    assert not again._get_flag("readonly")


def test_nothing_is_called_when_a_config_is_read():
    text = frozen(OmegaConf.create({"a": "${oc.env:HOME}", "_target_": "os.system"}))
    assert OmegaConf.to_container(thawed(text)) == {"a": "${oc.env:HOME}", "_target_": "os.system"}


def test_a_value_without_a_text_is_refused_by_name():
    config = DictConfig({"net": {"layer": object()}}, flags={"allow_objects": True})
    with pytest.raises(ConfigError, match=r"net\.layer is <object .*legal: numbers, text"):
        frozen(config)


def test_a_type_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch):
    text = frozen(OmegaConf.structured(Experiment))
    gone: Any = None
    monkeypatch.setitem(globals(), "Optimizer", gone)
    with pytest.raises(ConfigError, match="Optimizer"):
        thawed(text.replace(":Optimizer", ":Gone_Optimizer"))
