"""The study as the platform's app: implements `strive.app.App`. Imports torch only to build or train a cell."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from allcnn.config import Augment, Config, DeviceChoice, checked
from allcnn.labels import labels
from strive.app import CellFacts, TableLayout, Trainer
from strive.cells.records import Record
from strive.cells.settings import Settings
from strive.cells.task import Task
from strive.code import hash as hash_of_code
from strive.code.hash import Code
from strive.config import typed
from strive.config.identity import BUILDERS, argument_name, with_argument_keys, without
from strive.errors import ConfigError

__all__ = [
    "CODE",
    "DATA_PLACES",
    "NO_CODE",
    "SIDE_BY_SIDE",
    "TABLE",
    "Config",
    "absent",
    "as_called",
    "as_recorded",
    "cell_name",
    "checked",
    "code_now",
    "code_of",
    "command",
    "composer",
    "config_of",
    "data_key",
    "data_of",
    "decides",
    "defaults",
    "device_key",
    "epochs",
    "facts",
    "facts_key",
    "filled_in",
    "flat",
    "for_worker",
    "frozen",
    "groups",
    "inside",
    "is_open",
    "label",
    "labels",
    "meaning_of",
    "of_task",
    "other_data",
    "pack_key",
    "plan_notes",
    "prepare",
    "recorded_value",
    "science",
    "seed_key",
    "settings",
    "speed_group",
    "start",
    "surroundings",
    "trainer",
    "typed_key",
]

CODE = "allcnn.training"  # imports nets and data as well
# These modules hold only names and values of config keys, and those are part of a cell's id and record.
NO_CODE = frozenset({"allcnn", "allcnn.config"})
SIDE_BY_SIDE = True
DATA_PLACES = ("data.root",)
TABLE = TableLayout(
    label="net",
    in_label=("model.family", "model.base", "model.variant", "model.builder"),
    title={"data": "data.name", "augment": "augment.kind", "lr": "optimizer.lr", "seed": "seed"},
    metrics=("parameters", "test_error"),
)

# Keys that may differ within a pack, because they change only values in a training step, not its operations.
_FREE = ("seed", "budget.epochs", "runs", "sweeps", "trainer.progress")
_FREE_GROUPS = ("optimizer.", "tracker.", "needs.")
_NOT_FREE = ("optimizer.kind", "augment.mixup", "augment.cutout_px")  # although their groups are


def defaults() -> Mapping[str, Any]:
    """Return {dotted key: default}."""
    return typed.defaults(Config)


def groups() -> Sequence[str]:
    """Return the groups of keys, such as optimizer; each has a folder in conf/."""
    return typed.groups(Config)


def decides(key: str) -> bool:
    """Return whether a key determines a cell's numbers."""
    return key in typed.science_keys(Config) or is_open(key)


def absent() -> Mapping[str, Any]:
    """Return {key: default} of the keys that came after the first cells; at their default a cell's id has them not."""
    return typed.absent(Config)


def is_open(key: str) -> bool:
    """Return whether a key is an argument of a builder, such as model.kwargs.channels."""
    return argument_name(key) != ""


def typed_key(key: str) -> str:
    """Return the key with ++ if Hydra does not know it: an argument of a builder."""
    # ++ works whether or not the model's file sets them.
    return f"++{key}" if key in BUILDERS or is_open(key) else key


def meaning_of(key: str) -> tuple[type, str, str] | None:
    """Return (type, meaning, legal range) of a key."""
    return typed.meaning_of(Config, key)


def recorded_value(key: str, value: Any) -> Any:
    """Return a value as `flat` would have it; raises OmegaConf's errors for another type."""
    from omegaconf import OmegaConf

    node = OmegaConf.structured(Config)
    OmegaConf.update(node, key, value, force_add=True)
    return with_argument_keys(typed.flat(OmegaConf.to_object(node))).get(key, value)


def composer(loader: Any, master: Any) -> Any:
    """Return what composes cells."""
    from strive.sweeps.compose import TypedComposer

    return TypedComposer(loader, master)


def flat(config: Config) -> dict[str, Any]:
    """Return every key of a config as {dotted key: JSON value}."""
    return typed.flat(config)


def science(config: Config) -> dict[str, Any]:
    """Return the part of `flat` that determines the numbers."""
    keys = typed.science_keys(Config)
    return without(absent(), {key: value for key, value in typed.flat(config).items() if key in keys})


def config_of(flat_config: Mapping[str, Any]) -> Config:
    """Return the config from which `flat` was made."""
    return checked(typed.config_of(Config, flat_config))


def filled_in(config: Config) -> Config:
    """Return the config with all arguments of its builder filled in."""
    from allcnn.builder_arguments import filled_in

    return filled_in(config)


def as_recorded(config: Config) -> Config:
    """Return the config under which a checked one is recorded."""
    from allcnn.builder_arguments import as_recorded

    return as_recorded(config)


def as_called(config: Config) -> Config:
    """Return a frozen config with its arguments in the form that the builder takes."""
    from allcnn.builder_arguments import as_called

    return as_called(config)


def code_of(config: Config) -> Code:
    """Return the code here that trains a cell."""
    return hash_of_code.code_of(config.model.builder, config.augment.builder)


def code_now(config: Config, files: Mapping[str, str]) -> Code:
    """Return the code here that would train a cell."""
    return code_of(config)


def cell_name(config: Config) -> str:
    """Return the readable part of a cell's id, such as all_cnn_c-cifar10-flip_shift-lr0.05-s0."""
    return f"{speed_group(config)}lr{config.optimizer.lr:g}-s{config.seed}"


def label(config: Config) -> str:
    """Return the net's name."""
    return config.model.name


def epochs(config: Config) -> int:
    """Return the number of epochs that the cell trains."""
    return config.budget.epochs


def speed_group(config: Config) -> str:
    """Return the prefix of the ids of cells with this net, data and augmentation."""
    return f"{config.model.name}-{config.data.name}-{config.augment.kind.value}-"


def settings(config: Config) -> Settings:
    """Return what the study's short forms say to the platform: runs, trainer, tracker and needs."""
    trainer = config.trainer
    return Settings(
        runs=config.runs,
        threads=trainer.threads,
        device=trainer.device.value,
        checkpoint_minutes=trainer.checkpoint_minutes,
        lease_seconds=trainer.lease_seconds,
        tracker=config.tracker,
        needs=config.needs,
    )


def for_worker(config: Config, threads: int) -> Config:
    """Set how many threads a cell takes that does not say it, and no progress line."""
    config.trainer.threads = config.trainer.threads or threads
    config.trainer.progress = False  # the launcher shows all cells together
    return config


def facts(config: Config) -> CellFacts:
    """Return how much there is to train, or raise ConfigError.

    Builds the net on the meta device, and checks that the data and the device exist.
    """
    from allcnn.data import check_augmentation, check_data, output_size
    from allcnn.networks import check_network
    from allcnn.training import choose_execution

    choose_execution(config.trainer)
    found = check_data(config)
    check_augmentation(config.augment, config.data.image_size)
    network = check_network(config.model, num_classes=found.num_classes, image_size=output_size(config))
    return CellFacts(num_train=found.num_train, flops=network.flops)


def facts_key(config: Config) -> str:
    """Return a text that is equal for cells with the same net, images and device."""
    return f"{config.model}{config.data}{config.preprocess}{config.augment}{config.trainer}"


def data_of(config: Config) -> str:
    """Return a text that is equal for cells of one data set."""
    return str(config.data)


def data_key(config: Mapping[str, Any]) -> str:
    """Return a text that is equal for cells with the same data set and preparation; config: as identity.flat."""
    return "".join(f"{key}={value} " for key, value in config.items() if key.startswith(("data.", "preprocess.")))


def plan_notes(configs: Sequence[Config]) -> list[str]:
    """Return the images found on disk for each data set, and the files that were left out."""
    from allcnn.data import files_on_disk

    lines = list[str]()
    for data in {(data.name, data.root): data for data in (config.data for config in configs)}.values():
        try:
            on_disk = files_on_disk(data)
        except ConfigError:
            continue  # data sets of finished cells may be gone
        if on_disk.found:
            lines.append(f"images of {data.name}: {on_disk.found}")
        lines += [f"  left out: {line}" for line in on_disk.left_out]
    return lines


def other_data(config: Config, record: Record) -> str | None:
    """Return why the images at data.root differ from those of the record's training; None if they do not."""
    from allcnn.same_images import other_images

    return other_images(config, record)


def pack_key(config: Mapping[str, Any]) -> str:
    """Return a text that is equal for cells that can share a pack.

    They agree in everything but the seed, the optimizer's values, the number of epochs, augmentation by flips and
    shifts, and logistics outside trainer.*. config: as `identity.flat`.
    """
    free: tuple[str, ...] = _FREE_GROUPS
    # Other augmentation produces images of another size and draws additional random numbers.
    if config["augment.kind"] in (Augment.none.value, Augment.flip_shift.value):
        free += ("augment.",)
    shared = {
        key: value
        for key, value in config.items()
        if key in _NOT_FREE or (key not in _FREE and not key.startswith(free))
    }
    return json.dumps(shared, sort_keys=True, allow_nan=False)


def surroundings(config: Config) -> dict[str, Any]:
    """Return the device, threads and arithmetic that a cell's record would have on this machine."""
    import torch

    from allcnn.training import bf16_of, choose_execution, device_name

    execution = choose_execution(config.trainer)
    return {
        "device": device_name(execution.device),
        "threads": execution.threads,
        "compiled": execution.compiled,
        "bf16": bf16_of(config.precision, execution.device) or "",
        "fast": execution.fast,
        "torch": str(torch.__version__),
    }


def device_key(device: str) -> str:
    """Return the trainer.device that selects the device of a record, if this machine has it."""
    import torch

    from allcnn.training import device_name

    if torch.cuda.is_available() and device == device_name(torch.device("cuda")):
        return DeviceChoice.cuda.value
    if device == device_name(torch.device("cpu")):
        return DeviceChoice.cpu.value
    return DeviceChoice.auto.value


def frozen(config: Config) -> dict[str, str]:
    """Return nothing: the keys are the whole config."""
    return {}


def prepare(folder: Path, copied: Callable[[Path], Path] | None = None) -> dict[str, str]:
    """Return nothing: workers import this module."""
    return {}


def seed_key() -> str:
    """Return the key of the seed."""
    return "seed"


def start() -> dict[str, Any]:
    """Return nothing: the study is imported."""
    return {}


def command(code: Path | None) -> list[str]:
    """Return src/run.py of the frozen code, or of this checkout."""
    return [str((code or Path(__file__).resolve().parents[2]) / "src" / "run.py")]


def inside(work: Callable[[], None]) -> None:
    """Call work."""
    hash_of_code.code_hash()  # of the code that was just imported; what is edited later does not count
    work()


def of_task(task: Task) -> Config:
    """Return the config of a task."""
    return as_called(config_of(task.flat))


def trainer() -> Trainer:
    """Return the trainer for cells in this process; imports torch."""
    from allcnn import cells

    module: ModuleType = cells
    return cast(Trainer, module)
