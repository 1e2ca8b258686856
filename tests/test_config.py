from dataclasses import dataclass
from pathlib import Path

import pytest

from vidmamba.config import differences, from_plain, to_plain
from vidmamba.models.segmenter import SegmenterConfig
from vidmamba.nn.mixer import MambaConfig
from vidmamba.nn.stack import StackConfig


def test_a_nested_config_survives_the_way_to_plain_data_and_back() -> None:
    config = SegmenterConfig(stack=StackConfig(width=32, mixer=MambaConfig(state=4)))
    assert from_plain(SegmenterConfig, to_plain(config)) == config


def test_plain_data_holds_nothing_but_json_types() -> None:
    @dataclass(frozen=True)
    class Paths:
        folder: Path
        names: tuple[str, ...]

    assert to_plain(Paths(Path("a/b"), ("x", "y"))) == {"folder": "a/b", "names": ["x", "y"]}


def test_a_key_from_another_version_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="StackConfig has no heads"):
        from_plain(SegmenterConfig, {"stack": {"width": 8, "heads": 4}})


def test_differences_name_each_leaf_that_differs() -> None:
    expected = {"width": 4, "backbone": {"name": "a", "size": 128}}
    found = {"width": 4, "backbone": {"name": "b", "size": 128}, "fps": 5}
    assert differences(expected, found) == [
        "backbone.name: expected 'a', found 'b'",
        "fps: expected 'nothing', found 5",
    ]
    assert differences(expected, expected) == []


@dataclass(frozen=True, kw_only=True)
class WithTuples:
    sizes: tuple[int, ...] = (1,)
    names: tuple[str, ...] | None = None


def test_tuples_come_back_as_tuples() -> None:
    config = WithTuples(sizes=(2, 3), names=("a",))
    assert from_plain(WithTuples, to_plain(config)) == config
    assert from_plain(WithTuples, to_plain(WithTuples())) == WithTuples()
