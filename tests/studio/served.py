"""A studio served by a process of its own, as `avgen serve` does, for tests."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request

SAID = 'a man says "place red"'
TOKEN = "very-s3cret-token"  # of the server that wants one
# Root may write where nobody may: servers of tests do without that right, if it can be given up.
ORDINARY = ["setpriv", "--bounding-set", "-dac_override"]


def ordinary() -> list[str]:
    """What makes a command obey permissions."""
    if os.geteuid() != 0 or shutil.which(ORDINARY[0]) is None:
        return []
    return ORDINARY if subprocess.run([*ORDINARY, "true"]).returncode == 0 else []


class Served:
    """A server of its own process.

    `url` is where, `folder` what it keeps; `call` asks it, `wait` waits for a clip to end.
    """

    def __init__(self, model, folder, *arguments, environment=None):
        self.model, self.folder, self.arguments = model, folder, arguments
        self.environment = {
            **os.environ,
            "AVGEN_CONFIG": str(folder / "config"),
            **(environment or {}),
        }
        self.start()

    def start(self):
        told = {"--port": 0, "--threads": 1, "--model": self.model, "--data": self.folder}
        flags = [str(part) for pair in told.items() for part in pair]
        command = [*ordinary(), sys.executable, "-m", "avgen.cli", "serve", *flags, *self.arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=self.environment
        )
        line = self.process.stdout.readline()
        self.url = re.search(r"http://[^/\s]+", line)[0]

    def ready(self):
        for _ in range(1800):
            try:
                if self.call("/ready")["status"] == "ready":
                    return self
            except OSError:
                time.sleep(0.1)
        raise AssertionError("the server did not become ready within three minutes")

    def call(self, path, body=None, method=None, headers=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path,
            data,
            {"Content-Type": "application/json", **(headers or {})},
            method=method,
        )
        if token := self.environment.get("AVGEN_TOKEN"):
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)

    def make(self, **fields):
        return self.call("/v1/videos", {"prompt": SAID, **fields})["id"]

    def wait(self, name, until=("completed", "failed"), seconds=60):
        for _ in range(20 * seconds):
            video = self.call(f"/v1/videos/{name}")
            if video["status"] in until:
                return video
            time.sleep(0.05)
        raise AssertionError(f"{name} is {video['status']} after {seconds} s")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
        self.process.stdout.close()
