"""Keys of a cell of this study: type, default, meaning, unit and legal range of each.

YAML under conf/ holds values only; this file holds what they mean. Imports no torch, so that
analysis can read a record's config.
"""

import dataclasses
import math
import re
from dataclasses import dataclass, field
from enum import StrEnum, auto
from fractions import Fraction
from functools import cache
from typing import Any

from strive.config.keys import knobs, logistics, not_negative, science, wrong_values
from strive.config.platform_keys import NeedsConfig, TrackerConfig
from strive.errors import ConfigError


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _share(value: float) -> bool:
    return 0 <= value < 1


def _proper_share(value: float) -> bool:
    return 0 < value < 1


def _dropout(value: float) -> bool:
    # Beyond 0.99 hardly anything is left to learn from, and at 1 - 2^-32 the hash's threshold overflows.
    return 0 <= value <= 0.99


def _names_function(text: str) -> bool:
    return not text or re.fullmatch(r"\w+(\.\w+)*:\w+", text) is not None


class Family(StrEnum):
    """Which specification a net comes from."""

    paper = auto()  # the 12 nets of Tables 1 and 2: model.base x model.variant
    large_all_cnn = auto()
    all_cnn_b_imagenet = auto()
    custom = auto()


class Base(StrEnum):
    """Base net of Table 1."""

    a = auto()
    b = auto()
    c = auto()


class Variant(StrEnum):
    """What stands in the pooling's place (Table 2)."""

    base = auto()
    strided = auto()
    convpool = auto()
    all_cnn = auto()


class HeadPadding(StrEnum):
    """Padding of the head's first convolution."""

    valid = auto()
    same = auto()


class PoolRounding(StrEnum):
    """How pooling rounds its output size."""

    ceil = auto()
    pad = auto()
    floor = auto()


class StridedB(StrEnum):
    """Which convolution of Strided-CNN-B has the stride."""

    conv1x1 = auto()
    conv5x5 = auto()


class Init(StrEnum):
    """Distribution of the initial weights."""

    he = auto()
    gaussian = auto()
    xavier_caffe = auto()
    torch_default = auto()


class DropoutAfter(StrEnum):
    """What counts as a pooling's replacement."""

    pool_or_replacement = auto()
    pool_or_added_conv = auto()


class Source(StrEnum):
    """A reader of images."""

    cifar10 = auto()
    cifar100 = auto()
    digits = auto()
    image_folder = auto()
    arrays = auto()
    imagenet = auto()


class Preprocess(StrEnum):
    """What is done to images once."""

    gcn_zca = auto()
    standardize = auto()


class Augment(StrEnum):
    """What is drawn anew for each image."""

    none = auto()
    flip_shift = auto()
    extreme = auto()
    custom = auto()


class Optimizer(StrEnum):
    """How gradients change weights."""

    sgd = auto()
    adamw = auto()


class Schedule(StrEnum):
    """How the learning rate changes over the steps."""

    drops = auto()
    step = auto()
    cosine = auto()
    one_cycle = auto()


class Precision(StrEnum):
    """Number format of the forward and backward pass."""

    bf16 = auto()
    fp32 = auto()


class EngineChoice(StrEnum):
    """How training steps reach a GPU."""

    auto = "auto"
    eager = "eager"
    graph = "graph"


class DeviceChoice(StrEnum):
    """Where a cell trains."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """A network. The paper's nets are `base` x `variant` (paper, Tables 1 and 2)."""

    family: Family = science(Family.paper, "which specification the net comes from")
    base: Base = science(Base.c, "base net of the paper's Table 1")
    variant: Variant = science(Variant.all_cnn, "what stands in the pooling's place (paper, section 2 and Table 2)")
    width: float = science(
        1.0,
        "multiplies the channels of every layer but the class convolution",
        "above 0 and at most 100",
        check=lambda width: 0 < width <= 100,
    )
    class_relu: bool = science(
        True, "ReLU after the class convolution; the paper's Table 1 has it, many copies drop it"
    )
    head_padding: HeadPadding = science(
        HeadPadding.valid,
        "first 3x3 convolution of the head: valid gives the paper's 6x6 map, same gives 8x8",
    )
    pool_rounding: PoolRounding = science(
        PoolRounding.ceil,
        "how 3x3/2 pooling maps 32 to 16: ceil (Caffe's rule), pad (one pixel on each side); floor gives 15",
    )
    pool_norm: float = science(
        math.inf,
        "p of p-norm pooling (paper, equation 1); inf is max-pooling",
        "above 0 and at most 1e9, or inf",
        check=lambda p: 0 < p <= 1e9 or p == math.inf,
    )
    strided_b: StridedB = science(
        StridedB.conv1x1,
        "Strided-CNN-B: the convolution that takes the pooling's stride; the paper's wording gives conv1x1",
    )
    init: Init = science(Init.gaussian, "weight initialisation; the paper does not state it")
    init_std: float = science(
        0.05,
        "gaussian: standard deviation of the weights; divided by the root of model.width",
        "above 0",
        check=_positive,
    )
    dropout_input: float = science(
        0.2, "share of input values set to zero (paper, section 3)", "in [0, 0.99]", check=_dropout
    )
    dropout_hidden: float = science(
        0.5, "share of values set to zero after each pooling or its replacement", "in [0, 0.99]", check=_dropout
    )
    dropout_after: DropoutAfter = science(
        DropoutAfter.pool_or_replacement,
        "Strided nets: the stride-2 convolution counts as the pooling's replacement, or gets no dropout",
    )
    leaky_slope: float = science(
        1 / 3,
        "large_all_cnn: slope of its LeakyReLU below zero; ours, the paper gives none",
        "in [0, 1)",
        check=_share,
    )
    batch_norm: bool = science(False, "batch normalisation before each ReLU; the paper has none")
    builder: str = science(
        "",
        "model=extra/custom: the function that builds your net",
        "package.module:function",
        check=_names_function,
    )
    kwargs: dict[str, Any] = science({}, "model=extra/custom: keyword arguments for the builder")

    @property
    def name(self) -> str:
        """The net's name in ids and tables, such as all_cnn_c."""
        if self.family is Family.custom:
            return self.builder.partition(":")[2]
        if self.family is not Family.paper:
            return self.family.value
        prefix = {"base": "model", "strided": "strided_cnn", "convpool": "convpool_cnn", "all_cnn": "all_cnn"}
        return f"{prefix[self.variant.value]}_{self.base.value}"


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """A data set and what is held out of it."""

    source: Source = science(Source.cifar10, "which reader loads the images")
    name: str = science(
        "cifar10",
        "the data set's name in ids and tables",
        "lower-case letters, digits and _",
        check=lambda text: re.fullmatch(r"[a-z0-9_]+", text) is not None,
    )
    val_images: int = science(
        0,
        "training images held out as `val`; the same ones for every seed",
        "0 or more, fewer than the training images",
        unit="images",
        check=lambda n: n >= 0,
    )
    image_size: int = science(
        32,
        "height and width of the images a net sees, before augment.canvas_px",
        "8 or more",
        unit="pixels",
        check=lambda n: n >= 8,
    )
    root: str = logistics(
        "data", "folder the images are read from; for image_folder a folder or an archive, for arrays a file"
    )
    download: bool = logistics(False, "fetch cifar10 or cifar100 into data.root if it is not there")


@dataclass(kw_only=True, slots=True)
class PreprocessConfig:
    """What is done to images once, before training."""

    kind: Preprocess = science(
        Preprocess.gcn_zca,
        "gcn_zca: contrast normalisation and whitening (the paper's); standardize: per channel",
    )
    gcn_scale: float = science(55.0, "gcn_zca: L2 norm of an image after normalisation", "above 0", check=_positive)
    zca_bias: float = science(
        0.1, "gcn_zca: added to the diagonal of the covariance before whitening", "above 0", check=_positive
    )


@dataclass(kw_only=True, slots=True)
class AugmentConfig:
    """What is drawn anew for each training image in each epoch."""

    kind: Augment = science(
        Augment.none,
        "flip_shift: the paper's flips and translations; extreme: the paper's 126x126 canvas; custom: your own",
    )
    flip_probability: float = science(0.5, "chance of a horizontal flip", "in [0, 1]", check=lambda p: 0 <= p <= 1)
    shift_px: int = science(
        5,
        "largest translation along each axis; what is shifted in is zero",
        "0 or more, less than data.image_size",
        unit="pixels",
        check=lambda n: n >= 0,
    )
    canvas_px: int = science(
        126,
        "extreme: height and width of the canvas an image is placed on",
        "at least data.image_size",
        unit="pixels",
        check=lambda n: n >= 8,
    )
    scale_min: float = science(
        2.0, "extreme: smallest enlargement; ours, the paper gives none", "above 0", check=_positive
    )
    scale_max: float = science(
        4.0,
        "extreme: largest enlargement; ours, the paper gives none",
        "at least augment.scale_min",
        check=_positive,
    )
    rotate_degrees: float = science(
        30.0,
        "extreme: largest rotation either way; ours",
        "in [0, 180]",
        unit="degrees",
        check=lambda angle: 0 <= angle <= 180,
    )
    contrast: float = science(
        0.3,
        "extreme: each image is multiplied by 1 plus or minus up to this; ours",
        "in [0, 1)",
        check=_share,
    )
    colour_shift: float = science(
        0.3,
        "extreme: up to this is added to each channel of the preprocessed image; ours",
        "0 or more",
        check=not_negative,
    )
    builder: str = science(
        "",
        "augment=custom: the function that makes your augmentation",
        "package.module:function",
        check=_names_function,
        absent=True,
    )
    kwargs: dict[str, Any] = science({}, "augment=custom: keyword arguments for the builder", absent=True)
    cutout_px: int = science(
        0,
        "after the others: side of a square around a random pixel that is set to zero (DeVries & Taylor 2017); 0: none",
        "0 or more, less than data.image_size",
        unit="pixels",
        check=lambda n: n >= 0,
        absent=True,
    )
    mixup: float = science(
        0.0,
        "alpha of mixup (Zhang et al. 2018): each image is mixed with another of its batch, its label, too, in a"
        " proportion drawn from Beta(alpha, alpha); 0: none",
        "finite, 0 or more",
        check=not_negative,
        absent=True,
    )


@dataclass(kw_only=True, slots=True)
class OptimizerConfig:
    """How weights follow their gradients. The paper's: SGD with momentum and three drops of the rate (section 3)."""

    kind: Optimizer = science(
        Optimizer.sgd,
        "sgd: with momentum, the paper's; adamw: Adam with decoupled weight decay (Loshchilov & Hutter 2019)",
        absent=True,
    )
    lr: float = science(
        0.05, "learning rate: of the first epoch, for one_cycle the largest", "finite and above 0", check=_positive
    )
    momentum: float = science(0.9, "sgd: fixed momentum", "in [0, 1)", check=_share)
    nesterov: bool = science(False, "sgd: Nesterov's momentum, which looks a step ahead", absent=True)
    beta1: float = science(0.9, "adamw: decay of the mean of gradients", "in [0, 1)", check=_share, absent=True)
    beta2: float = science(
        0.999, "adamw: decay of the mean of squared gradients", "in [0, 1)", check=_share, absent=True
    )
    eps: float = science(
        1e-8, "adamw: added to the root of that mean", "finite and above 0", check=_positive, absent=True
    )
    weight_decay: float = science(
        0.001,
        "sgd: adds weight_decay x weight to each gradient; adamw: multiplies each weight by 1 - rate x weight_decay",
        "finite, 0 or more",
        check=not_negative,
    )
    decay_biases: bool = science(True, "weight decay acts on biases and batch-norm gains too; the paper does not say")
    schedule: Schedule = science(
        Schedule.drops,
        "drops: at drop_at, the paper's; step: every step_epochs; cosine: half a wave down to lr x end_factor;"
        " one_cycle: up to lr, then down (Smith 2018)",
        absent=True,
    )
    drop_at: list[str] = science(
        ["200/350", "250/350", "300/350"],
        "drops: shares of budget.epochs after which the learning rate is multiplied by drop_factor",
        "rising fractions between 0 and 1, such as [200/350,250/350]; [] keeps it constant",
    )
    drop_factor: float = science(0.1, "drops and step: factor of each drop", "above 0 and below 1", check=_proper_share)
    step_epochs: int = science(
        30,
        "step: epochs from one drop to the next",
        "1 or more, less than budget.epochs",
        unit="epochs",
        check=lambda n: n >= 1,
        absent=True,
    )
    rise: float = science(
        0.3,
        "one_cycle: share of the steps in which the rate rises to optimizer.lr",
        "above 0 and below 1",
        check=_proper_share,
        absent=True,
    )
    start_factor: float = science(
        0.04,
        "one_cycle: learning rate of the first step, as a share of optimizer.lr",
        "above 0 and below 1",
        check=_proper_share,
        absent=True,
    )
    end_factor: float = science(
        0.0,
        "cosine and one_cycle: the rate to which it falls, as a share of optimizer.lr",
        "in [0, 1)",
        check=_share,
        absent=True,
    )


@dataclass(kw_only=True, slots=True)
class BudgetConfig:
    """How long a cell trains."""

    epochs: int = science(350, "passes over the training images", "1 or more", unit="epochs", check=lambda n: n >= 1)
    batch_size: int = science(
        128,
        "images per step; the last batch of an epoch may be smaller",
        "1 or more",
        unit="images",
        check=lambda n: n >= 1,
    )


@dataclass(kw_only=True, slots=True)
class TrainerConfig:
    """Where and how a cell runs. Nothing here is part of its identity."""

    device: DeviceChoice = logistics(DeviceChoice.auto, "auto takes a CUDA GPU where there is one")
    threads: int = logistics(
        0, "CPU threads; 0 takes every core that this process may use", "0 or more", check=lambda n: n >= 0
    )
    workers: int = logistics(
        2,
        "processes that decode images, for data that does not fit in memory (imagenet)",
        "0 or more",
        check=lambda n: n >= 0,
    )
    checkpoint_minutes: float = logistics(
        5.0,
        "time between checkpoints; 0 writes one after every step",
        "0 or more",
        unit="minutes",
        check=not_negative,
    )
    engine: EngineChoice = logistics(
        EngineChoice.auto,
        "graph: a training step is one CUDA graph; eager: one kernel after the other; auto: graph on a GPU",
    )
    compile: bool | None = logistics(
        None,
        "torch.compile the net; changes the last bits, and the record says so; null: on a GPU with engine=graph",
        "true, false or null",
    )
    fast: bool = logistics(
        False, "on a GPU, kernels that may differ from run to run in the last bits; the record says so"
    )
    # Above the 60 s for which NFS clients may show an old folder: acdirmax, unless a site has changed it.
    lease_seconds: float = logistics(
        120.0,
        "without a heartbeat for so long, a process counts as gone and another may take its cell over",
        "1 or more",
        unit="seconds",
        check=lambda seconds: math.isfinite(seconds) and seconds >= 1,
    )
    progress: bool = logistics(True, "show the progress line")


@dataclass(kw_only=True, slots=True)
class Config:
    """One cell."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    label_smoothing: float = science(
        0.0,
        "share of a label that is spread evenly over all classes in the training loss (Szegedy et al. 2016)",
        "in [0, 1)",
        check=_share,
        absent=True,
    )
    precision: Precision = science(
        Precision.bf16,
        "bf16: factors rounded to bf16, products summed in float32, weights kept in float32; fp32: all float32",
    )
    seed: int = science(
        0,
        "decides initial weights, order, augmentation and dropout; 0 is a seed like any other",
        "0 or more",
        check=lambda n: n >= 0,
    )
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    needs: NeedsConfig = field(default_factory=NeedsConfig)
    runs: str = logistics("runs", "folder that records are written to")
    # The file that sweeps=NAME selects. It says what the cells are; no cell carries it.
    sweeps: Any = None


def checked(config: Config) -> Config:
    """Return the config with its fractions in lowest terms, or raise ConfigError."""
    shares = _lowest_terms(tuple(map(str, config.optimizer.drop_at)))
    if shares is not None and shares != config.optimizer.drop_at:
        # 200/350 and 4/7 are one schedule, so they must give one cell id.
        config = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, drop_at=shares.copy()))
    errors = wrong_values(config)
    if shares is None:
        errors.append(
            "optimizer.drop_at must be rising fractions between 0 and 1, such as [200/350,250/350],"
            f" got {config.optimizer.drop_at}"
        )
    elif config.optimizer.schedule is Schedule.step and config.optimizer.step_epochs >= config.budget.epochs:
        errors.append(
            f"optimizer.step_epochs must be less than budget.epochs={config.budget.epochs} for"
            f" optimizer.schedule=step, or the rate never drops, got {config.optimizer.step_epochs}"
        )
    errors += _data_errors(config.data, config.preprocess) + _augment_errors(config.augment, config.data)
    errors += _idle_knob_errors(config) + _builder_errors(config.model)
    if errors:
        raise ConfigError("\n".join(errors))
    return config


@cache  # of the few schedules that the cells of a plan have
def _lowest_terms(texts: tuple[str, ...]) -> list[str] | None:
    """Return fractions in lowest terms; None for what are no rising fractions between 0 and 1."""
    try:
        shares = [Fraction(text) for text in texts]
    except (ValueError, ZeroDivisionError, TypeError):
        return None
    rising = sorted(set(shares)) == shares and all(0 < share < 1 for share in shares)
    return [str(share) for share in shares] if rising else None


def _data_errors(data: DataConfig, preprocess: PreprocessConfig) -> list[str]:
    errors = []
    own = data.source in (Source.image_folder, Source.arrays)
    if own and data.name in {source.value for source in Source}:
        # The id knows a data set by its name alone, so two folders must not share one.
        errors.append(
            f"data.name must be a name of your own for data={data.source.value}, such as data.name=my_images,"
            f" got {data.name}"
        )
    if not own and data.name != data.source.value:
        errors.append(f"data.name must be {data.source.value} for data={data.source.value}, got {data.name}")
    fixed_size = {Source.cifar10: 32, Source.cifar100: 32, Source.digits: 32}.get(data.source)
    if fixed_size and data.image_size != fixed_size:
        errors.append(f"data.image_size must be {fixed_size} for data={data.source.value}, got {data.image_size}")
    if data.source is Source.imagenet and preprocess.kind is not Preprocess.standardize:
        errors.append(
            "preprocess must be standardize for data=imagenet, whose images do not fit in memory,"
            f" got preprocess={preprocess.kind.value}"
        )
    return errors


def _augment_errors(augment: AugmentConfig, data: DataConfig) -> list[str]:
    errors = []
    if augment.shift_px >= data.image_size:
        errors.append(f"augment.shift_px must be less than data.image_size={data.image_size}, got {augment.shift_px}")
    if augment.cutout_px >= data.image_size:
        errors.append(f"augment.cutout_px must be less than data.image_size={data.image_size}, got {augment.cutout_px}")
    if augment.kind is Augment.custom and not augment.builder:
        errors.append("augment.builder must be package.module:function for augment=custom, got nothing")
    if augment.kind is not Augment.extreme:
        return errors
    if augment.scale_max < augment.scale_min:
        errors.append(
            f"augment.scale_max must be at least augment.scale_min={augment.scale_min}, got {augment.scale_max}"
        )
    if augment.canvas_px < data.image_size:
        errors.append(f"augment.canvas_px must be at least data.image_size={data.image_size}, got {augment.canvas_px}")
    if data.source is Source.imagenet:
        errors.append("augment=extreme needs images in memory; data=imagenet takes augment=none or flip_shift")
    return errors


def _idle_knob_errors(config: Config) -> list[str]:
    """Refuse a knob that this cell ignores but that was moved from its default.

    Two ids for one and the same training would make an ablation compare a cell with itself.
    """
    defaults = _defaults()
    values = {key: value for key, _, value in knobs(config)}
    return [
        f"{key}={_text(values[key])} has no effect here: {why}. Leave it at {_text(defaults[key])}"
        for key, why in idle_knobs(config).items()
        if values[key] != defaults[key]
    ]


@cache
def _defaults() -> dict[str, Any]:
    defaults = {key: value for key, _, value in knobs(Config())}
    return defaults | {"optimizer.drop_at": _lowest_terms(tuple(defaults["optimizer.drop_at"]))}


def _builder_errors(model: ModelConfig) -> list[str]:
    if model.family is Family.custom and not model.builder:
        return ["model.builder must be package.module:function for model=extra/custom, got nothing"]
    return []


def idle_knobs(config: Config) -> dict[str, str]:
    """Return the keys that this cell ignores, each with the reason."""
    idle: dict[str, str] = {}
    model, augment = config.model, config.augment
    if model.family is Family.paper:
        idle |= _idle_in_paper_nets(model)
    else:
        used = _USED_BY[model.family]
        for item in dataclasses.fields(model):
            if item.name not in used | {"family"}:
                idle[f"model.{item.name}"] = f"model.family={model.family.value} does not use it"
    if model.family is not Family.custom and model.init is not Init.gaussian:
        idle["model.init_std"] = f"model.init={model.init.value} does not use it"
    if config.preprocess.kind is not Preprocess.gcn_zca:
        for name in ("gcn_scale", "zca_bias"):
            idle[f"preprocess.{name}"] = f"preprocess.kind={config.preprocess.kind.value} does not use it"
    for item in dataclasses.fields(augment):
        if item.name not in _drawn(augment.kind) | {"kind", "cutout_px", "mixup"}:
            idle[f"augment.{item.name}"] = f"augment.kind={augment.kind.value} does not use it"
    return idle | _idle_in_optimizer(config.optimizer)


def _idle_in_optimizer(optimizer: OptimizerConfig) -> dict[str, str]:
    idle: dict[str, str] = {}
    if optimizer.weight_decay == 0:
        idle["optimizer.decay_biases"] = "optimizer.weight_decay is 0"
    if optimizer.momentum == 0:
        idle["optimizer.nesterov"] = "optimizer.momentum is 0"
    if optimizer.schedule is Schedule.drops and not optimizer.drop_at:
        idle["optimizer.drop_factor"] = "optimizer.drop_at is empty"
    for kind, names in _USED_BY_KIND.items():
        if kind is not optimizer.kind:
            idle |= {f"optimizer.{name}": f"optimizer.kind={optimizer.kind.value} does not use it" for name in names}
    used = _USED_BY_SCHEDULE[optimizer.schedule]
    for name in set().union(*_USED_BY_SCHEDULE.values()) - used:
        idle[f"optimizer.{name}"] = f"optimizer.schedule={optimizer.schedule.value} does not use it"
    return idle


_USED_BY_KIND = {Optimizer.sgd: ("momentum", "nesterov"), Optimizer.adamw: ("beta1", "beta2", "eps")}
_USED_BY_SCHEDULE = {
    Schedule.drops: {"drop_at", "drop_factor"},
    Schedule.step: {"step_epochs", "drop_factor"},
    Schedule.cosine: {"end_factor"},
    Schedule.one_cycle: {"rise", "start_factor", "end_factor"},
}


def _drawn(kind: Augment) -> set[str]:
    match kind:
        case Augment.none:
            return set()
        case Augment.flip_shift:
            return {"flip_probability", "shift_px"}
        case Augment.extreme:
            return {item.name for item in dataclasses.fields(AugmentConfig)} - {"shift_px", "builder", "kwargs"}
        case Augment.custom:
            return {"builder", "kwargs"}


_USED_BY = {
    Family.custom: {"builder", "kwargs"},
    Family.large_all_cnn: {"width", "init", "init_std", "leaky_slope", "batch_norm", "dropout_input"},
    Family.all_cnn_b_imagenet: {
        "width",
        "class_relu",
        "init",
        "init_std",
        "batch_norm",
        "dropout_input",
        "dropout_hidden",
    },
}


def _idle_in_paper_nets(model: ModelConfig) -> dict[str, str]:
    idle = {
        "model.leaky_slope": "only large_all_cnn has LeakyReLU",
        "model.builder": "only model=extra/custom has a builder",
        "model.kwargs": "only model=extra/custom has a builder",
    }
    if model.variant not in (Variant.base, Variant.convpool):
        idle["model.pool_rounding"] = idle["model.pool_norm"] = f"{model.name} has no pooling"
    if (model.base, model.variant) != (Base.b, Variant.strided):
        idle["model.strided_b"] = f"{model.name} is not strided_cnn_b"
    if model.variant is not Variant.strided:
        idle["model.dropout_after"] = f"{model.name} is not a Strided net"
    elif model.dropout_after is DropoutAfter.pool_or_added_conv:
        idle["model.dropout_hidden"] = f"{model.name} has no dropout after its strided convolutions"
    elif model.dropout_hidden == 0:
        idle["model.dropout_after"] = "model.dropout_hidden is 0"
    return idle


def _text(value: Any) -> str:
    return value.value if isinstance(value, StrEnum) else str(value)
