"""Separability, computed here from the published formulas: Machado 2009 and CIEDE2000 (2005)."""

import numpy as np
import pytest
from numpy.typing import NDArray

from vidmamba.report.palette import looks, mark, rgb

NAMES = ("background", *(f"action {k}" for k in range(30)))
# G. Machado, M. Oliveira, L. Fernandes: A physiologically-based model for simulation of color
# vision deficiency (2009), severity 1.0, on linear RGB
VISION = {
    "trichromat": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    "protanope": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranope": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanope": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.072175],
        [0.0193339, 0.119192, 0.9503041],
    ]
)
Array = NDArray[np.float64]


def _linear(colour: tuple[int, int, int]) -> Array:
    value = np.array(colour) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _lab(colour: tuple[int, int, int], vision: str) -> Array:
    seen = np.clip(np.array(VISION[vision]) @ _linear(colour), 0, 1)
    xyz = TO_XYZ @ seen / np.array([0.95047, 1.0, 1.08883])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _difference(first: Array, second: Array) -> float:
    """CIEDE2000 of two Lab colours (Sharma, Wu, Dalal 2005)."""
    L1, a1, b1 = first
    L2, a2, b2 = second
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    g = 1.5 - 0.5 * np.sqrt(mean**7 / (mean**7 + 25.0**7))
    C1, C2 = np.hypot(g * a1, b1), np.hypot(g * a2, b2)
    h1, h2 = np.degrees(np.arctan2(b1, g * a1)) % 360, np.degrees(np.arctan2(b2, g * a2)) % 360
    turn = (h2 - h1 + 180) % 360 - 180
    hue = (h1 + turn / 2) % 360
    L, C = (L1 + L2) / 2, (C1 + C2) / 2
    T = (
        1
        - 0.17 * np.cos(np.radians(hue - 30))
        + 0.24 * np.cos(np.radians(2 * hue))
        + 0.32 * np.cos(np.radians(3 * hue + 6))
        - 0.20 * np.cos(np.radians(4 * hue - 63))
    )
    blue = 60 * np.exp(-(((hue - 275) / 25) ** 2))
    rotation = -2 * np.sqrt(C**7 / (C**7 + 25.0**7)) * np.sin(np.radians(blue))
    light = (L2 - L1) / (1 + 0.015 * (L - 50) ** 2 / np.sqrt(20 + (L - 50) ** 2))
    chroma = (C2 - C1) / (1 + 0.045 * C)
    shift = 2 * np.sqrt(C1 * C2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * C * T)
    return float(np.sqrt(light**2 + chroma**2 + shift**2 + rotation * chroma * shift))


def test_the_difference_is_the_published_one() -> None:
    # pairs 1, 7 and 17 of Sharma, Wu, Dalal's test data
    for first, second, wanted in [
        ([50, 2.6772, -79.7751], [50, 0, -82.7485], 2.0425),
        ([50, 0, 0], [50, -1, 2], 2.3669),
        ([50, 2.5, 0], [73, 25, -18], 27.1492),
    ]:
        difference = _difference(np.array(first, dtype=float), np.array(second, dtype=float))
        assert difference == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize(
    ("vision", "least"),
    [("trichromat", 20.0), ("protanope", 14.0), ("deuteranope", 14.0), ("tritanope", 12.0)],
)
def test_any_two_classes_differ_in_colour_or_pattern(vision: str, least: float) -> None:
    chosen = looks(NAMES)
    for k, one in enumerate(chosen):
        for other in chosen[:k]:
            apart = _difference(_lab(rgb(one.fill), vision), _lab(rgb(other.fill), vision))
            assert apart >= least or one.pattern != other.pattern, (one, other, apart)


@pytest.mark.parametrize("vision", VISION)
def test_patterns_stand_out_from_their_fill(vision: str) -> None:
    for look in looks(NAMES):
        assert _difference(_lab(rgb(look.fill), vision), _lab(mark(look), vision)) >= 8


def test_text_on_every_fill_meets_wcag_aa() -> None:
    for look in looks(NAMES):
        one, other = (float(_linear(rgb(c)) @ TO_XYZ[1]) for c in (look.fill, look.ink))
        assert (max(one, other) + 0.05) / (min(one, other) + 0.05) >= 4.5


def test_every_class_has_its_number_and_backgrounds_are_grey() -> None:
    chosen = looks(["a", "SIL", "b", "background"])
    assert [look.number for look in chosen] == [1, 2, 3, 4]
    for look in (chosen[1], chosen[3]):
        assert max(rgb(look.fill)) - min(rgb(look.fill)) < 16
    assert chosen[1].pattern != chosen[3].pattern
