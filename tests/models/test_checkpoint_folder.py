"""Folders of weights: what is missing, broken or code is refused by the name of its file."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vidmamba.models.checkpoint_folder import read_json, read_weights


def test_safetensors_come_before_pickles(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    path, weights = read_weights(tmp_path)
    assert path == tmp_path / "model.safetensors"
    assert weights["a"].tolist() == [1, 1]


def test_a_folder_without_weights_is_refused_with_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"looked for model\.safetensors, .*index\.json"):
        read_weights(tmp_path)


def test_a_file_cut_short_is_refused_by_name(tmp_path: Path) -> None:
    for name in ("pytorch_model.bin", "model.safetensors"):
        path = tmp_path / name
        if path.suffix == ".bin":
            torch.save({"a": torch.ones(99)}, path)
        else:
            save_file({"a": torch.ones(99)}, path)
        for kept in (200, 0):
            path.write_bytes(path.read_bytes()[:kept])
            with pytest.raises(ValueError, match=f"{name} holds no weights"):
                read_weights(tmp_path)


def test_a_pickle_that_holds_more_than_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": Path("code")}, path)
    with pytest.raises(ValueError, match=r"pytorch_model\.bin holds no weights"):
        read_weights(tmp_path)
    torch.save({"a": 3}, path)
    with pytest.raises(ValueError, match="must hold weights by their names"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ('{"weight_map": {"a": "../outside.safetensors"}}', "no file of its own folder"),
        ('{"weight_map": {"a": "gone.safetensors"}}', r"gone\.safetensors cannot be read"),
        ('{"weight_map": {"a": "gone.bin"}}', r"gone\.bin cannot be read"),
        ('{"weight_map": {}}', "under 'weight_map'"),
        ("{}", "under 'weight_map'"),
    ],
)
def test_an_index_that_leads_nowhere_is_refused(index: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ValueError, match=message):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1", "is no JSON"), ("[1]", "must hold an object, got list"), (None, "No such file")],
)
def test_a_config_that_is_none_is_refused(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=rf"config\.json .*{message}"):
        read_json(tmp_path / "config.json")
