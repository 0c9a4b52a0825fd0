"""A new environment in, what the extra `studio` adds to it out, and how soon the page is there.

    python benchmarks/studio_install.py [--pip-arguments "--extra-index-url URL"]

Makes a virtual environment, installs avgen as it stands here without extras, then with `studio`,
and serves the shipped model. Nothing is on the path but the environment: no Node, no compiler.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMPORTED = "import sys, avgen.studio.app; sys.exit('torch' in sys.modules)"


def megabytes(folder: Path) -> float:
    """Of all files below a folder, in 10^6 bytes."""
    return sum(path.lstat().st_size for path in folder.rglob("*")) / 1e6


def main() -> None:
    """Install, serve, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pip-arguments", default="")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "venv"
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        environment = {**os.environ, "PATH": str(place / "bin")}
        environment.pop("PYTHONPATH", None)
        sizes = []
        for what in ("", "[studio]"):
            install = [
                place / "bin/pip",
                "install",
                "-q",
                *args.pip_arguments.split(),
                f"{ROOT}{what}",
            ]
            began = time.time()
            subprocess.run(install, check=True, env=environment, cwd=folder)
            sizes.append(megabytes(place))
            print(f"avgen{what}: {sizes[-1]:.1f} MB in {time.time() - began:.0f} s", flush=True)
        print(f"studio adds {sizes[1] - sizes[0]:.1f} MB")
        loaded = subprocess.run([place / "bin/python", "-c", IMPORTED], env=environment, cwd=folder)
        print("the server imports torch:", bool(loaded.returncode))
        began, command = time.time(), [place / "bin/avgen", "serve", "--port", "0"]
        server = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
        )
        assert server.stdout is not None
        found = re.search(r"http://[^/\s]+", server.stdout.readline())
        assert found is not None
        for path in ("/health", "/", "/ready"):
            while True:
                try:
                    with urllib.request.urlopen(found[0] + path) as answer:
                        assert answer.status == 200
                    break
                except OSError:
                    time.sleep(0.05)
            print(f"{path} after {time.time() - began:.1f} s", flush=True)
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
