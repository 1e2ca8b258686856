"""What the config.json of a published Mamba or Mamba-2 language model makes of a decoder."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from vidmamba.models.checkpoint_folder import read_json
from vidmamba.models.decoder import DecoderConfig
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


def language_model_config(folder: Path, config: LanguageConfig | None = None) -> DecoderConfig:
    """Return the shape of the decoder that `load_language_model` builds of a folder.

    A decoder built of it takes the state of a trained one without the folder's weights.

    Raises:
        ValueError: as `load_language_model`, of config.json.
    """
    config = config or LanguageConfig()
    keys = read_keys(folder)
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
    if keys["model_type"] == "mamba":
        return replace(shape, mixer="mamba1", mamba1=MambaConfig(**sizes))
    mamba2 = Mamba2Config(head_size=keys["head_dim"], groups=keys["n_groups"], **sizes)
    return replace(shape, mixer="mamba2", mamba2=mamba2)


def read_keys(folder: Path) -> dict[str, Any]:
    """Return what a folder's config.json says and leaves to the defaults.

    Raises:
        ValueError: the model is of another kind, or a key asks for what these blocks cannot do.
    """
    path = folder / "config.json"
    said = read_json(path)
    kind = said.get("model_type")
    if kind not in _DEFAULTS:
        _refuse(path, "model_type", kind, "only mamba and mamba2 can be read (the -hf folders)")
    keys = {**_DEFAULTS[kind], **{key: value for key, value in said.items() if value is not None}}
    _check(path, kind, keys)
    return keys


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
        able["time_step_limit"] = ([0.0, float("inf")], [0.0, {"__float__": "Infinity"}])
    for key, values in able.items():
        if key in keys and keys[key] not in values:
            _refuse(path, key, keys[key], f"these blocks can do {json.dumps(values[0])} alone")
    if kind == "mamba2" and keys["num_heads"] * keys["head_dim"] != inner:
        why = f"with head_dim {keys['head_dim']} it must make expand * hidden_size = {inner}"
        _refuse(path, "num_heads", keys["num_heads"], why)
    if kind == "mamba2" and keys["num_heads"] % keys["n_groups"]:
        _refuse(path, "n_groups", keys["n_groups"], f"it must divide {keys['num_heads']} heads")
    epsilon = keys["layer_norm_epsilon"]
    if type(epsilon) not in (int, float) or not 0 < epsilon < 1:
        _refuse(path, "layer_norm_epsilon", epsilon, "it must be a number in (0, 1)")
    if "quantization_config" in keys:
        why = "save the model unquantised, in a floating-point type"
        _refuse(path, "quantization_config", keys["quantization_config"], why)


def _refuse(path: Path, key: str, value: object, why: str) -> NoReturn:
    raise ValueError(f"{path}: {key} is {json.dumps(value)}; {why}")
