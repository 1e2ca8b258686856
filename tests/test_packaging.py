"""What `pip install .` installs is whole: the linked folders, the page's files, the command."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package installed from the checkout, its dependencies apart."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"--target={target}"]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    return target


def test_every_module_and_every_page_file_is_installed(installed: Path) -> None:
    for folder, package in (("vidmamba", "."), ("kernels", "kernels"), ("datasets", "datasets")):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in {".py", ".html", ".css", ".js", ".typed"}:
                path = installed / "vidmamba" / package / file.relative_to(ROOT / folder)
                assert path.is_file(), f"{file} is not installed"


def test_the_command_runs_from_the_installed_files_alone(installed: Path, tmp_path: Path) -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(installed)!r})\n"
        "import vidmamba\n"
        "from vidmamba.cli import main\n"
        "print(vidmamba.__file__)\n"
        "main(['--help'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(installed))
    assert "predict" in done.stdout
    assert "name = vidmamba.cli:main" in next(
        path.read_text().replace("vidmamba = ", "name = ")
        for path in installed.rglob("entry_points.txt")
    )
