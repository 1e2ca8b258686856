"""Small data sets in every format of annotations, for tests to read and to break."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SEQUENCE = "nusar-2021_action_both_9011-a01_9011_user_id_2021-02-01_153724"
TASKS = ("assembly", "disassembly")
VIEWS = ("C10095_rgb", "HMC_21110305_mono10bit")

EPIC_HEADER = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,"
    "start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
)
FINE_HEADER = (
    "id,video,start_frame,end_frame,action_id,verb_id,noun_id,action_cls,verb_cls,noun_cls,"
    "toy_id,toy_name,is_shared,is_RGB\n"
)
DATABASE: dict[str, Any] = {
    "version": "VERSION 1.3",
    "database": {
        "abc": {
            "subset": "training",
            "duration": 30.0,
            "annotations": [
                {"segment": [12, 15.5], "label": "Rowing"},
                {"segment": [1.5, 8.0], "label": "Rowing"},
            ],
        },
        "-x_é": {
            "subset": "validation",
            "duration": 9.0,
            "annotations": [
                {"segment": [0.0, 9.0], "label": "Diving"},
                {"segment": [0.0, 9.0], "label": "CliffDiving"},
            ],
        },
        "withheld": {"subset": "testing", "duration": 5.0, "annotations": []},
    },
}
COIN = {
    "database": {
        "tea": {
            "class": "MakeTea",
            "recipe_type": 12,
            "subset": "testing",
            "duration": 60,
            "annotation": [{"id": "3", "segment": [5.0, 9.0], "label": "boil water"}],
        }
    }
}
SOMETHING = "something-something-v2"


def _assembly101_coarse() -> dict[str, str]:
    files = {
        "coarse_seq_views.txt": "".join(
            f"{task}_{part}-{SEQUENCE}/{view}.mp4\n"
            for part in ("train", "val")
            for task in TASKS
            for view in VIEWS
        )
    }
    for part in ("train", "val"):
        for task in TASKS:
            name = f"{task}_{part}-{SEQUENCE}.txt"
            files[f"coarse_splits/{part}_coarse_{task}.txt"] = f"{name}\tnotshared\ta01\tsuv\n"
            files[f"coarse_labels/{name}"] = (
                "000000300\t000000600\tattach cabin\t\n000000600\t000000630\tscrew chassis\n"
                if task == "assembly"
                else "000000900\t000001200\tunscrew chassis\n"
            )
    return {f"coarse-annotations/{name}": text for name, text in files.items()}


SAMPLES: dict[str, dict[str, str]] = {
    "segments_csv": {
        "annotations.csv": "video,start,end,label,subset,remark\n"
        'a/x.mp4,0,12.5,"cut, bread",train,\n'
        "y,00:00:03,1:04.5,eat,test,late\n"
        'a/x.mp4,10,20,eat,train,"overlaps"\n'
    },
    "breakfast": {
        "segmentation_coarse/cereals/P03_cam01_P03_cereals.txt": "1-30 SIL  \n31-150 take_bowl\n",
        "segmentation_coarse/coffee/P16_stereo01_P16_coffee.txt": "1-15 SIL\n16-16 pour_coffee\n",
    },
    "assembly101_coarse": _assembly101_coarse(),
    "assembly101_fine": {
        "fine-grained-annotations/train.csv": FINE_HEADER
        + f"7,{SEQUENCE}/{VIEWS[0]}.mp4,84,111,10,18,27,clap hand,clap,hand,a30,suv,0,1\n"
        + f"8,{SEQUENCE}/{VIEWS[0]}.mp4,111,111,11,3,27,pick up hand,pick up,hand,a30,suv,0,1\n",
        "fine-grained-annotations/validation.csv": FINE_HEADER
        + f"9,other/{VIEWS[1]}.mp4,0,30,10,18,27,clap hand,clap,hand,a30,suv,0,0\n",
    },
    "activitynet": {"annotations.json": json.dumps(DATABASE, indent=1)},
    "coin": {"COIN.json": json.dumps(COIN)},
    "epic_kitchens": {
        "EPIC_100_train.csv": EPIC_HEADER
        + "P01_01_0,P01,P01_01,00:00:01.089,00:00:00.14,00:00:03.37,8,202,open door,"
        "open,3,door,3,['door'],[3]\n"
        + "P01_01_1,P01,P01_01,00:00:02.629,00:00:02.37,01:00:04.50,262,370,turn on light,"
        "turn-on,6,light,114,['light'],[114]\n",
        "EPIC_100_validation.csv": EPIC_HEADER
        + "P02_101_0,P02,P02_101,00:00:01.100,00:00:00.54,00:00:02.23,27,111,open big cupboard,"
        "open,3,cupboard,3,\"['cupboard', 'big']\",\"[3, 4]\"\n",
        "EPIC_100_verb_classes.csv": "id,key,instances,category\n"
        "6,turn-on,\"['turn-on']\",access\n3,open,['open'],access\n",
        "EPIC_100_noun_classes.csv": "id,key,instances,category\n"
        "3,door,\"['door', 'cupboard']\",x\n114,light,['light'],x\n",
    },
    "video_list": {"annotations.csv": "path,label\ndance/a.mp4,waltz\ndance/b.mp4,tango\n"},
    "ucf101": {
        "ucfTrainTestlist/classInd.txt": "1 Archery\n2 Bowling\n",
        "ucfTrainTestlist/trainlist01.txt": "Archery/v_Archery_g08_c01.avi 1\n"
        "Bowling/v_Bowling_g08_c01.avi 2\n",
        "ucfTrainTestlist/testlist01.txt": "Bowling/v_Bowling_g01_c01.avi\r\n",
    },
    "kinetics": {
        "train.csv": "label,youtube_id,time_start,time_end,split\n"
        "testifying,---QUuC4vJs,84,94,train\neating cake,-0a1b2c3d4e,5,15,train\n",
        "validate.csv": "label,youtube_id,time_start,time_end,split\n"
        '"eating cake",---QUuC4vJs,100,110,validate\n',
    },
    "something_something": {
        f"{SOMETHING}-labels.json": json.dumps(
            {"Holding something": "1", "Moving something up": "0"}
        ),
        f"{SOMETHING}-train.json": json.dumps(
            [
                {
                    "id": "78687",
                    "label": "holding potato",
                    "template": "Holding [something]",
                    "placeholders": ["potato"],
                },
                {"id": "7", "label": "moving cup up", "template": "Moving [something] up"},
            ],
            indent=1,
        ),
        f"{SOMETHING}-validation.json": json.dumps(
            [{"id": "9", "label": "holding a pen", "template": "Holding [something]"}]
        ),
    },
}
"""By format: the text of each file, by its path."""


@pytest.fixture
def sample(tmp_path: Path) -> Callable[[str], Path]:
    """Write the sample of a format, and return its folder."""

    def write(name: str) -> Path:
        for file, text in SAMPLES[name].items():
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_bytes(text.encode())
        return tmp_path

    return write
