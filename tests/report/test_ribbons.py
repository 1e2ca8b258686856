import re

import numpy as np
import pytest
from PIL import Image

from vidmamba.report.palette import looks, rgb
from vidmamba.report.ribbons import draw_ribbons

NAMES = ("background", "enter", "take", "leave")


def _strip(image: Image.Image, y: int) -> list[tuple[int, int, int]]:
    """Colours along a line of pixels, each stretch once, short ones (text, hairlines) left out."""
    line = np.asarray(image.convert("RGB"))[y]
    edges = np.flatnonzero(np.any(np.diff(line.astype(int), axis=0) != 0, axis=1)) + 1
    stretches = np.split(line, edges)
    return [(int(s[0, 0]), int(s[0, 1]), int(s[0, 2])) for s in stretches if len(s) >= 20]


def test_ribbons_show_each_rows_labels_in_the_pages_colours() -> None:
    truth, predicted = [1] * 30 + [0] * 30 + [2] * 40, [1] * 50 + [2] * 50
    image = draw_ribbons({"true": truth, "predicted": predicted}, NAMES)
    colour = {name: rgb(look.fill) for name, look in zip(NAMES, looks(NAMES), strict=True)}
    paper = (255, 255, 255)
    ribbons = [[c for c in _strip(image, y) if c != paper] for y in (16 + 3, 16 + 48 + 3)]
    assert ribbons[0] == [colour["enter"], colour["background"], colour["take"]]
    assert ribbons[1] == [colour["enter"], colour["take"]]


def test_boundaries_stand_at_their_share_of_the_width() -> None:
    labels = [1] * 250 + [2] * 750
    line = np.asarray(draw_ribbons({"x": labels}, NAMES, width=1000))[16 + 3]
    own = [np.flatnonzero((line == rgb(look.fill)).all(axis=1)) for look in looks(NAMES)]
    share = len(own[1]) / (len(own[1]) + len(own[2]))
    assert share == pytest.approx(0.25, abs=0.005)


def test_one_frame_amid_many_is_still_seen() -> None:
    labels = np.zeros(100_000, dtype=np.int64)
    labels[50_000] = 3
    line = np.asarray(draw_ribbons({"x": labels.tolist()}, NAMES))[16 + 3]
    assert (line == rgb(looks(NAMES)[3].fill)).all(axis=1).any()


@pytest.mark.parametrize("fps", [None, 25.0])
@pytest.mark.parametrize("num_frames", [1, 2, 7])
def test_tiny_videos_are_drawn(num_frames: int, fps: float | None) -> None:
    image = draw_ribbons({"x": [2] * num_frames}, NAMES, fps=fps)
    assert rgb(looks(NAMES)[2].fill) in _strip(image, 16 + 3)


def test_frames_without_a_label_stay_empty() -> None:
    found = _strip(draw_ribbons({"x": [-1] * 9}, NAMES), 16 + 3)
    assert not set(found) & {rgb(look.fill) for look in looks(NAMES)}


@pytest.mark.parametrize(
    ("rows", "value"),
    [
        ({}, "{}"),
        ({"a": []}, "'a': 0"),
        ({"a": [0], "b": [0, 0]}, "'b': 2"),
        ({"a": [4]}, "label 4"),
    ],
)
def test_rows_that_cannot_be_drawn_are_named(rows: dict[str, list[int]], value: str) -> None:
    with pytest.raises(ValueError, match=re.escape(value)):
        draw_ribbons(rows, NAMES)
