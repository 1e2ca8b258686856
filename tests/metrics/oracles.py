"""What the field itself runs, found where pycocoevalcap and Java are installed."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

PUNCTUATION = {"''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-"}
PUNCTUATION |= {".", "?", "!", ",", ":", "-", "--", "...", ";"}


def _java(jar: str) -> list[str]:
    """The command that runs one of pycocoevalcap's jars, which is its class path."""
    package = find_spec("pycocoevalcap")
    if package is None or not package.submodule_search_locations:
        pytest.skip("pycocoevalcap is not installed")
    if shutil.which("java") is None:
        pytest.skip("there is no Java")
    path = Path(next(iter(package.submodule_search_locations))) / jar
    return ["java", "-Dfile.encoding=UTF-8", "-cp", str(path)]


def field_scores(
    predicted: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """BLEU, ROUGE-L and CIDEr-D by pycocoevalcap's own scorers; sentences are tokens and blanks."""
    if find_spec("pycocoevalcap") is None:
        pytest.skip("pycocoevalcap is not installed")
    package = "pycocoevalcap"
    own = {video: [text] for video, text in predicted.items()}
    others = {video: [*texts] for video, texts in references.items()}
    bleu, _ = import_module(f"{package}.bleu.bleu").Bleu(4).compute_score(others, own, verbose=0)
    rouge, _ = import_module(f"{package}.rouge.rouge").Rouge().compute_score(others, own)
    cider, _ = import_module(f"{package}.cider.cider").Cider().compute_score(others, own)
    scores = {f"bleu{size}": float(value) for size, value in enumerate(bleu, 1)}
    return scores | {"rouge_l": float(rouge), "cider_d": float(cider)}


def field_ciders(
    predicted: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """CIDEr-D of each video by pycocoevalcap's own scorer; sentences are tokens and blanks."""
    if find_spec("pycocoevalcap") is None:
        pytest.skip("pycocoevalcap is not installed")
    own = {video: [text] for video, text in predicted.items()}
    others = {video: [*references[video]] for video in predicted}
    scorer = import_module("pycocoevalcap.cider.cider").Cider()
    return dict(zip(others, map(float, scorer.compute_score(others, own)[1]), strict=True))


def stanford_tokens(sentences: Sequence[str], folder: Path) -> list[list[str]]:
    """Tokens as pycocoevalcap's PTBTokenizer returns them."""
    file = folder / "sentences.txt"
    # the jar would take other line breaks for the ends of sentences
    file.write_text("".join(" ".join(text.split()) + "\n" for text in sentences), "utf-8")
    command = _java("tokenizer/stanford-corenlp-3.4.1.jar")
    command += ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", str(file)]
    lines = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\n")
    return [
        " ".join(token for token in line.split(" ") if token not in PUNCTUATION).split()
        for line in lines[: len(sentences)]
    ]


def meteor_scores(pairs: Sequence[tuple[str, str]]) -> tuple[list[float], float]:
    """METEOR 1.5's scores with the stages exact and stem: of each pair, and of the corpus."""
    command = [*_java("meteor/meteor-1.5.jar"), "Meteor", "-", "-", "-stdio", "-l", "en", "-norm"]
    command += ["-m", "exact stem", "-w", "1.0 0.6"]
    lines = [f"SCORE ||| {reference} ||| {predicted}" for predicted, reference in pairs]
    counts = _answers(command, lines)
    scores = [float(answer) for answer in _answers(command, ["EVAL ||| " + " ||| ".join(counts)])]
    return scores[:-1], scores[-1]


def _answers(command: list[str], lines: Sequence[str]) -> list[str]:
    text = "".join(line + "\n" for line in lines)
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=True)
    return done.stdout.decode().split("\n")[:-1]
