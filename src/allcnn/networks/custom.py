"""Nets that users build themselves: model=extra/custom model.builder=package.module:function."""

from torch import Tensor, nn

from allcnn.config import ModelConfig
from allcnn.networks.dropout import HashDropout
from allcnn.user_builder import builder_error, built


def build_custom(model: ModelConfig, *, num_classes: int, image_size: int, seed: int) -> nn.Module:
    """Return what the builder returns, with float32 outputs and its dropout made resumable.

    The builder initialises its net itself, with torch's global CPU generator seeded for it.
    Each nn.Dropout becomes a HashDropout, so that a resume is exact; one that the net calls
    in several places drops the same values in all of them, so give each place its own.
    What else draws from torch's generator (F.dropout, Dropout2d, stochastic depth) is seeded for
    each step by the training loop. Draws from numpy or Python's random are not seeded:
    they work, but a resumed cell draws other numbers.

    Raises ConfigError if the builder cannot be imported, called or used.
    """
    given = {"num_classes": num_classes, "image_size": image_size}
    network = built("model", model.builder, model.kwargs, given, seed=seed)
    if not isinstance(network, nn.Module):
        raise builder_error("model", model.builder, f"must return a torch.nn.Module, got {type(network).__name__}")
    _replace_dropout(network)
    network.register_forward_hook(_to_float32)
    return network


def _replace_dropout(network: nn.Module) -> None:
    replaced: dict[nn.Module, HashDropout] = {}
    for path, module in list(network.named_modules(remove_duplicate=False)):
        # p=1 draws nothing; subclasses of nn.Dropout may draw in a way of their own.
        if path and type(module) is nn.Dropout and module.p < 1:
            network.set_submodule(path, replaced.setdefault(module, HashDropout(module.p)))


def _to_float32(network: nn.Module, images: tuple[Tensor, ...], logits: object) -> object:
    """Cast the output of a forward pass; `check_network` tells a user about other types."""
    return logits.float() if isinstance(logits, Tensor) else logits
