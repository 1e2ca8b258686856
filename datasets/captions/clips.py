"""Readers of clips with several sentences each: MSR-VTT, MSVD and COCO's captions."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vidmamba.datasets.captions.checks import Inspector
from vidmamba.datasets.captions.files import (
    get_field,
    read_json,
    read_lines,
    read_rows,
    to_seconds,
)
from vidmamba.datasets.captions.records import AnnotatedVideos, Part

_SPLITS: dict[str, Part] = {
    "train": "train",
    "validate": "validation",
    "validation": "validation",
    "val": "validation",
    "test": "test",
}

_EDGES = ("start time", "end time")

_MSVD_CLIP = re.compile(r".+_(\d+)_(\d+)")
_MSVD_COLUMNS = ("VideoID", "Start", "End", "Language", "Description")


def read_msrvtt(path: Path | str, *, categories: Path | str | None = None) -> AnnotatedVideos:
    """Read MSR-VTT's `*_videodatainfo.json`; the train and validation file and the test file add.

        {"videos": [{"video_id": "video0", "category": 9, "start time": 137.72, "end time": 149.44,
                     "split": "train"}, ...],
         "sentences": [{"video_id": "video0", "sen_id": 0, "caption": "..."}, ...]}

    Args:
        path: the JSON file, plain or gzipped.
        categories: MSR-VTT's category.txt, a name and a number a line; else the numbers are names.

    Raises:
        ValueError: the file is damaged, an entry is not of this form (it is named), or no video has
            a caption that can be used.
    """
    record, inspector = read_json(path), Inspector(path)
    videos = _listed(inspector, record, "videos", "video_id")
    sentences = _sentences(inspector, record, "sentences", "video_id", "sen_id", known=videos)
    names = {} if categories is None else _category_names(Path(categories))
    for name, entry in videos.items():
        where = f"{inspector.file}, {name}"
        number = str(get_field(entry, "category", (int, str), where))
        start, end = (
            to_seconds(get_field(entry, edge, (int, float), where), f"{where}: {edge}")
            for edge in _EDGES
        )
        inspector.add_clip(
            name,
            sentences[name],
            duration=end - start,
            split=to_part(get_field(entry, "split", str, where), where),
            category=names.get(number, number),
        )
    return inspector.result()


def read_msvd_text(path: Path | str, *, mapping: Path | str | None = None) -> AnnotatedVideos:
    """Read MSVD's AllVideoDescriptions.txt: a clip's name and a sentence a line; `#` comments.

    Args:
        path: the file, plain or gzipped.
        mapping: MSVD's youtube_mapping.txt, `<clip> vid<number>` a line: clips get the second name,
            by which its split goes (see `MSVD_SPLIT`).

    Raises:
        ValueError: as in `read_msrvtt`; the line is named.
    """
    inspector = Inspector(path)
    pairs = []
    for number, line in read_lines(path):
        if line.startswith("#"):
            continue
        name, *sentence = line.split(maxsplit=1)
        if _MSVD_CLIP.fullmatch(name) is None:
            raise ValueError(
                f"{inspector.file}:{number}: expected `<name>_<start>_<end> sentence`, got {line!r}"
            )
        pairs.append((name, sentence[0] if sentence else ""))
    return _msvd(inspector, pairs, mapping)


def read_msvd_csv(
    path: Path | str, *, language: str | None = "English", mapping: Path | str | None = None
) -> AnnotatedVideos:
    """Read MSVD's `MSR Video Description Corpus.csv`, a sentence a row.

    Args:
        path: the CSV file, plain or gzipped.
        language: take the sentences of this language; None for those of all languages.
        mapping: as in `read_msvd_text`.

    Raises:
        ValueError: as in `read_msrvtt`; the line is named.
    """
    inspector = Inspector(path)
    pairs, others = [], dict[str, int]()
    for number, row in read_rows(path, _MSVD_COLUMNS):
        name = f"{row['VideoID']}_{row['Start']}_{row['End']}"
        if _MSVD_CLIP.fullmatch(name) is None:
            raise ValueError(f"{inspector.file}:{number}: Start and End must be seconds: {name!r}")
        if language is None or row["Language"] == language:
            pairs.append((name, row["Description"]))
        else:
            others[row["Language"]] = others.get(row["Language"], 0) + 1
    for other, count in others.items():
        detail = f"{count} sentences, but {language} is read"
        inspector.note("other language", f"sentences in {other}", detail)
    return _msvd(inspector, pairs, mapping)


def read_coco(path: Path | str, *, split: Part | None = None) -> AnnotatedVideos:
    """Read captions in COCO's form; a video's name is its image's id, as in COCO's result files.

        {"images": [{"id": 7}, ...], "annotations": [{"id": 1, "image_id": 7, "caption": "..."}]}

    Args:
        path: the JSON file, plain or gzipped.
        split: the part of the data set that the file is.

    Raises:
        ValueError: as in `read_msrvtt`.
    """
    record, inspector = read_json(path), Inspector(path)
    images = _listed(inspector, record, "images", "id")
    sentences = _sentences(inspector, record, "annotations", "image_id", "id", known=images)
    for name in images:
        inspector.add_clip(name, sentences[name], split=split)
    return inspector.result()


def to_part(text: str, where: str) -> Part:
    """Return the part of a data set that files call `train`, `val`, `validate`, `test`.

    Raises:
        ValueError: it is another word.
    """
    if text not in _SPLITS:
        raise ValueError(f"{where}: split must be one of {', '.join(_SPLITS)}, got {text!r}")
    return _SPLITS[text]


def msvd_seconds(name: str) -> int | None:
    """Return how long the clip is that MSVD calls `<video>_<start>_<end>`; None for other names."""
    match = _MSVD_CLIP.fullmatch(name)
    return None if match is None else int(match[2]) - int(match[1])


def _listed(inspector: Inspector, record: Any, table: str, key: str) -> dict[str, Any]:
    """Return the videos that a file lists, each of which needs an id."""
    entries = get_field(record, table, list, inspector.file)
    for place, entry in enumerate(entries):
        get_field(entry, key, (str, int), f"{inspector.file}, {table} {place}")
    return _by_id(entries, key, inspector.file)


def _by_id(entries: Iterable[Any], key: str, where: str) -> dict[str, Any]:
    """Return the entries by their id; one without an id is called by its place."""
    found: dict[str, Any] = {}
    for place, entry in enumerate(entries):
        name = f"entry {place}"
        if not isinstance(entry, dict) or key in entry:
            name = str(get_field(entry, key, (str, int), f"{where}, {name}"))
        if name in found:
            raise ValueError(f"{where}: {key} {name!r} stands twice, again in entry {place}")
        found[name] = entry
    return found


def _sentences(
    inspector: Inspector, record: Any, table: str, video: str, key: str, *, known: Mapping[str, Any]
) -> dict[str, list[str]]:
    """Return the captions of each video of `known`; a sentence of another video is an issue."""
    found: dict[str, list[str]] = {name: [] for name in known}
    sentences = get_field(record, table, list, inspector.file)
    for name, entry in _by_id(sentences, key, inspector.file).items():
        where = f"{inspector.file}, {key} {name}"
        about = str(get_field(entry, video, (str, int), where))
        text = get_field(entry, "caption", str, where)
        if about in found:
            found[about].append(text)
        else:
            inspector.note("unknown video", f"{key} {name}", f"{text!r} is about {about!r}")
    return found


def _category_names(path: Path) -> dict[str, str]:
    names = {}
    for number, line in read_lines(path):
        name, _, label = line.strip().rpartition("\t")
        if not (name and label.isdecimal()):
            raise ValueError(f"{path}:{number}: expected a name, a tab and a number, got {line!r}")
        names[label] = name
    return names


def _msvd(
    inspector: Inspector, pairs: Iterable[tuple[str, str]], mapping: Path | str | None
) -> AnnotatedVideos:
    sentences: dict[str, list[str]] = {}
    for name, text in pairs:
        sentences.setdefault(name, []).append(text)
    renamed = {} if mapping is None else _mapping(Path(mapping))
    for name, texts in sentences.items():
        if mapping is not None and name not in renamed:
            raise ValueError(f"{inspector.file}, {name}: {mapping} has no name for it")
        inspector.add_clip(renamed.get(name, name), texts, duration=msvd_seconds(name))
    return inspector.result()


def _mapping(path: Path) -> dict[str, str]:
    names: dict[str, str] = {}
    for number, line in read_lines(path):
        clip, *name = line.split()
        if len(name) != 1 or clip in names or name[0] in names.values():
            raise ValueError(f"{path}:{number}: expected `<clip> <name>` once, got {line!r}")
        names[clip] = name[0]
    return names
