"""torch.compile, checked on a batch before it is used."""

import getpass
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

Forward = Callable[[Tensor], Tensor]

# Share of the largest logit: bf16 rounds to 2^-9, and fused layers round less often than single ones.
_TOLERANCE = 0.05


def compiled(
    module: nn.Module, shapes: Sequence[tuple[int, ...]], context: torch.autocast, *, compare: bool
) -> tuple[Forward, str]:
    """Return the compiled module and "", or the module itself and the reason.

    shapes: of the batches [n, c, h, w] that it will get, each a graph of its own. context: what it runs in.
    compare: whether to compare the compiled module with it; it must then compute the same twice.
    """
    _configure_compiler()
    # dynamic=False: graphs of exact shapes, for the batch size and for the last batch.
    forward = torch.compile(module, dynamic=False)
    statistics = {name: buffer.clone() for name, buffer in module.named_buffers()}
    try:
        for shape in shapes:
            reason = _difference(module, forward, shape, context)
            if reason and compare:
                return module, f"torch.compile: {reason}"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a compiler, its tools or a kernel may raise
        return module, f"torch.compile: {type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"
    finally:
        for name, buffer in module.named_buffers():
            buffer.copy_(statistics[name])
    return forward, ""


def compiled_code_folder() -> Path:
    """Return where compiled code is kept: a folder for each kind of processor.

    torch's default depends only on the user: on a disk that two kinds of processors share, code for one crashes the
    other or computes other numbers there.
    """
    capability = torch.backends.cpu.get_cpu_capability()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux, where such a disk is rare
        lines = []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    kind = hashlib.sha256(f"{capability} {features}".encode()).hexdigest()[:10]
    return Path(tempfile.gettempdir(), f"torchinductor_{getpass.getuser()}_{kind}")


def _configure_compiler() -> None:
    import torch._dynamo
    import torch._inductor.config

    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(compiled_code_folder()))
    # Each net has a graph for each shape; by default torch silently stops compiling at eight.
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 1_000_000
    if hasattr(torch._inductor.config, "deterministic"):  # torch 2.12
        # Otherwise timing chooses how reductions are laid out.
        torch._inductor.config.deterministic = torch.are_deterministic_algorithms_enabled()


def _difference(module: nn.Module, forward: Forward, shape: tuple[int, ...], context: torch.autocast) -> str:
    """Return how the compiled module differs on a batch, "" if it does not; compiles its backward pass, too."""
    device = next(module.parameters()).device
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    images = images.contiguous(memory_format=torch.channels_last)
    with context:
        wanted, got = module(images).float(), forward(images).float()
    torch.autograd.grad(got.sum(), [weight for weight in module.parameters() if weight.requires_grad])
    size, difference = wanted.abs().max().item(), (wanted - got).abs().max().item()
    if difference <= _TOLERANCE * size:
        return ""
    return f"its logits differ by {difference:.3g} from the net's own, of which the largest is {size:.3g}"
