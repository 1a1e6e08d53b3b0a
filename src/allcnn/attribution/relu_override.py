"""A forward pass whose ReLUs and poolings obey a rule, however they are written; other operations are refused.

Modules of any kind end in torch's functions, so these are what is overridden (torch.overrides). What a function
computed where this cannot see is refused where it is used, and what is no ReLU is found in autograd's graph
(`linear_ops`). The plain gradient is never returned silently.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from allcnn.attribution import linear_ops, relu_calls
from allcnn.attribution.rules import Pooling, Rule, ruled_norm_pool, ruled_relu, switchless_pool
from allcnn.networks.pooling import NormPool


class AttributionError(ValueError):
    """A network, image or unit that cannot be attributed, with the reason."""


class ReluOverride(TorchFunctionMode):
    """While it is entered, the forward pass of `network` obeys the rule; enter it once, and go back outside of it.

    Meanwhile no parameter asks for its gradient: what asks for one comes from the image.
    named: whether a refusal names the module too, which costs time at each of its calls.
    """

    def __init__(self, network: nn.Module, rule: Rule, pooling: Pooling, *, named: bool = True) -> None:
        super().__init__()
        self._network, self._rule, self._pooling, self._named = network, rule, pooling, named
        self._paths = [""]  # of the modules that are being called
        self._pooled: list[Tensor] = []  # the inputs of a NormPool that is being called
        self._makers: dict[Node, str] = {}  # what made a node: a function, and the module that called it
        self._vetted: set[Node | None] = set()  # nodes checked already; the graph cannot tell them apart
        self._switches: list[Tensor] = []  # that poolings returned
        self._hooks: list[RemovableHandle] = []
        self._asking: list[nn.Parameter] = []  # parameters whose requires_grad is restored at the end
        self._stance = ExitStack()

    def __enter__(self) -> "ReluOverride":
        try:
            # A compiled part is not seen. Where nothing was compiled, dynamo is not loaded, which would take seconds.
            if "torch._dynamo" in sys.modules:
                self._stance.enter_context(torch.compiler.set_stance("force_eager"))
            for path, module in self._network.named_modules():
                if self._named or type(module) is NormPool:
                    self._hook(path, module)
            for parameter in self._network.parameters():
                if parameter.requires_grad:
                    self._asking.append(parameter)
                    parameter.requires_grad_(False)
        except BaseException:
            self._restore()
            raise
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._restore()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function, or its replacement under the rule."""
        kwargs = kwargs or {}
        given = [each for each in relu_calls.tensors((*args, *kwargs.values())) if each.requires_grad]
        if self._pooled or not (given or self._switches):
            return func(*args, **kwargs)
        name = relu_calls.name_of(func)
        self._check_given(name, args, kwargs, given)
        made = self._replaced(func, name, args, kwargs)
        if ruled := made is not None:
            self._check(name, linear_ops.objection_to_result(name, args, made))
        else:
            made = func(*args, **kwargs)
            self._check(name, linear_ops.objection_to_call(name, args, kwargs, made))
        # What was given may have been changed in place, which renews the node of the whole that it is a part of.
        changed = [_origin(each) for each in given]
        self._remember(
            name, [*changed, *relu_calls.tensors((made,))], writes=ruled or linear_ops.may_write(name, given, kwargs)
        )
        return made

    def check(self, activations: Tensor) -> None:
        """Raise AttributionError if anything between the image and these activations does not obey."""
        self._paths = [""]
        self._check_given("the layer's output", (), {}, [activations])
        assert activations.grad_fn is not None
        seen, waiting = {activations.grad_fn}, [activations.grad_fn]
        while waiting:
            node = waiting.pop()
            if node not in self._vetted:
                self._check(self._makers.get(node, node.name()), linear_ops.objection_to_node(node, self._pooling))
            before = [each for each, _ in node.next_functions if each is not None]
            waiting += [each for each in dict.fromkeys(before) if each not in seen]
            seen.update(before)

    def _restore(self) -> None:
        for hook in self._hooks:
            hook.remove()
        for parameter in self._asking:
            parameter.requires_grad_(True)
        self._stance.close()

    def _hook(self, path: str, module: nn.Module) -> None:
        # A subclass may pool otherwise: what it calls is overridden as in any module.
        pools = type(module) is NormPool

        def enters(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            self._paths.append(path)
            if not pools:
                return None
            self._pooled.append(args[0])
            return (args[0].detach(),)

        def leaves(module: nn.Module, args: tuple[Any, ...], made: Any) -> Any:
            if pools:
                assert isinstance(module, NormPool)
                made = ruled_norm_pool(made, self._pooled[-1], module, self._pooling)
                self._remember("NormPool", [made], writes=False)
                self._pooled.pop()
            self._paths.pop()
            return made

        self._hooks.append(module.register_forward_pre_hook(enters))
        # Before the user's own hooks, so that these see what the module returns under the rule.
        self._hooks.append(module.register_forward_hook(leaves, prepend=True))

    def _replaced(
        self, func: Callable[..., Any], name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Tensor | None:
        inputs = relu_calls.relu_input(name, args, kwargs)
        if inputs is not None and inputs.requires_grad:
            made = ruled_relu(inputs, self._rule)
            self._vetted.add(made.grad_fn)
            return inputs.copy_(made) if relu_calls.in_place(name, args, kwargs) else made
        if name == "max_pool2d" and self._pooling is Pooling.switchless:
            return _switchless(func, args, kwargs)
        return None

    def _check_given(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], given: Iterable[Tensor]) -> None:
        for tensor in given:
            node = _origin(tensor).grad_fn
            if node is not None and node not in self._makers:
                hidden = f"it takes what {node.name()} made where this cannot see (scripted, traced, a custom Function)"
                self._check(name, hidden)
        if self._switches:
            taken = {id(each) for each in relu_calls.tensors((*args, *kwargs.values()))}
            if any(id(each) in taken for each in self._switches):
                self._check(name, "it takes the switches of a pooling")

    def _remember(self, name: str, tensors: Iterable[Tensor], *, writes: bool) -> None:
        """Note who made the tensors' nodes."""
        for tensor in tensors:
            if not tensor.requires_grad and linear_ops.POOLS.fullmatch(name):
                self._switches.append(tensor)
            for node in (_origin(tensor).grad_fn, tensor.grad_fn):
                if node is not None and node not in self._makers:
                    self._makers[node] = f"{name} in {self._paths[-1] or 'the network'}"
                    if writes and linear_ops.is_write(node):
                        self._vetted.add(node)

    def _check(self, what: str, objection: str | None) -> None:
        if objection is None:
            return
        where = f" in {self._paths[-1]}" if " in " not in what and self._paths[-1] else ""
        raise AttributionError(
            f"{what}{where}: {objection}, so that no rule says how a signal passes it back;"
            " put a ReLU in its place, or choose a layer before it"
        )


def _origin(tensor: Tensor) -> Tensor:
    """Return the tensor that this one is a part of. Autograd renews the nodes of parts, not those of the whole."""
    return tensor._base if tensor._is_view() and tensor._base is not None else tensor


def _switchless(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    if given.get("return_indices"):
        return None
    inputs = given.pop("input")
    kernel = given["kernel_size"]
    return switchless_pool(
        func(inputs.detach(), **given),
        inputs,
        kernel=kernel,
        stride=given.get("stride") or kernel,
        padding=given.get("padding", 0),
        dilation=given.get("dilation", 1),
    )
