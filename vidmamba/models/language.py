"""A decoder that starts from a published Mamba or Mamba-2 language model, as Hugging Face saves it.

Read is a folder of `MambaForCausalLM` or `Mamba2ForCausalLM` (state-spaces/mamba-130m-hf and kin):
its config.json, and its weights in one file or several.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from vidmamba.models.checkpoint_folder import read_json, read_weights
from vidmamba.models.decoder import DecoderConfig, TokenDecoder
from vidmamba.nn.mamba2 import Mamba2Config
from vidmamba.nn.mixer import MambaConfig

# what a config.json says by leaving a key out: the defaults of transformers' two config classes
_BOTH = {
    "layer_norm_epsilon": 1e-5,
    "expand": 2,
    "conv_kernel": 4,
    "use_bias": False,
    "use_conv_bias": True,
    "hidden_act": "silu",
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "mamba": _BOTH
    | {
        "vocab_size": 50280,
        "hidden_size": 768,
        "state_size": 16,
        "num_hidden_layers": 32,
        "time_step_rank": "auto",
        "tie_word_embeddings": True,
    },
    "mamba2": _BOTH
    | {
        "vocab_size": 32768,
        "hidden_size": 4096,
        "state_size": 128,
        "num_hidden_layers": 64,
        "num_heads": 128,
        "head_dim": 64,
        "n_groups": 8,
        "rms_norm": True,
        "time_step_limit": [0.0, float("inf")],
        "tie_word_embeddings": False,
    },
}


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """What a `TokenDecoder` gets beside what the language model has."""

    attend_every: int = 1
    """Blocks from one look at the video to the next; 0 never looks."""

    heads: int = 4
    """Sets of queries, keys and values of a look at the video; they divide the model's width."""

    memory_width: int = 0
    """F, the channels of the video's memory; 0 stands for the language model's own width."""

    new_tokens: int = 0
    """Tokens after the model's own, for times, say; they begin as the mean of its own."""

    dropout: float = 0.0
    """Share of what a block finds that is dropped in training."""

    def __post_init__(self) -> None:
        if self.new_tokens < 0:
            raise ValueError(f"new_tokens must not be negative, got {self.new_tokens}")


def load_language_model(folder: Path, config: LanguageConfig | None = None) -> TokenDecoder:
    """Return a decoder with the weights of a folder, in float32, that gives its model's logits.

    It gives them with a video too, until it is trained: what a look finds is at first times zero.

    Raises:
        ValueError: a file is missing or broken, the model is of another kind, a key of its config
            asks for what these blocks cannot do, or a weight is missing, unknown or misshapen.
    """
    config = config or LanguageConfig()
    shape = language_model_config(folder, config)
    own = replace(shape, vocabulary=shape.vocabulary - config.new_tokens)
    decoder = TokenDecoder(own)
    where, weights = read_weights(folder)
    _fill(decoder, _renamed(weights, own), where)
    _append_tokens(decoder, config.new_tokens)
    decoder.config = shape
    return decoder


def language_model_config(folder: Path, config: LanguageConfig | None = None) -> DecoderConfig:
    """Return the shape of the decoder that `load_language_model` builds of a folder.

    A decoder built of it takes the state of a trained one without the folder's weights.

    Raises:
        ValueError: as `load_language_model`, of config.json.
    """
    config = config or LanguageConfig()
    path = folder / "config.json"
    said = read_json(path)
    kind = said.get("model_type")
    if kind not in _DEFAULTS:
        _refuse(path, "model_type", kind, "only mamba and mamba2 can be read (the -hf folders)")
    keys = {**_DEFAULTS[kind], **{key: value for key, value in said.items() if value is not None}}
    _check(path, kind, keys)
    shape = DecoderConfig(
        vocabulary=keys["vocab_size"] + config.new_tokens,
        width=keys["hidden_size"],
        depth=keys["num_hidden_layers"],
        attend_every=config.attend_every,
        heads=config.heads,
        memory_width=config.memory_width,
        dropout=config.dropout,
        tied=keys["tie_word_embeddings"],
        norm_epsilon=float(keys["layer_norm_epsilon"]),
    )
    sizes = {key: keys[of] for key, of in (("state", "state_size"), ("conv_size", "conv_kernel"))}
    sizes["expand"] = int(keys["expand"])
    if kind == "mamba":
        return replace(shape, mixer="mamba1", mamba1=MambaConfig(**sizes))
    mamba2 = Mamba2Config(head_size=keys["head_dim"], groups=keys["n_groups"], **sizes)
    return replace(shape, mixer="mamba2", mamba2=mamba2)


def _check(path: Path, kind: str, keys: dict[str, Any]) -> None:
    """Refuse what would give other logits; whole numbers first, for the rest counts with them."""
    counts = ["vocab_size", "hidden_size", "state_size", "num_hidden_layers", "conv_kernel"]
    counts += ["num_heads", "head_dim", "n_groups"] if kind == "mamba2" else []
    for key in counts:
        if type(keys[key]) is not int or keys[key] < 1:
            _refuse(path, key, keys[key], "it must be a whole number of at least 1")
    if not isinstance(keys["expand"], int | float) or keys["expand"] not in range(1, 1000):
        _refuse(path, "expand", keys["expand"], "it must be a whole number of at least 1")
    inner = int(keys["expand"]) * keys["hidden_size"]
    able: dict[str, tuple[Any, ...]] = {
        "hidden_act": ("silu", "swish"),
        "use_bias": (False,),
        "use_conv_bias": (True, False),
        "tie_word_embeddings": (True, False),
        "intermediate_size": (inner,),
    }
    if kind == "mamba":
        able["time_step_rank"] = ("auto", -(-keys["hidden_size"] // 16))
    else:
        able["rms_norm"] = (True,)
        able["num_heads"] = (inner / keys["head_dim"],)
        able["time_step_limit"] = ([0.0, float("inf")], [0.0, {"__float__": "Infinity"}])
    for key, values in able.items():
        if key in keys and keys[key] not in values:
            _refuse(path, key, keys[key], f"these blocks can do {json.dumps(values[0])} alone")
    if kind == "mamba2" and keys["num_heads"] % keys["n_groups"]:
        _refuse(path, "n_groups", keys["n_groups"], f"it must divide {keys['num_heads']} heads")
    epsilon = keys["layer_norm_epsilon"]
    if not isinstance(epsilon, int | float) or epsilon <= 0:
        _refuse(path, "layer_norm_epsilon", epsilon, "it must be a number above 0")


def _refuse(path: Path, key: str, value: object, why: str) -> NoReturn:
    raise ValueError(f"{path}: {key} is {json.dumps(value)}; {why}")


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


def _fill(decoder: TokenDecoder, weights: dict[str, Tensor], where: Path) -> None:
    """Load all weights; what looks at the video is new, and what it finds is times zero."""
    own = decoder.state_dict()
    for name, parameter in own.items():
        if ".attention." in name:
            weights[name] = torch.zeros_like(parameter) if "out" in name.split(".") else parameter
        elif name.endswith("conv1d.bias"):
            # use_conv_bias false: a bias of zero is none
            weights.setdefault(name, torch.zeros_like(parameter))
    if missing := sorted(own.keys() - weights.keys()):
        raise ValueError(f"{where} lacks {len(missing)} of the weights: {', '.join(missing[:3])}")
    if unknown := sorted(weights.keys() - own.keys()):
        raise ValueError(
            f"{where} holds {len(unknown)} weights that no block of this model has: "
            f"{', '.join(unknown[:3])}"
        )
    for name, parameter in own.items():
        if weights[name].shape != parameter.shape:
            raise ValueError(
                f"{where}: {name} is {[*weights[name].shape]}, but config.json makes it "
                f"{[*parameter.shape]}"
            )
    if decoder.config.tied and not torch.equal(weights["logits.weight"], weights["embed.weight"]):
        raise ValueError(
            f"{where}: lm_head differs from the embeddings, but tie_word_embeddings is true; "
            "set it to false in config.json to keep both"
        )
    decoder.load_state_dict(weights)


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
