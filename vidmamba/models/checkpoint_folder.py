"""Read the files of a Hugging Face checkpoint folder."""

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""The names that a folder's weights go by, those looked for first first."""


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        ValueError: there is no such file, or it holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold an object, got {type(value).__name__}")
    return value


def read_weights(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """Return the file that names a folder's weights, and the weights by their names, on the CPU.

    Raises:
        ValueError: there are none, a part is missing or broken, or an index names no part.
    """
    main = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if main is None:
        raise ValueError(f"{folder} holds no weights; looked for {', '.join(WEIGHTS)}")
    if main.suffix != ".json":
        return main, _read_part(main)
    parts = read_json(main).get("weight_map")
    if not isinstance(parts, dict) or not parts:
        raise ValueError(f"{main} must map the names of weights to files under 'weight_map'")
    weights: dict[str, Tensor] = {}
    for name in sorted(set(map(str, parts.values()))):
        if Path(name).name != name:
            raise ValueError(f"{main} names {name!r}, which is no file of its own folder")
        weights |= _read_part(folder / name)
    return main, weights


def _read_part(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # weights_only: a pickle could run anything
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} holds no weights: {error}") from error
    if not isinstance(weights, dict) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise ValueError(f"{path} must hold weights by their names, got {type(weights).__name__}")
    return weights
