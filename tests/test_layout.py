"""The architecture, as a test: who may import whom, and why two folders have no __init__.py."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# each layer may import itself and the layers named here
ALLOWED: dict[str, set[str]] = {
    "kernels": set(),
    "timeline": set(),
    "config": set(),
    "device": set(),
    "decoding": {"timeline", "kernels"},
    "losses": set(),
    "submission": {"timeline"},
    "video": set(),
    "metrics": {"timeline"},
    "nn": {"kernels"},
    "models": {"nn"},
    "features": {"video", "models", "device"},
    "data": {"datasets", "features", "models", "config"},
    "datasets": {"video", "timeline"},
    "report": {"video", "timeline"},
    "tasks": {"models", "losses", "metrics", "datasets", "config", "timeline", "device"},
    "training": {"tasks", "datasets", "report", "timeline"},
    "evaluation": {"tasks", "metrics", "datasets"},
    "caption_evaluation": {"caption_inference", "evaluation", "tasks", "metrics", "datasets"}
    | {"timeline"},
    "inference": {"caption_inference", "tasks", "models", "features", "config", "timeline"}
    | {"report"},
    "caption_inference": {"tasks", "datasets", "features", "timeline"},
    "demo": {"training", "evaluation", "inference", "tasks", "models", "nn", "data", "datasets"}
    | {"config", "caption_evaluation"},
    "commands": {
        "demo",
        "caption_evaluation",
        "submission",
        "training",
        "evaluation",
        "inference",
        "tasks",
        "models",
        "features",
    }
    | {"data", "datasets", "decoding", "timeline", "config", "metrics"},
    "benchmark": {"training", "evaluation", "decoding", "tasks", "models", "data", "datasets"}
    | {"metrics", "features", "report", "config", "caption_inference", "device"},
    "cli": {"commands", "benchmark"},
}
FOLDERS = {"kernels": ROOT / "kernels", "datasets": ROOT / "datasets"}

# each dependency has one door: the files that may import it
DOORS = {
    "lightning": {"vidmamba/tasks", "vidmamba/training.py"},
    "wandb": {"vidmamba/training.py"},
    "timm": {"vidmamba/models/backbone.py"},
    "triton": {"kernels"},
    "numba": {"kernels"},
    "decord": {"vidmamba/video"},
    "av": {"vidmamba/video"},
    "jsonargparse": {"vidmamba/cli.py", "vidmamba/commands/parsing.py"},
    "tokenizers": {"vidmamba/models/tokenizer.py"},
}


def _files(layer: str) -> list[Path]:
    home = FOLDERS.get(layer, ROOT / "vidmamba" / layer)
    return [home.with_suffix(".py")] if home.with_suffix(".py").exists() else [*home.rglob("*.py")]


@pytest.mark.parametrize("layer", ALLOWED)
def test_layer_imports_only_what_it_may(layer: str) -> None:
    files = _files(layer)
    assert files, f"layer {layer} has no files"
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vidmamba."):
                target = (node.module or "").split(".")[1]
                assert target in ALLOWED[layer] | {layer}, f"{file}:{node.lineno} imports {target}"


def test_every_module_belongs_to_a_layer() -> None:
    names = {p.stem for p in (ROOT / "vidmamba").iterdir() if p.is_dir() or p.suffix == ".py"}
    assert names - {"__init__", "__main__", "__pycache__"} == set(ALLOWED)


def test_each_dependency_has_one_door() -> None:
    for folder in ("vidmamba", "kernels", "datasets"):
        for file in (ROOT / folder).rglob("*.py"):
            where = file.relative_to(ROOT).as_posix()
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    modules = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    modules = [node.module or ""]
                else:
                    continue
                for module in modules:
                    doors = DOORS.get(module.split(".")[0])
                    allowed = doors is None or any(where.startswith(door) for door in doors)
                    assert allowed, f"{where}:{node.lineno} imports {module}"


@pytest.mark.parametrize("name", ["kernels", "datasets"])
def test_folder_cannot_shadow_the_hugging_face_package(name: str) -> None:
    assert not (ROOT / name / "__init__.py").exists()
    assert (ROOT / "vidmamba" / name).resolve() == ROOT / name
