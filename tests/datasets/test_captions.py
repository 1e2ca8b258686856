"""Caption readers on small files in the published forms, and on the real ones."""

import csv
import gzip
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from vidmamba.datasets.captions import (
    MSVD_SPLIT,
    AnnotatedVideos,
    CaptionedVideo,
    annotators,
    read_activitynet,
    read_coco,
    read_msrvtt,
    read_msvd_csv,
    read_msvd_text,
    read_packed_clips,
    read_vid2seq,
    read_youcook2,
    split_by_number,
)
from vidmamba.timeline import Caption

ACTIVITYNET = {
    "v_a": {
        "duration": 82.73,
        "timestamps": [[0.83, 19.86], [17.37, 60.81]],
        "sentences": ["A woman stands.", " She\n dances.  "],
    },
    "v_b": {"duration": 10, "timestamps": [[0, 10]], "sentences": ["切る 👩‍🍳 עברית"]},
}

YOUCOOK2 = {
    "database": {
        "GLd3aX16zBg": {
            "duration": 241.62,
            "subset": "training",
            "recipe_type": "113",
            "video_url": "https://www.youtube.com/watch?v=GLd3aX16zBg",
            "annotations": [
                {"segment": [90, 102], "id": 0, "sentence": "spread margarine"},
                {"segment": [114, 127], "id": 1, "sentence": "place cheese"},
            ],
        },
        "xHr8X2Wpmno": {
            "duration": 206.86,
            "subset": "validation",
            "recipe_type": "405",
            "annotations": [{"segment": [47, 60], "id": 0, "sentence": "pick the ends off"}],
        },
        "hidden": {"duration": 9.0, "subset": "testing", "recipe_type": "101"},
    }
}

MSRVTT = {
    "info": {"year": "2016"},
    "videos": [
        {
            "category": 9,
            "url": "https://www.youtube.com/watch?v=9lZi22qLlEo",
            "video_id": "video0",
            "start time": 137.72,
            "end time": 149.44,
            "split": "train",
            "id": 0,
        },
        {
            "category": 16,
            "url": "https://www.youtube.com/watch?v=w4JM08PDEng",
            "video_id": "video6513",
            "start time": 1.0,
            "end time": 11.0,
            "split": "validate",
            "id": 6513,
        },
    ],
    "sentences": [
        {"caption": "a car is shown", "video_id": "video0", "sen_id": 0},
        {"caption": "food", "video_id": "video6513", "sen_id": 1},
        {"caption": "a car is shown", "video_id": "video0", "sen_id": 2},
    ],
}

COCO = {
    "info": {},
    "licenses": [],
    "type": "captions",
    "images": [{"id": 391895, "file_name": "391895.jpg"}, {"id": "7"}],
    "annotations": [
        {"id": 1, "image_id": 391895, "caption": "A man on a bicycle."},
        {"id": 2, "image_id": 7, "caption": "A girl with a camera."},
        {"id": 3, "image_id": 391895, "caption": "Someone rides."},
    ],
}

MSVD_TEXT = """# Descriptions

-4wsuPCjDBc_5_15 a squirrel is eating a peanut in it's shell
-4wsuPCjDBc_5_15 a chipmunk is eating
mv89psg6zh4_33_46 a bird\u2028in a sink
"""

MSVD_CSV = """VideoID,Start,End,WorkerID,Source,AnnotationTime,Language,Description
mv89psg6zh4,33,46,588702,unverified,55,English,"A bird, in a sink"
mv89psg6zh4,33,46,362812,clean,30,Slovene,Papagaj se umiva
-4wsuPCjDBc,5,15,968828,clean,12,English,"A ""squirrel"" eats"
mv89psg6zh4,33,46,968828,clean,12,English,A bird takes a bath
"""

VID2SEQ = (
    "video_id,duration,caption,start,end,asr_string,asr_start,asr_end,features\n"
    'v_a,82730000,"[\'A woman stands.\', ""She doesn\'t sit.""]","[830000, 17370000]",'
    '"[19860000, 60810000]","[\'hello\']",[0],[1],"[[0.5, 1.0]]"\n'
)


def _json(folder: Path, record: Any, name: str = "captions.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
    return path


def _text(folder: Path, text: str, name: str) -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def _named(read: AnnotatedVideos) -> dict[str, CaptionedVideo]:
    return {video.name: video for video in read.videos}


def test_activitynet_captions_keep_times_words_and_scripts(tmp_path: Path) -> None:
    read = read_activitynet(_json(tmp_path, ACTIVITYNET), split="train")
    videos = _named(read)
    assert videos["v_a"].captions == (
        Caption(start=0.83, end=19.86, text="A woman stands."),
        Caption(start=17.37, end=60.81, text="She dances."),
    )
    assert videos["v_a"].duration == 82.73
    assert videos["v_b"].sentences == ("切る 👩‍🍳 עברית",)
    assert {video.split for video in read.videos} == {"train"}
    assert read.issues.counts == {"overlapping": 1}


def test_a_gzipped_file_with_a_byte_order_mark_reads_the_same(tmp_path: Path) -> None:
    plain = _json(tmp_path, ACTIVITYNET)
    packed = tmp_path / "captions.json.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + plain.read_bytes()))
    expected, read = read_activitynet(plain), read_activitynet(packed)
    assert [v.captions for v in read.videos] == [v.captions for v in expected.videos]


def test_a_file_of_several_parts_is_read_by_part(tmp_path: Path) -> None:
    path = _json(tmp_path, {"val_1": ACTIVITYNET, "val_2": {"v_b": ACTIVITYNET["v_b"]}})
    with pytest.raises(ValueError, match=r"captions\.json holds val_1, val_2: choose"):
        read_activitynet(path)
    first, second = (read_activitynet(path, part=part) for part in ("val_1", "val_2"))
    references = annotators(first, second)
    assert [len(captions) for captions in references["v_a"]] == [2, 0]
    assert references["v_b"][0] == references["v_b"][1]
    assert "[val_1], v_a" in str(first.issues)


def test_youcook2_reads_the_same_from_its_own_form_and_from_pdvcs(tmp_path: Path) -> None:
    own = read_youcook2(_json(tmp_path, YOUCOOK2))
    assert [(v.name, v.split, v.category) for v in own.videos] == [
        ("GLd3aX16zBg", "train", "113"),
        ("xHr8X2Wpmno", "validation", "405"),
    ]
    assert [issue.entry for issue in own.issues.of("no captions")] == ["hidden"]
    pdvc = {
        "v_GLd3aX16zBg": {
            "duration": 241.62,
            "timestamps": [[90, 102], [114, 127]],
            "sentences": ["spread margarine", "place cheese"],
        }
    }
    other = read_youcook2(_json(tmp_path, pdvc, "yc2_train.json"), split="train")
    assert other.videos[0].captions == own.videos[0].captions
    assert other.videos[0].name == "v_GLd3aX16zBg"


def test_msrvtt_joins_sentences_to_videos_with_split_length_and_category(tmp_path: Path) -> None:
    categories = _text(tmp_path, "vehicles/autos\t9\nfood/drink\t16\n", "category.txt")
    path = _json(tmp_path, MSRVTT, "train_val_videodatainfo.json")
    read = read_msrvtt(path, categories=categories)
    first, second = read.videos
    # repeated by two people: both count
    assert first.references == ("a car is shown", "a car is shown")
    assert first.duration == pytest.approx(11.72)
    assert (first.split, first.category) == ("train", "vehicles/autos")
    assert (second.split, second.category) == ("validation", "food/drink")
    assert read_msrvtt(path).videos[0].category == "9"
    assert len(read.issues) == 0


def test_coco_captions_go_by_the_images_id(tmp_path: Path) -> None:
    read = read_coco(_json(tmp_path, COCO), split="validation")
    assert {v.name: v.references for v in read.videos} == {
        "391895": ("A man on a bicycle.", "Someone rides."),
        "7": ("A girl with a camera.",),
    }
    assert all(v.duration is None and v.split == "validation" for v in read.videos)


def test_msvd_reads_the_same_clips_from_text_and_csv(tmp_path: Path) -> None:
    text = read_msvd_text(_text(tmp_path, MSVD_TEXT, "AllVideoDescriptions.txt"))
    table = read_msvd_csv(_text(tmp_path, MSVD_CSV, "corpus.csv"))
    for read in (text, table):
        assert {v.name: v.duration for v in read.videos} == {
            "-4wsuPCjDBc_5_15": 10.0,
            "mv89psg6zh4_33_46": 13.0,
        }
    assert len(_named(text)["-4wsuPCjDBc_5_15"].references) == 2
    assert _named(text)["mv89psg6zh4_33_46"].references == ("a bird in a sink",)
    assert _named(table)["mv89psg6zh4_33_46"].references == (
        "A bird, in a sink",
        "A bird takes a bath",
    )
    assert _named(table)["-4wsuPCjDBc_5_15"].references == ('A "squirrel" eats',)
    assert [issue.entry for issue in table.issues] == ["sentences in Slovene"]
    every = read_msvd_csv(tmp_path / "corpus.csv", language=None)
    assert "Papagaj se umiva" in _named(every)["mv89psg6zh4_33_46"].references


def test_msvd_splits_by_the_names_of_its_mapping(tmp_path: Path) -> None:
    mapping = _text(
        tmp_path, "-4wsuPCjDBc_5_15 vid1\nmv89psg6zh4_33_46 vid1301\n", "youtube_mapping.txt"
    )
    read = read_msvd_text(_text(tmp_path, MSVD_TEXT, "d.txt"), mapping=mapping)
    parts = {v.name: v.split for v in split_by_number(read, MSVD_SPLIT).videos}
    assert parts == {"vid1": "train", "vid1301": "test"}


def test_vid2seqs_microseconds_become_seconds(tmp_path: Path) -> None:
    read = read_vid2seq(_text(tmp_path, VID2SEQ, "train.csv"), split="train")
    assert read.videos[0].captions == (
        Caption(start=0.83, end=19.86, text="A woman stands."),
        Caption(start=17.37, end=60.81, text="She doesn't sit."),
    )
    assert read.videos[0].duration == 82.73


def test_a_vid2seq_cell_may_hold_an_hour_of_features(tmp_path: Path) -> None:
    features = "[" + "0.5, " * 100_000 + "]"
    path = _text(tmp_path, VID2SEQ.replace("[[0.5, 1.0]]", features), "train.csv")
    limit = csv.field_size_limit()
    assert len(features) > limit
    assert len(read_vid2seq(path).videos) == 1
    assert csv.field_size_limit() == limit


def test_packed_clips_are_read_in_both_forms(tmp_path: Path) -> None:
    listed = {
        "categories": {"9": "vehicles"},
        "videos": [
            {"video_id": "video0", "category_name": "vehicles", "start": 1.0, "end": 3.5}
            | {"captions": ["a car"]}
        ],
    }
    keyed = {"a_b_5_15": {"split": "val", "vid": "vid1", "captions": ["a bird"]}}
    (video,) = read_packed_clips(_json(tmp_path, listed)).videos
    assert (video.name, video.duration, video.category) == ("video0", 2.5, "vehicles")
    (clip,) = read_packed_clips(_json(tmp_path, keyed)).videos
    assert (clip.name, clip.duration, clip.split) == ("a_b_5_15", 10.0, "validation")


@cache
def _stored(path: Path) -> dict[str, Any]:
    record = json.loads(gzip.decompress(path.read_bytes()))
    assert isinstance(record, dict)
    return record


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "part", "read", "videos", "sentences", "counts"),
    [
        (
            "activitynet_captions.json.gz",
            "train_modified",
            read_activitynet,
            10009,
            37421,
            {"no span": 2, "past the end": 29, "unsorted": 243, "overlapping": 5703},
        ),
        (
            "activitynet_captions.json.gz",
            "val_1",
            read_activitynet,
            4917,
            17505,
            {"past the end": 5, "unsorted": 131, "overlapping": 2871},
        ),
        (
            "activitynet_captions.json.gz",
            "val_2",
            read_activitynet,
            4885,
            17031,
            {"past the end": 1, "unsorted": 171, "overlapping": 2766},
        ),
        (
            "youcook2_captions.json.gz",
            "yc2_train",
            read_youcook2,
            1333,
            10337,
            {"overlapping": 34},
        ),
        (
            "youcook2_captions.json.gz",
            "yc2_val",
            read_youcook2,
            457,
            3492,
            {"overlapping": 9, "same span": 1},
        ),
    ],
)
def test_the_real_dense_captions_read_with_no_sentence_lost(
    real_data: Path,
    name: str,
    part: str,
    read: Callable[..., AnnotatedVideos],
    videos: int,
    sentences: int,
    counts: dict[str, int],
) -> None:
    path = real_data / "captions" / name
    found = read(path, part=part)
    stored = _stored(path)[part]
    assert len(found.videos) == len(stored) == videos
    assert sum(len(entry["sentences"]) for entry in stored.values()) == sentences
    kept = sum(len(video.captions) for video in found.videos)
    assert kept + len(found.issues.left_out) == sentences
    assert found.issues.counts == counts
    for video in found.videos:
        # the words of the file, in whatever order
        words = [" ".join(text.split()) for text in stored[video.name]["sentences"]]
        assert set(video.sentences) <= set(words)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "videos", "sentences"),
    [("msvd_captions.json.gz", 1970, 80827), ("msrvtt_1k_captions.json", 1000, 20000)],
)
def test_the_real_clip_captions_read_with_no_sentence_lost(
    real_data: Path, name: str, videos: int, sentences: int
) -> None:
    found = read_packed_clips(real_data / "captions" / name)
    assert len(found.videos) == videos
    assert sum(len(video.references) for video in found.videos) == sentences
    assert len(found.issues) == 0
