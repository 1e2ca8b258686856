"""A decoder that starts from a published Mamba or Mamba-2 language model, as Hugging Face saves it.

Read is a folder of `MambaForCausalLM` or `Mamba2ForCausalLM` (state-spaces/mamba-130m-hf and kin):
its config.json, and its weights in one file or several.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from vidmamba.models.checkpoint_folder import read_weights
from vidmamba.models.decoder import DecoderConfig, TokenDecoder
from vidmamba.models.language_config import LanguageConfig, language_model_config, read_keys

__all__ = ["LanguageConfig", "language_model_config", "load_language_model"]


def load_language_model(folder: Path, config: LanguageConfig | None = None) -> TokenDecoder:
    """Return a decoder with the weights of a folder, in float32, that gives its model's logits.

    It gives them with a video too, until it is trained: what a look finds is at first times zero.

    Raises:
        ValueError: a file is missing or broken, the model is of another kind, a key of its config
            asks for what these blocks cannot do, or a weight is missing, unknown, misshapen or no
            finite number.
    """
    config = config or LanguageConfig()
    shape = language_model_config(folder, config)
    conv_bias = read_keys(folder)["use_conv_bias"]
    own = replace(shape, vocabulary=shape.vocabulary - config.new_tokens)
    decoder = TokenDecoder(own)
    where, weights = read_weights(folder)
    _fill(decoder, _renamed(weights, own), where, conv_bias=conv_bias)
    _append_tokens(decoder, config.new_tokens)
    decoder.config = shape
    return decoder


def _renamed(weights: dict[str, Tensor], config: DecoderConfig) -> dict[str, Tensor]:
    """Give the weights of `MambaForCausalLM` and `Mamba2ForCausalLM` the names of a decoder."""
    names = {
        "backbone.embeddings.": "embed.",
        "backbone.embedding.": "embed.",  # the authors' package, and the oldest -hf folders
        "backbone.layers.": "blocks.",
        "backbone.norm_f.": "norm.",
        "lm_head.": "logits.",
    }
    renamed = {}
    for name, weight in weights.items():
        prefix = next((prefix for prefix in names if name.startswith(prefix)), None)
        renamed[name if prefix is None else names[prefix] + name.removeprefix(prefix)] = weight
    if config.tied and "embed.weight" in renamed:
        renamed.setdefault("logits.weight", renamed["embed.weight"])
    return renamed


def _fill(
    decoder: TokenDecoder, weights: dict[str, Tensor], where: Path, *, conv_bias: bool
) -> None:
    """Load all weights; what looks at the video is new, and what it finds is times zero."""
    own = decoder.state_dict()
    new = {name: weight for name, weight in own.items() if ".attention." in name}
    for name in new:
        if name.endswith(".out.weight"):
            new[name] = torch.zeros_like(new[name])
    if not conv_bias:
        # a bias of zero is none
        biases = [name for name in own if name.endswith("conv1d.bias")]
        new |= {name: torch.zeros_like(own[name]) for name in biases}
    _match(weights, {name: own[name] for name in own if name not in new}, where)
    if decoder.config.tied and not torch.equal(weights["logits.weight"], weights["embed.weight"]):
        raise ValueError(
            f"{where}: lm_head differs from the embeddings, but tie_word_embeddings is true; "
            "set it to false in config.json to keep both"
        )
    decoder.load_state_dict(weights | new)


def _match(weights: dict[str, Tensor], own: dict[str, Tensor], where: Path) -> None:
    """Refuse weights that are not those of the blocks, by name, shape and kind of number."""
    if missing := sorted(own.keys() - weights.keys()):
        raise ValueError(f"{where} lacks {len(missing)} of the weights: {', '.join(missing[:3])}")
    if unknown := sorted(weights.keys() - own.keys()):
        raise ValueError(
            f"{where} holds {len(unknown)} weights that no block of this model has: "
            f"{', '.join(unknown[:3])}"
        )
    for name, parameter in own.items():
        weight = weights[name]
        if weight.shape != parameter.shape:
            raise ValueError(
                f"{where}: {name} is {[*weight.shape]}, but config.json makes it "
                f"{[*parameter.shape]}"
            )
        if not weight.is_floating_point():
            raise ValueError(f"{where}: {name} is {weight.dtype}; only floating-point is read")
        if not weight.isfinite().all():
            raise ValueError(f"{where}: {name} holds values that are no finite numbers")


def _append_tokens(decoder: TokenDecoder, count: int) -> None:
    if not count:
        return
    decoder.embed.weight = _longer(decoder.embed.weight, count)
    if decoder.config.tied:
        decoder.logits.weight = decoder.embed.weight
    else:
        decoder.logits.weight = _longer(decoder.logits.weight, count)
    decoder.embed.num_embeddings += count
    decoder.logits.out_features += count


def _longer(weight: Tensor, count: int) -> nn.Parameter:
    own = weight.detach()
    return nn.Parameter(torch.cat([own, own.mean(dim=0).expand(count, -1)]))
