import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import MakeConfig
from test_train import BASE, CPU, few
from torch import Tensor, nn

from allcnn.data.splits import load_splits
from allcnn.networks.dropout import HashDropout
from allcnn.training import Execution, Training
from allcnn.training.compile import compiled, compiled_code_folder

SHAPES = [(4, 3, 8, 8), (2, 3, 8, 8)]
PLAIN = torch.autocast("cpu", enabled=False)


def net() -> nn.Module:
    parts = (HashDropout(0.2), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    return nn.Sequential(*parts).train()


def instead_of_torch_compile(monkeypatch: pytest.MonkeyPatch, made: Callable[[nn.Module], Any]) -> None:
    monkeypatch.setattr(torch, "compile", lambda module, **options: made(module))


def test_a_compiled_net_is_used_where_it_computes_what_the_net_computes(monkeypatch: pytest.MonkeyPatch):
    instead_of_torch_compile(monkeypatch, lambda module: lambda images: module(images))
    module = net()
    forward, why = compiled(module, SHAPES, PLAIN, compare=True)
    assert (forward is not module, why) == (True, "")


def test_a_compiler_that_fails_leaves_the_net_as_it_is_and_says_why(monkeypatch: pytest.MonkeyPatch):
    def broken(module: nn.Module) -> Any:
        def forward(images: Tensor) -> Tensor:
            raise RuntimeError("no C++ compiler found\nset CXX")

        return forward

    instead_of_torch_compile(monkeypatch, broken)
    module = net()
    forward, why = compiled(module, SHAPES, PLAIN, compare=True)
    assert (forward, why) == (module, "torch.compile: RuntimeError: no C++ compiler found")


def test_a_compiled_net_with_other_logits_is_not_used(monkeypatch: pytest.MonkeyPatch):
    instead_of_torch_compile(monkeypatch, lambda module: lambda images: 1.2 * module(images))
    module = net()
    forward, why = compiled(module, SHAPES, PLAIN, compare=True)
    assert forward is module
    assert why.startswith("torch.compile: its logits differ by ")


def test_a_net_that_draws_its_own_numbers_is_not_held_to_them(monkeypatch: pytest.MonkeyPatch):
    instead_of_torch_compile(monkeypatch, lambda module: lambda images: module(images))
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(192, 10))
    assert compiled(module, SHAPES, PLAIN, compare=False)[1] == ""


def test_the_trial_leaves_the_running_statistics_alone(monkeypatch: pytest.MonkeyPatch):
    instead_of_torch_compile(monkeypatch, lambda module: lambda images: module(images))
    module = net()
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    compiled(module, SHAPES, PLAIN, compare=True)
    assert all(torch.equal(buffer, before[name]) for name, buffer in module.named_buffers())


def test_too_little_memory_is_not_taken_for_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch):
    def full(module: nn.Module) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    instead_of_torch_compile(monkeypatch, lambda module: lambda images: full(module))
    with pytest.raises(torch.OutOfMemoryError):
        compiled(net(), SHAPES, PLAIN, compare=True)


def test_a_training_says_which_way_it_takes(make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch):
    def broken(module: nn.Module) -> Any:
        raise RuntimeError("no C++ compiler found")

    instead_of_torch_compile(monkeypatch, lambda module: lambda images: broken(module))
    config = make_small(*BASE)
    training = Training(config, few(load_splits(config, CPU.device)), Execution(CPU.device, threads=1, compiled=True))
    assert (training.compiled, training.fallback) == (False, "torch.compile: RuntimeError: no C++ compiler found")


def test_a_net_of_the_users_is_compiled_only_where_the_user_asks_for_it(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "plain_net.py").write_text(
        "from torch import nn\n"
        "def build(num_classes, image_size):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size**2, num_classes))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    instead_of_torch_compile(monkeypatch, lambda module: lambda images: module(images))
    custom = ("model=extra/custom", "model.builder=plain_net:build", "model.width=1")
    for overrides, wanted in (((), False), (("trainer.compile=true",), True)):
        config = make_small(*BASE, *custom, *overrides)
        splits = few(load_splits(config, CPU.device))
        assert Training(config, splits, Execution(CPU.device, threads=1, compiled=True)).compiled is wanted


def test_processors_that_can_do_other_things_share_no_compiled_code(monkeypatch: pytest.MonkeyPatch):
    here = compiled_code_folder()
    assert compiled_code_folder() == here
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "another")
    assert compiled_code_folder() != here


def test_compiled_code_goes_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    instead_of_torch_compile(monkeypatch, lambda module: lambda images: module(images))
    for given, wanted in [(str(tmp_path), str(tmp_path)), (None, str(compiled_code_folder()))]:
        with pytest.MonkeyPatch.context() as patch:
            if given:
                patch.setenv("TORCHINDUCTOR_CACHE_DIR", given)
            else:
                patch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
            compiled(net(), SHAPES, PLAIN, compare=True)
            assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == wanted
