"""Pieces of the page's HTML; every text from outside is escaped here."""

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite

from vidmamba.report.compare import Stretch, true_labels
from vidmamba.report.palette import Look, looks, mark
from vidmamba.timeline import Caption, Segment

_TICKS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)


def clock(seconds: float, digits: int = 1) -> str:
    """1:02:03.4; hours only where there are any."""
    # down, so that a time shown is never later than the time itself
    ticks = int(seconds * 10**digits + 1e-6)
    whole, rest = divmod(ticks, 10**digits)
    text = f"{whole // 60 % 60}:{whole % 60:02}"
    if whole >= 3600:
        text = f"{whole // 3600}:{text.rjust(5, '0')}"
    return f"{text}.{rest:0{digits}}" if digits else text


def plural(count: int, one: str, many: str = "") -> str:
    """1 segment, 2 segments."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def percent(score: float) -> str:
    """Probabilities as percentages, other scores to two decimals."""
    return f"{score:.0%}" if 0 <= score <= 1 else f"{score:.2f}"


def look_class(k: int, look: Look) -> str:
    """CSS classes of class k."""
    return f"k k{k} {look.pattern}"


def class_style(names: Sequence[str]) -> str:
    """CSS of every class's colours."""
    return "\n".join(
        f".k{k} {{ --fill: {look.fill}; --ink: {look.ink}; --mark: rgb{mark(look)}; }}"
        for k, look in enumerate(looks(names))
    )


def lane(
    name: str,
    segments: Sequence[Segment],
    duration: float,
    index: Mapping[str, int],
    chosen: Sequence[Look],
) -> str:
    """A ribbon of segments; number and name show where there is room."""
    spans = []
    for s in segments:
        k = index[s.label]
        length = s.end - s.start
        look = look_class(k, chosen[k]) + _room(k, length / duration)
        spans.append(
            f'<div class="seg {look}" data-s="{length:.3f}"'
            f' style="{_place(s.start, s.end, duration)}">'
            f"<b>{k + 1}<i> {escape(s.label)}</i></b></div>"
        )
    return f'<div class="lane-name">{name}</div>\n<div class="lane">{"".join(spans)}</div>'


def differences(parts: Sequence[Stretch], duration: float) -> str:
    """A thin ribbon that is dark wherever prediction and truth differ."""
    spans = "".join(
        f'<span style="{_place(part.start, part.end, duration)}"></span>'
        for part in parts
        if not part.agrees
    )
    return f'<div class="lane-name">Differs</div>\n<div class="lane differ">{spans}</div>'


def axis(duration: float) -> str:
    """Some six round times, for pages without a script and for paper."""
    step = next((tick for tick in _TICKS if tick >= duration / 6), duration / 6)
    count = int((duration - 0.3 * step) / step) + 1
    return "".join(
        f'<span style="left:{100 * k * step / duration:.4f}%">'
        f"{clock(k * step, 1 if step < 1 else 0)}</span>"
        for k in range(max(count, 1))
    )


def legend(
    shown: Sequence[Segment],
    predicted: Sequence[Segment],
    index: Mapping[str, int],
    chosen: Sequence[Look],
) -> str:
    """An entry for each class that occurs: its look, name, and how often it was predicted."""
    items = []
    for label in sorted({s.label for s in shown}, key=index.__getitem__):
        k = index[label]
        own = [s for s in predicted if s.label == label]
        seconds = sum(s.end - s.start for s in own)
        length = f"{seconds:.1f} s" if seconds < 60 else clock(seconds, 0)
        amount = f"{length} · {plural(len(own), 'time')}" if own else "never predicted"
        items.append(
            f'<li><button type="button" data-k="{k}" title="Go to the next one">'
            f'{_chip(k, chosen[k])}<span dir="auto">{escape(label)}</span>'
            f"<small>{amount}</small></button></li>"
        )
    return "\n".join(items)


def scores(values: Mapping[str, float]) -> str:
    """Named figures, one decimal each; nothing where there are none."""
    if not values:
        return ""
    items = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{f'{value:.1f}' if isfinite(value) else '–'}</dd></div>"  # noqa: RUF001
        for name, value in values.items()
    )
    return (
        f'<section class="scores" aria-label="Scores"><h2>Scores</h2><dl>\n{items}\n</dl></section>'
    )


def segment_list(
    segments: Sequence[Segment],
    parts: Sequence[Stretch],
    index: Mapping[str, int],
    chosen: Sequence[Look],
) -> str:
    """Every predicted segment as a button; where truth is known (`parts`), what it says."""
    truths = true_labels(parts, len(segments)) if parts else [s.label for s in segments]
    items = []
    for k, (s, real) in enumerate(zip(segments, truths, strict=True)):
        true = ""
        if real != s.label:
            true = f' <span class="true">· true: {escape(real or "no segment")}</span>'
        number = index[s.label]
        items.append(
            _row(k)
            + _chip(number, chosen[number])
            + f'<span class="name"><span dir="auto">{escape(s.label)}</span>'
            f"<small>{clock(s.start)} – {clock(s.end)}{true}</small></span>"  # noqa: RUF001
            f'<span class="score">{percent(s.score)}</span></button></li>'
        )
    return _list("segments", "Segments", items)


def caption_list(captions: Sequence[Caption]) -> str:
    """Every sentence as a button."""
    items = [
        f'{_row(k)}<span class="when">{clock(c.start)}</span>'
        f'<span class="name" dir="auto">{escape(c.text)}</span></button></li>'
        for k, c in enumerate(captions)
    ]
    return _list("captions", "Captions", items)


def _list(name: str, title: str, items: Sequence[str]) -> str:
    rows = "\n".join(items) or '<li class="row quiet">none</li>'
    return (
        f'<section class="list" aria-label="{title}"><h2>{title} · {len(items)}</h2>\n'
        f'<ol class="rows" id="{name}">\n{rows}\n</ol></section>'
    )


def _room(k: int, share: float) -> str:
    # what fits into a page of usual width; the script corrects it
    pixels = 800 * share
    numbered = " numbered" if pixels >= (27 if k < 99 else 36) else ""
    return (" tight" if pixels < 4 else "") + numbered + (" named" if pixels >= 64 else "")


def _row(k: int) -> str:
    # one stop of the Tab key a list: the script moves it along
    return f'<li><button type="button" class="row" tabindex="{0 if k == 0 else -1}">'


def _chip(k: int, look: Look) -> str:
    return f'<span class="chip {look_class(k, look)}"><b>{k + 1}</b></span>'


def _place(start: float, end: float, duration: float) -> str:
    return f"left:{100 * start / duration:.4f}%;width:{100 * (end - start) / duration:.4f}%"
