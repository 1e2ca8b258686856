"""Score dense captions, a submission in ActivityNet's format, against people's annotations.

python tools/score_captions.py predictions.json --references val_1.json val_2.json
python tools/score_captions.py captions.json.gz#val_1 --references captions.json.gz#val_2

The second scores one person against another: how well a human does. `FILE#PART` is the object
under a key, where one file holds several; predictions may be such annotations too. BLEU, METEOR,
ROUGE-L, SODA_c, precision and recall are printed times 100, as papers do, and CIDEr as well.
"""

import argparse
import json
import logging
import time
from pathlib import Path

from vidmamba.datasets.captions import read_activitynet
from vidmamba.metrics.captions import KNOWN_DIFFERENCES, score_dense_captions
from vidmamba.submission import read_submission
from vidmamba.timeline import Caption

COUNTS = ("videos", "videos_without_prediction", "videos_without_reference")


def read_annotations(name: str) -> dict[str, tuple[Caption, ...]]:
    """Read FILE or FILE#PART, and say what in it could not be used."""
    path, _, part = name.partition("#")
    annotated = read_activitynet(path, part=part or None)
    for kind, count in annotated.issues.counts.items():
        logging.info("%s: %s: %d", name, kind, count)
    return {video.name: video.captions for video in annotated.videos}


def read_predictions(name: str) -> dict[str, tuple[Caption, ...]]:
    """Read a submission, or annotations given as FILE#PART."""
    return read_annotations(name) if "#" in name else read_submission(name)


def main() -> None:
    """Print a line a score, then what to know about them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("predictions")
    parser.add_argument("--references", nargs="+", required=True, help="one file a person")
    parser.add_argument("--thresholds", nargs="+", type=float, default=[0.3, 0.5, 0.7, 0.9])
    parser.add_argument("--out", type=Path, help="write the scores, not times 100, as JSON")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    predicted = read_predictions(arguments.predictions)
    references = [read_annotations(name) for name in arguments.references]
    start = time.perf_counter()
    scores = score_dense_captions(predicted, references, thresholds=arguments.thresholds)
    seconds = time.perf_counter() - start
    for name, score in scores.items():
        print(f"{name:28} {score if name in COUNTS else 100 * score:9.2f}")
    print(f"\n{seconds:.1f} s", *KNOWN_DIFFERENCES, sep="\n- ")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
