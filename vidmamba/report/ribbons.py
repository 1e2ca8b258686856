"""Frame labels of one video as coloured ribbons, one below the other: a picture for W&B."""

import math
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from vidmamba.report.palette import Look, Pattern, looks, mark
from vidmamba.timeline import runs

_PAPER, _INK, _QUIET, _EMPTY = "#ffffff", "#1a1d21", "#5c6570", "#eceef1"
_MARGIN = 16
_ROW = 40
_GAP = 8
_LINE = 24  # of the legend
_SWATCH = 40
_STEPS = (1, 2, 5, 10)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_ribbons(
    rows: Mapping[str, Sequence[int]],
    class_names: Sequence[str],
    *,
    fps: float | None = None,
    width: int = 1200,
) -> Image.Image:
    """Draw each row of frame labels as a ribbon, with a legend of the classes that occur.

    Args:
        rows: name of each ribbon, from the top, and its labels, indices into `class_names`;
            negative ones (frames without a label) stay empty.
        class_names: name of each class; decides the colours, as in the HTML page.
        fps: rate of the labels, for an axis in seconds; in frames where absent.
        width: of the picture, pixels.

    Raises:
        ValueError: no rows, empty rows, rows of different lengths, labels without a name.
    """
    num_frames = _num_frames(rows, len(class_names))
    chosen = looks(class_names)
    font, small = ImageFont.load_default(15), ImageFont.load_default(12)
    left = _MARGIN + int(max(font.getlength(name) for name in rows)) + 12
    strip = max(width - left - _MARGIN, 100)
    legend = _place_legend(rows, class_names, font, left, left + strip)
    axis = _MARGIN + len(rows) * (_ROW + _GAP)
    height = axis + 36 + (legend[-1][2] + _LINE if legend else 0) + _MARGIN
    image = Image.new("RGB", (left + strip + _MARGIN, height), _PAPER)
    draw = ImageDraw.Draw(image)
    for k, (name, labels) in enumerate(rows.items()):
        top = _MARGIN + k * (_ROW + _GAP)
        draw.text((left - 12, top + _ROW / 2), name, fill=_INK, font=font, anchor="rm")
        _draw_row(image, (left, top, left + strip, top + _ROW), labels, chosen, small)
    _draw_axis(draw, left, axis, strip, num_frames, fps, small)
    for k, x, y in legend:
        box = (x, axis + 36 + y, x + _SWATCH, axis + 36 + y + 18)
        _paint(image, box, chosen[k], small)
        draw.text((x + _SWATCH + 6, box[1] + 9), class_names[k], fill=_INK, font=font, anchor="lm")
    return image


def _draw_row(
    image: Image.Image,
    box: tuple[int, int, int, int],
    labels: Sequence[int],
    chosen: Sequence[Look],
    font: Font,
) -> None:
    left, top, right, bottom = box
    ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), fill=_EMPTY)
    strip, num_frames = right - left, len(labels)
    # the shortest last, or what lasts less than a pixel would be painted over
    for start, end, label in sorted(runs(labels), key=lambda run: run[0] - run[1]):
        if label < 0:
            continue
        x0 = left + start * strip // num_frames
        x1 = max(left + end * strip // num_frames, x0 + 1)
        _paint(image, (x0, top, x1, bottom), chosen[label], font)


def _num_frames(rows: Mapping[str, Sequence[int]], num_classes: int) -> int:
    lengths = {name: len(labels) for name, labels in rows.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"rows must be of one length above 0, got {lengths}")
    for name, labels in rows.items():
        if max(labels) >= num_classes:
            raise ValueError(f"row {name!r} has label {max(labels)} of {num_classes} classes")
    return next(iter(lengths.values()))


def _place_legend(
    rows: Mapping[str, Sequence[int]],
    class_names: Sequence[str],
    font: Font,
    left: int,
    right: int,
) -> list[tuple[int, int, int]]:
    """Class, x and y of each entry, wrapped between `left` and `right`."""
    present = sorted({label for labels in rows.values() for _, _, label in runs(labels)})
    x, y, placed = left, 0, []
    for k in (label for label in present if label >= 0):
        wide = _SWATCH + 6 + int(font.getlength(class_names[k])) + 18
        if x > left and x + wide > right:
            x, y = left, y + _LINE
        placed.append((k, x, y))
        x += wide
    return placed


def _paint(image: Image.Image, box: tuple[int, int, int, int], look: Look, font: Font) -> None:
    """Fill a box with a class's colour and pattern, and its number where there is room."""
    x0, y0, x1, y1 = box
    tile = Image.new("RGB", (x1 - x0, y1 - y0), look.fill)
    draw = ImageDraw.Draw(tile)
    _draw_pattern(draw, tile.width, tile.height, look.pattern, mark(look))
    number = str(look.number)
    half = font.getbbox(number)[2] / 2 + 3
    if tile.width > 2 * half + 2:
        x, y = tile.width / 2, tile.height / 2
        draw.rectangle((x - half, y - 8, x + half, y + 8), fill=look.fill)
        draw.text((x, y), number, fill=look.ink, font=font, anchor="mm")
    if tile.width > 3:  # a hairline keeps neighbours of similar lightness apart
        draw.line((tile.width - 1, 0, tile.width - 1, tile.height), fill=_PAPER)
    image.paste(tile, (x0, y0))


def _draw_pattern(
    draw: ImageDraw.ImageDraw, width: int, height: int, pattern: Pattern, colour: tuple[int, ...]
) -> None:
    if pattern == "stripes":
        for x in range(-height, width, 10):
            draw.line((x, height, x + height, 0), fill=colour, width=3)
    if pattern == "dots":
        for x in range(4, width + 4, 9):
            for y in range(4, height + 4, 9):
                draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
    if pattern in ("bars", "grid"):
        for x in range(3, width, 8):
            draw.rectangle((x, 0, x + 2, height), fill=colour)
    if pattern == "grid":
        for y in range(3, height, 8):
            draw.rectangle((0, y, width, y + 2), fill=colour)


def _draw_axis(
    draw: ImageDraw.ImageDraw,
    left: int,
    top: int,
    strip: int,
    num_frames: int,
    fps: float | None,
    font: Font,
) -> None:
    """Round numbers of seconds or frames below the ribbons, some 100 pixels apart."""
    length = num_frames if fps is None else num_frames / fps
    unit = "frames" if fps is None else "s"
    least = length / max(strip // 100, 1)
    power = 10.0 ** math.floor(math.log10(least))
    if fps is None:
        power = max(power, 1.0)  # no half frames
    step = next(s * power for s in _STEPS if s * power >= least)
    for k in range(int(length / step) + 1):
        x = left + round(k * step / length * strip)
        draw.line((x, top - 4, x, top + 2), fill=_QUIET)
        text = f"{k * step:g} {unit}" if k == 0 else f"{k * step:g}"
        draw.text((x, top + 5), text, fill=_QUIET, font=font, anchor="lt" if k == 0 else "mt")
