"""Run every command of the README's `sh` blocks, word for word, and stop at the first that fails.

python tools/run_readme.py [--list]
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def commands(readme: str) -> list[str]:
    """Return the commands of all `sh` blocks in order, comments dropped, continued lines joined."""
    blocks = re.findall(r"^```sh\n(.*?)^```", readme, flags=re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    bare = [re.sub(r"\s+#.*", "", line).strip() for line in lines]
    return [line for line in bare if line and not line.startswith("#")]


def main() -> int:
    """Run them in the repository's root, its virtual environment first on the PATH."""
    parser = argparse.ArgumentParser(description="Run the README's commands.")
    parser.add_argument("--list", action="store_true", help="print them and run nothing")
    listed = parser.parse_args().list
    bin_folder = ROOT / ".venv" / "bin"
    environment = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    for command in commands((ROOT / "README.md").read_text()):
        print(f"$ {command}", flush=True)
        if not listed:
            done = subprocess.run(command, shell=True, cwd=ROOT, env=environment, check=False)
            if done.returncode:
                print(f"README: {command!r} ended with {done.returncode}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
