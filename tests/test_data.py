from pathlib import Path

import numpy as np
import pytest

from vidmamba.data import DataConfig, expand_folder, load_data


def write_mstcn_folder(root: Path, *, frames: int = 12) -> None:
    """Two training videos, one test video, two classes, features of width 3."""
    for folder in ("features", "groundTruth", "splits"):
        (root / folder).mkdir(parents=True)
    (root / "mapping.txt").write_text("0 background\n1 pour\n")
    names = ["a", "b", "c"]
    for number, name in enumerate(names):
        features = np.full((3, frames + number), number, dtype=np.float32)
        np.save(root / "features" / f"{name}.npy", features)
        labels = ["background"] * 4 + ["pour"] * (frames + number - 4)
        (root / "groundTruth" / f"{name}.txt").write_text("\n".join(labels) + "\n")
    (root / "splits" / "train.split1.bundle").write_text("a.txt\nb.txt\n")
    (root / "splits" / "test.split1.bundle").write_text("c.txt\n")


def test_variables_in_the_root_are_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_DATA", str(tmp_path))
    assert expand_folder("$MY_DATA/salads") == tmp_path / "salads"
    assert expand_folder("${MY_DATA}/salads") == tmp_path / "salads"


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_DATA", raising=False)
    with pytest.raises(ValueError, match="MY_DATA is not set"):
        expand_folder("$MY_DATA/salads")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere: no such folder; data\.root"):
        load_data(DataConfig(root=str(tmp_path / "nowhere")))


def test_the_configs_evaluation_stride_overrides_the_data_sets(tmp_path: Path) -> None:
    write_mstcn_folder(tmp_path)
    root = str(tmp_path)
    assert load_data(DataConfig(root=root, validation=0.0)).evaluation_stride == 1
    config = DataConfig(root=root, validation=0.0, evaluation_stride=4)
    assert load_data(config).evaluation_stride == 4


@pytest.mark.parametrize("bad", [{"stride": 0}, {"validation": 1.0}, {"evaluation_stride": -1}])
def test_values_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        DataConfig(root="x", **bad)  # type: ignore[arg-type]
