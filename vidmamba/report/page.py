"""One self-contained HTML page a video: it plays, above the timeline that follows it."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from vidmamba.report import fragments
from vidmamba.report.compare import stretches
from vidmamba.report.palette import looks
from vidmamba.report.preview import Media, media_for
from vidmamba.timeline import Segment, Timeline, webvtt, write_atomically


def write_page(
    path: Path,
    *,
    timeline: Timeline,
    truth: Timeline | None = None,
    scores: Mapping[str, float] | None = None,
    video: Path | None,
    class_names: Sequence[str] = (),
) -> None:
    """Write `path`, an HTML page that needs no other file and no network.

    The video is embedded, as it is or as a smaller copy that browsers play; one too large for that
    is put beside the page, which says so, as it says when a video cannot be read.

    Args:
        path: the page.
        timeline: what was predicted.
        truth: what happened, where that is known.
        scores: name and value of figures about this video, such as percentages.
        video: the file that `timeline` is about; None for a page without it.
        class_names: all classes in the model's order, so that pages of one model share colours;
            labels that are not among them follow in order of appearance.
    """
    path = Path(path)
    lists = [timeline.segments, *([truth.segments] if truth else [])]
    names = list(dict.fromkeys([*class_names, *(s.label for part in lists for s in part)]))
    index = {name: k for k, name in enumerate(names)}
    script = _asset("page.js")
    fields = _lanes(timeline, truth, index) | {
        "policy": _policy(script),
        "style": _asset("page.css"),
        "class_style": fragments.class_style(names),
        "title": html.escape(Path(timeline.video).name or "video"),
        "facts": html.escape(_facts(timeline)),
        "player": _player(media_for(video, path) if video else Media(None), timeline),
        "scores": fragments.scores(scores or {}),
        "data": _json(_data(timeline, truth, names, index)),
        "script": script,
    }
    write_atomically(path, _fill(_asset("page.html"), fields))


def _lanes(timeline: Timeline, truth: Timeline | None, index: Mapping[str, int]) -> dict[str, str]:
    """The parts of the page that show segments and captions."""
    duration = max(timeline.duration, 1e-3)
    chosen = looks(index)
    parts = stretches(timeline.segments, truth.segments, duration) if truth else []
    lanes = [fragments.lane("Predicted", timeline.segments, duration, index, chosen)]
    if truth:
        lanes.append(fragments.differences(parts, duration))
        lanes.append(fragments.lane("True", truth.segments, duration, index, chosen))
    lists = [fragments.segment_list(timeline.segments, parts, index, chosen)]
    if timeline.captions:
        lists.append(fragments.caption_list(timeline.captions))
    shown = [*timeline.segments, *(truth.segments if truth else ())]
    return {
        "lanes": "\n".join(lanes),
        "lists": "\n".join(lists),
        "legend": fragments.legend(shown, timeline.segments, index, chosen),
        "axis": fragments.axis(duration),
        "duration": f"{duration:.3f}",
        "hint": f"{fragments.plural(len(timeline.segments), 'segment')} predicted",
    }


def _data(
    timeline: Timeline, truth: Timeline | None, names: Sequence[str], index: Mapping[str, int]
) -> dict[str, Any]:
    def rows(segments: Sequence[Segment]) -> list[tuple[float, float, int, float]]:
        return [(s.start, s.end, index[s.label], s.score) for s in segments]

    return {
        "duration": timeline.duration,
        "predicted": rows(timeline.segments),
        "truth": rows(truth.segments) if truth else None,
        "captions": [[c.start, c.end] for c in timeline.captions],
        "names": list(names),
        "looks": [fragments.look_class(k, look) for k, look in enumerate(looks(names))],
    }


def _facts(timeline: Timeline) -> str:
    classes = len({segment.label for segment in timeline.segments})
    parts = [
        fragments.clock(timeline.duration),
        fragments.plural(len(timeline.segments), "segment"),
        fragments.plural(classes, "class", "classes"),
        f"{timeline.fps:.4g} fps",
    ]
    return " · ".join(parts)


def _player(media: Media, timeline: Timeline) -> str:
    note = f'<p class="note">{html.escape(media.note)}</p>' if media.note else ""
    if media.source is None:
        return f'<p class="empty">{html.escape(media.note or "This page has no video.")}</p>'
    track = ""
    if timeline.captions:
        text = webvtt(replace(timeline, segments=())).encode("utf-8", "backslashreplace")
        data = base64.b64encode(text).decode("ascii")
        track = (
            '<track default kind="captions" label="Captions" srclang="und"'
            f' src="data:text/vtt;base64,{data}">'
        )
    return (
        '<video controls playsinline preload="metadata" aria-label="Video">'
        f'<source src="{html.escape(media.source)}">{track}</video>\n{note}'
        '<p class="note" id="broken" hidden>This browser cannot play the video.</p>'
    )


def _policy(script: str) -> str:
    """Content security policy: this script alone, and nothing from any network."""
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; media-src 'self' data: blob: file:; base-uri 'none'; form-action 'none'"
    )


def _json(record: Mapping[str, Any]) -> str:
    # inside a script element only "<" can end it; a score that is no number is no JSON either
    text = json.dumps(record, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _fill(template: str, fields: Mapping[str, str]) -> str:
    # one pass: what is filled in is never searched for placeholders itself
    return re.sub(r"{{(\w+)}}", lambda match: fields[match[1]], template)


def _asset(name: str) -> str:
    return files("vidmamba.report").joinpath(name).read_text(encoding="utf-8").strip()
