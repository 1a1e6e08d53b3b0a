"""The study as the platform's app. Imports torch only to build or train a cell."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from allcnn import labels
from allcnn.config import Augment, Config, DeviceChoice, EngineChoice, checked
from strive.app import CellFacts, Trainer
from strive.cells.records import Record
from strive.cells.settings import Settings
from strive.cells.task import Task
from strive.code.hash import Code, code_of
from strive.config.identity import builders
from strive.errors import ConfigError, MissingDataError
from strive.hydra_app.typed import TypedApp
from strive.sweeps.labels import Labels

if TYPE_CHECKING:
    from allcnn.data.sources import DataFacts

CODE = "allcnn.training"  # imports nets and data as well
# These modules hold only names and values of config keys, and those are part of a cell's id and record.
NO_CODE = frozenset({"allcnn", "allcnn.config"})

# Keys that may differ within a pack, because they change only values in a training step, not its operations.
_FREE = ("seed", "budget.epochs", "runs", "sweeps", "trainer.progress")
_FREE_GROUPS = ("optimizer.", "tracker.", "needs.")
_NOT_FREE = ("optimizer.kind", "augment.mixup", "augment.cutout_px")  # although their groups are


class AllCNN(TypedApp):
    """The study."""

    config_class = Config
    side_by_side = True

    def labels(self) -> Labels:
        """Return the paper's names of the nets, and short titles."""
        return labels.labels()

    # -- a cell's config

    with_legal_values = staticmethod(checked)  # of each key, and between them

    def checked(self, config: Config) -> Config:
        """Return a config with legal values, whose builders take their arguments; raises ConfigError."""
        config = checked(config)
        if _has_builder(config):
            from allcnn.builder_arguments import check_arguments

            check_arguments(config)
        return config

    def filled_in(self, config: Config) -> Config:
        """Return the config with all arguments of its builders; itself where one does not take what it is given."""
        if not _has_builder(config):
            return config
        from allcnn.builder_arguments import filled_in

        try:
            return filled_in(config)
        except ConfigError:
            return config

    def cell_name(self, config: Config) -> str:
        """Return the readable part of a cell's id, such as all_cnn_c-cifar10-flip_shift-lr0.05-s0."""
        what = f"{config.model.name}-{config.data.name}-{config.augment.kind.value}"
        return f"{what}-lr{config.optimizer.lr:g}-s{config.seed}"

    def epochs(self, config: Config) -> int:
        """Return the number of epochs that the cell trains."""
        return config.budget.epochs

    def settings(self, config: Config) -> Settings:
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

    # -- before a cell trains

    def code_of(self, flat: Mapping[str, Any], files: Mapping[str, str] | None = None) -> Code:
        """Return the loop, nets and data, and the user's own builders."""
        return code_of(CODE, builders(flat), NO_CODE)

    def facts(self, config: Config) -> CellFacts:
        """Return how much there is to train, or raise ConfigError, MissingDataError for images that are not here.

        Checks that the net can be built, and that the data and the device exist.
        """
        from allcnn.data.output_size import output_size
        from allcnn.networks.facts import check_network

        if config.trainer.device is DeviceChoice.cuda or config.trainer.engine is EngineChoice.graph:
            from allcnn.training import choose_execution

            choose_execution(config.trainer)
        found = _data_facts(config)
        if config.augment.kind is Augment.custom:
            from allcnn.data.own_augmentation import check_augmentation

            check_augmentation(config.augment, config.data.image_size)
        network = check_network(config.model, num_classes=found.num_classes, image_size=output_size(config))
        return CellFacts(num_train=found.num_train, flops=network.flops)

    def data_key(self, flat: Mapping[str, Any]) -> str:
        """Return a text that is equal for cells with the same data set, its place, and preparation."""
        own = (key for key in flat if key.startswith(("data.", "preprocess.")) and key != "data.download")
        return "".join(f"{key}={flat[key]} " for key in own)

    def pack_key(self, flat: Mapping[str, Any]) -> str:
        """Return a text that is equal for cells that can share a pack.

        They agree in everything but the seed, the optimizer's values, the number of epochs, augmentation by flips and
        shifts, and logistics outside trainer.*.
        """
        free: tuple[str, ...] = _FREE_GROUPS
        # Other augmentation produces images of another size and draws additional random numbers.
        if flat["augment.kind"] in (Augment.none.value, Augment.flip_shift.value):
            free += ("augment.",)
        shared = {
            key: value
            for key, value in flat.items()
            if key in _NOT_FREE or (key not in _FREE and not key.startswith(free))
        }
        return json.dumps(shared, sort_keys=True, allow_nan=False)

    def plan_notes(self, configs: Sequence[Config]) -> list[str]:
        """Return the images found on disk for each data set, and the files that were left out."""
        from allcnn.data.sources import files_on_disk

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

    def other_data(self, config: Config, record: Record) -> str | None:
        """Return why the images at data.root differ from those of the record's training; None if they do not."""
        from allcnn.same_images import other_images

        return other_images(config, record)

    # -- where it trains

    def of_task(self, task: Task, threads: int = 0) -> Config:
        """Return the config of a task, with the builders' arguments in the form that they take."""
        config: Config = self.config_of(task.flat)
        if _has_builder(config):
            from allcnn.builder_arguments import as_called

            config = as_called(config)
        if threads:  # the launcher shows all cells together
            trainer = replace(config.trainer, threads=config.trainer.threads or threads, progress=False)
            config = replace(config, trainer=trainer)
        return config

    def logistics_of(self, record: Record) -> dict[str, Any]:
        """Return what decides the last bits: threads, compilation, kernels, and the device if this machine has it."""
        made = record.provenance
        return {
            "trainer.threads": made.threads,
            "trainer.compile": made.details.get("compiled"),
            "trainer.fast": made.details.get("fast", False),
            "trainer.device": _choice_of(made.device).value,
            "trainer.progress": True,
        }

    def surroundings(self, config: Config) -> dict[str, Any]:
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

    def trainer(self) -> Trainer:
        """Return the trainer for cells in this process; imports torch."""
        from allcnn.training_pack import CellTrainer

        return CellTrainer()


def _has_builder(config: Config) -> bool:
    """Return whether the cell calls a function of the user's own."""
    return bool(config.model.builder or config.augment.builder)


def _data_facts(config: Config) -> "DataFacts":
    from allcnn.data.sources import check_data, files_on_disk

    try:
        return check_data(config)
    except ConfigError as error:
        try:
            files_on_disk(config.data)
        except ConfigError:
            raise MissingDataError(str(error)) from None
        raise


def _choice_of(device: str) -> DeviceChoice:
    """Return the trainer.device that selects the device of a record, if this machine has it."""
    import torch

    from allcnn.training import device_name

    if torch.cuda.is_available() and device == device_name(torch.device("cuda")):
        return DeviceChoice.cuda
    if device == device_name(torch.device("cpu")):
        return DeviceChoice.cpu
    return DeviceChoice.auto


APP = AllCNN()
