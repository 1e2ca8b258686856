"""Convolution, batch norm and activation as one operation: fast frozen CNNs without a compiler."""

import copy
import logging
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

logger = logging.getLogger(__name__)

# oneDNN's names for the activations that it computes while a convolution's output is in registers
_ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.Identity: ("none", []),
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.SiLU: ("swish", []),
    nn.Hardswish: ("hardswish", []),
}
_TOLERANCE = 1e-4  # of the largest output; float32 rounding through a deep network stays below


def fold_for_cpu(model: nn.Module, example: Tensor) -> nn.Module:
    """Copy a network in eval mode with every batch norm folded into the convolution before it.

    Where PyTorch has oneDNN, the convolution's weights are laid out for this CPU once and the
    activation is fused. The copy computes the same numbers up to rounding. That is checked on
    ``example``; a network that uses a convolution's output twice comes back as it was.

    Args:
        model: A network in eval mode, on the CPU.
        example: One input batch, float32 and channels-last.
    """
    folded = copy.deepcopy(model)
    with torch.no_grad():
        pairs = _find_pairs(folded, example)
        if not pairs:
            return model
        names = {module: name for name, module in folded.named_modules()}
        for convolution, norm in pairs:
            activation = getattr(norm, "act", None) or nn.Identity()
            _fold(convolution, norm)
            if can_fuse(convolution, activation):
                _replace(folded, names[convolution], FusedConvolution(convolution, activation))
                activation = nn.Identity()
            _replace(folded, names[norm], activation)
        expected, got = model(example), folded(example)
    error = float((got - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
    if not error < _TOLERANCE:
        logger.info("batch norms are kept: folding them changes the features by %.1e", error)
        return model
    return folded


def can_fuse(convolution: nn.Conv2d, activation: nn.Module) -> bool:
    """Tell whether ``FusedConvolution`` can stand for the two on this machine."""
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
        and type(activation) in _ACTIVATIONS
        and convolution.padding_mode == "zeros"
        and not isinstance(convolution.padding, str)
    )


class FusedConvolution(nn.Module):
    """A convolution with its activation, its weights laid out for this CPU by oneDNN.

    These are the operations that ``torch.compile`` would choose, called without its compiler.
    """

    def __init__(self, convolution: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__()
        self.kernel_size, self.stride = convolution.kernel_size, convolution.stride
        self.dilation, self.groups = convolution.dilation, convolution.groups
        # timm's "same" padding depends on the input's size
        self.same = type(convolution) is not nn.Conv2d
        self.padding = (0, 0) if self.same else convolution.padding
        self.activation = _ACTIVATIONS[type(activation)]
        weight = convolution.weight.detach().to_mkldnn()
        self.weight = torch._C._nn.mkldnn_reorder_conv2d_weight(
            weight, [*self.padding], [*self.stride], [*self.dilation], self.groups
        )
        self.bias = None if convolution.bias is None else convolution.bias.detach().clone()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x`` [T, C, H, W]."""
        if self.same:
            x = F.pad(x, self._same_padding(x.shape[-2], x.shape[-1]))
        name, scalars = self.activation
        convolve: Any = torch.ops.mkldnn._convolution_pointwise
        return convolve(
            x,
            self.weight,
            self.bias,
            self.padding,
            self.stride,
            self.dilation,
            self.groups,
            name,
            scalars,
            "",
        )

    def _same_padding(self, height: int, width: int) -> list[int]:
        """TensorFlow's: ceil(size / stride) pixels come out, the odd one is padded at the end."""
        padding: list[int] = []
        for size, axis in ((width, 1), (height, 0)):
            span = (self.kernel_size[axis] - 1) * self.dilation[axis] + 1
            steps = -(-size // self.stride[axis]) - 1
            missing = max(steps * self.stride[axis] + span - size, 0)
            padding += [missing // 2, missing - missing // 2]
        return padding


def _find_pairs(model: nn.Module, example: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions whose output goes, as the very same tensor, into one batch norm alone."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # holds the tensors, so that ids stay theirs
    used: Counter[int] = Counter()
    pairs: list[tuple[int, nn.Conv2d, nn.BatchNorm2d]] = []

    def after(module: nn.Module, _inputs: Any, output: Any) -> None:
        # other sub-classes compute their weights in each forward
        if type(module) is nn.Conv2d or type(module).__name__ == "Conv2dSame":
            assert isinstance(module, nn.Conv2d)
            made[id(output)] = (module, output)

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if not inputs or id(inputs[0]) not in made or isinstance(module, nn.Identity):
            return
        used[id(inputs[0])] += 1
        if isinstance(module, nn.BatchNorm2d):
            pairs.append((id(inputs[0]), made[id(inputs[0])][0], module))

    leaves = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) or not [*m.children()]]
    hooks = [m.register_forward_hook(after) for m in leaves]
    hooks += [m.register_forward_pre_hook(before) for m in leaves]
    model(example)
    for hook in hooks:
        hook.remove()
    calls = Counter(module for _, *both in pairs for module in both)
    return [
        (convolution, norm)
        for key, convolution, norm in pairs
        if used[key] == 1 and calls[convolution] == calls[norm] == 1
    ]


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Scale the weights and shift the bias in place, computing in float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = -norm.running_mean.double() * scale
    if norm.affine:
        scale = scale * norm.weight.double()
        shift = shift * norm.weight.double() + norm.bias.double()
    if convolution.bias is not None:
        shift = shift + convolution.bias.double() * scale
    weight = convolution.weight.double() * scale[:, None, None, None]
    convolution.weight = nn.Parameter(
        weight.float().contiguous(memory_format=torch.channels_last), requires_grad=False
    )
    convolution.bias = nn.Parameter(shift.float(), requires_grad=False)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
