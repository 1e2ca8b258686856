"""Language models of `transformers`, saved with random weights, read back, and compared by logits.

`MambaForCausalLM` and `Mamba2ForCausalLM` themselves are the reference, of prompts and of steps.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM

from vidmamba.models.decoder import TokenDecoder
from vidmamba.models.language import LanguageConfig, language_model_config, load_language_model

Model = MambaForCausalLM | Mamba2ForCausalLM

MODELS: dict[str, dict[str, Any]] = {
    "mamba": {"state_size": 5, "hidden_size": 40},
    "mamba, untied, no bias of the convolution": {
        "tie_word_embeddings": False,
        "use_conv_bias": False,
        "conv_kernel": 3,
        "residual_in_fp32": False,
    },
    "mamba, other sizes": {"expand": 3, "hidden_size": 24, "layer_norm_epsilon": 0.1},
    "mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 1, "state_size": 8},
    "mamba2, tied, groups": {
        "num_heads": 8,
        "head_dim": 8,
        "n_groups": 2,
        "state_size": 16,
        "tie_word_embeddings": True,
        "layer_norm_epsilon": 0.1,
        "chunk_size": 8,
    },
    "mamba2, no bias of the convolution": {
        "num_heads": 3,
        "head_dim": 32,
        "n_groups": 3,
        "expand": 3,
        "use_conv_bias": False,
        "conv_kernel": 2,
        "residual_in_fp32": False,
    },
}
WORDS = 23


def saved(name: str, folder: Path, **changes: Any) -> Model:
    """A model of random weights, none of them left at what it is initialised to, in a folder."""
    sizes = {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 3} | MODELS[name]
    model: Model
    if name.startswith("mamba2"):
        model = Mamba2ForCausalLM(Mamba2Config(**sizes)).eval()
    else:
        model = MambaForCausalLM(MambaConfig(**sizes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder, **changes)
    return model


@pytest.fixture(params=[*MODELS])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def close(ours: Tensor, theirs: Tensor) -> None:
    assert theirs.std() > 0.1, "logits this small would prove little"
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


def logits_of(folder: Path, tokens: Tensor, config: LanguageConfig | None = None) -> Tensor:
    logits: Tensor = load_language_model(folder, config).eval()(tokens)
    return logits.detach()


@torch.no_grad()
def test_logits_of_a_prompt_and_of_each_step_after_it_equal_transformers(
    name: str, tmp_path: Path
) -> None:
    theirs = saved(name, tmp_path)
    ours = load_language_model(tmp_path).eval()
    prompt, after = torch.randint(WORDS, (2, 13)), torch.randint(WORDS, (2, 6))
    told = theirs(torch.cat([prompt, after], dim=1)).logits
    close(ours(torch.cat([prompt, after], dim=1)), told)
    logits, state = ours.step(prompt, ours.begin(2))
    close(logits, told[:, :13])
    for token, expected in zip(after.split(1, dim=1), told[:, 13:].split(1, dim=1), strict=True):
        logits, state = ours.step(token, state)
        close(logits, expected)


@torch.no_grad()
def test_a_video_changes_nothing_before_training_and_something_after_a_step_of_it(
    name: str, tmp_path: Path
) -> None:
    theirs = saved(name, tmp_path)
    ours = load_language_model(tmp_path, LanguageConfig(memory_width=6, attend_every=2)).eval()
    tokens, memory = torch.randint(WORDS, (2, 5)), torch.randn(2, 9, 6)
    close(ours(tokens, memory=memory), theirs(tokens).logits)
    with torch.enable_grad():
        ours(tokens, memory=memory).square().mean().backward()
    torch.optim.SGD(ours.parameters(), lr=1.0).step()
    assert not torch.equal(ours(tokens, memory=memory), ours(tokens, memory=-memory))


@torch.no_grad()
def test_new_tokens_leave_the_logits_of_the_others(name: str, tmp_path: Path) -> None:
    theirs = saved(name, tmp_path)
    config = LanguageConfig(new_tokens=4)
    ours = load_language_model(tmp_path, config)
    tokens = torch.randint(WORDS, (2, 5))
    close(ours(tokens)[..., :WORDS], theirs(tokens).logits)
    assert ours(torch.tensor([[WORDS + 3]])).shape == (1, 1, WORDS + 4)
    assert ours.config.vocabulary == WORDS + 4
    again = TokenDecoder(language_model_config(tmp_path, config))
    again.load_state_dict(ours.state_dict())
    assert torch.equal(again(tokens), ours(tokens))


def test_weights_in_shards_and_in_pickles_give_the_same_logits(tmp_path: Path) -> None:
    model = saved("mamba", tmp_path / "whole")
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len([*(tmp_path / "shards").glob("*.safetensors")]) > 1
    weights = load_file(tmp_path / "whole" / "model.safetensors")
    for kind in ("pickle", "pickles"):
        (tmp_path / kind).mkdir()
        config = (tmp_path / "whole" / "config.json").read_text()
        (tmp_path / kind / "config.json").write_text(config)
    torch.save(weights, tmp_path / "pickle" / "pytorch_model.bin")
    part_of: dict[str, str] = {}
    for number, part in enumerate(([*weights][:5], [*weights][5:])):
        file = f"pytorch_model-{number}.bin"
        torch.save({key: weights[key] for key in part}, tmp_path / "pickles" / file)
        part_of |= dict.fromkeys(part, file)
    index = {"weight_map": part_of}
    (tmp_path / "pickles" / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    tokens = torch.randint(WORDS, (1, 7))
    expected = logits_of(tmp_path / "whole", tokens)
    close(expected, model(tokens).logits.detach())
    for kind in ("shards", "pickle", "pickles"):
        assert torch.equal(logits_of(tmp_path / kind, tokens), expected), kind


def test_half_precision_weights_become_float32(tmp_path: Path) -> None:
    model = saved("mamba2", tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({key: weight.bfloat16() for key, weight in load_file(path).items()}, path)
    model.load_state_dict({key: w.bfloat16().float() for key, w in model.state_dict().items()})
    ours = load_language_model(tmp_path)
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    tokens = torch.randint(WORDS, (1, 7))
    close(ours(tokens).detach(), model(tokens).logits.detach())


def test_a_config_that_leaves_the_usual_out_is_read_as_transformers_reads_it(
    tmp_path: Path,
) -> None:
    model = saved("mamba", tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    kept = ("model_type", "vocab_size", "hidden_size", "state_size", "num_hidden_layers")
    (tmp_path / "config.json").write_text(json.dumps({key: said[key] for key in kept}))
    tokens = torch.randint(WORDS, (1, 7))
    again = MambaForCausalLM.from_pretrained(tmp_path).eval()
    close(logits_of(tmp_path, tokens), again(tokens).logits.detach())
    close(logits_of(tmp_path, tokens), model(tokens).logits.detach())


def test_the_older_name_of_the_embeddings_is_known(tmp_path: Path) -> None:
    model = saved("mamba", tmp_path)
    path = tmp_path / "model.safetensors"
    weights = {key.replace("embeddings", "embedding"): w for key, w in load_file(path).items()}
    save_file(weights, path)
    tokens = torch.randint(WORDS, (1, 7))
    close(logits_of(tmp_path, tokens), model(tokens).logits.detach())


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("mamba", "model_type", "falcon_mamba"),
        ("mamba", "use_bias", True),
        ("mamba", "hidden_act", "gelu"),
        ("mamba", "time_step_rank", 7),
        ("mamba", "intermediate_size", 81),
        ("mamba", "expand", 1.5),
        ("mamba", "expand", "two"),
        ("mamba", "hidden_size", 0),
        ("mamba", "num_hidden_layers", "3"),
        ("mamba", "layer_norm_epsilon", 0),
        ("mamba", "layer_norm_epsilon", float("nan")),
        ("mamba", "layer_norm_epsilon", True),
        ("mamba", "quantization_config", {"quant_method": "bitsandbytes"}),
        ("mamba2", "use_bias", True),
        ("mamba2", "time_step_limit", [0.001, 0.1]),
        ("mamba2", "num_heads", 5),
        ("mamba2", "n_groups", 3),
        ("mamba2", "rms_norm", False),
    ],
)
def test_what_the_blocks_cannot_do_is_refused_by_the_name_of_its_key(
    name: str, key: str, value: object, tmp_path: Path
) -> None:
    saved(name, tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=rf"config\.json: {key} is ") as error:
        load_language_model(tmp_path)
    assert json.dumps(value) in str(error.value)


def test_missing_unknown_and_misshapen_weights_are_refused_by_name(tmp_path: Path) -> None:
    saved("mamba", tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    key = "backbone.layers.1.mixer.dt_proj.bias"
    for changed, message in (
        ({k: w for k, w in weights.items() if k != key}, r"lacks 1 .*blocks\.1\.mixer\.dt_proj"),
        (weights | {"backbone.layers.7.extra": torch.ones(1)}, r"holds 1 .*blocks\.7\.extra"),
        (weights | {key: torch.ones(3)}, r"dt_proj\.bias is \[3\], but .* \[80\]"),
        (weights | {key: weights[key].to(torch.int8)}, r"dt_proj\.bias is torch\.int8"),
        (weights | {key: weights[key] / 0}, r"dt_proj\.bias holds .* no finite numbers"),
        (weights | {"lm_head.weight": torch.ones(WORDS, 40)}, "tie_word_embeddings is true"),
    ):
        save_file(changed, path)
        with pytest.raises(ValueError, match=message):
            load_language_model(tmp_path)


@pytest.mark.parametrize("name", ["mamba", "mamba2"])
def test_a_bias_of_the_convolution_is_there_if_and_only_if_the_config_says_so(
    name: str, tmp_path: Path
) -> None:
    saved(name, tmp_path)
    path, key = tmp_path / "model.safetensors", "backbone.layers.1.mixer.conv1d.bias"
    weights = load_file(path)
    save_file({k: w for k, w in weights.items() if k != key}, path)
    with pytest.raises(ValueError, match=r"lacks 1 .*blocks\.1\.mixer\.conv1d\.bias"):
        load_language_model(tmp_path)
    save_file(weights, path)
    said = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(said | {"use_conv_bias": False}))
    with pytest.raises(ValueError, match=r"holds 3 .*blocks\.0\.mixer\.conv1d\.bias"):
        load_language_model(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mamba", "mamba2"])
@torch.no_grad()
def test_logits_at_the_size_of_the_published_130_million_equal_transformers(
    name: str, tmp_path: Path
) -> None:
    # 0.02, as such models are trained from: at the class's own 0.1 24 blocks amplify rounding so
    # that either side is 3e-4 off the same sums in float64
    sizes: dict[str, Any] = {"hidden_size": 768, "num_hidden_layers": 24, "initializer_range": 0.02}
    theirs: Model
    if name == "mamba":
        theirs = MambaForCausalLM(MambaConfig(vocab_size=50280, **sizes)).eval()
    else:
        heads: dict[str, Any] = {
            "num_heads": 24,
            "head_dim": 64,
            "n_groups": 1,
            "tie_word_embeddings": True,
        }
        theirs = Mamba2ForCausalLM(Mamba2Config(vocab_size=50288, **sizes, **heads)).eval()
    theirs.save_pretrained(tmp_path)
    ours = load_language_model(tmp_path).eval()
    prompt, after = torch.randint(50000, (1, 24)), torch.randint(50000, (1, 3))
    told = theirs(torch.cat([prompt, after], dim=1)).logits
    logits, state = ours.step(prompt, ours.begin(1))
    close(logits, told[:, :24])
    for token, expected in zip(after.split(1, dim=1), told[:, 24:].split(1, dim=1), strict=True):
        logits, state = ours.step(token, state)
        close(logits, expected)
