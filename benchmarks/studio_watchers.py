"""A studio under watch: does it grow, does a watcher miss anything.

    python benchmarks/studio_watchers.py --model FOLDER [--minutes 60] [--watchers 50] [--gets 200]

Starts a server, has WATCHERS listen to its events (each leaves and comes back with Last-Event-ID
now and then), asks it GETS times a second, and queues a clip every few seconds. Prints how much the
server grew and how many events any watcher missed.
"""

import argparse
import json
import random
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import psutil
from served import Served  # PYTHONPATH=tests/studio

AGAIN_S = 20  # a watcher stays for about so long


def watch(url: str, until: float, seen: list[int]) -> None:
    """Listen, leave, come back; the numbers of the events that were told."""
    last = 0
    while time.time() < until:
        request = urllib.request.Request(f"{url}/v1/events?after={last}")
        if last:
            request.add_header("Last-Event-ID", str(last))
        leave = time.time() + random.uniform(0.5, 1.5) * AGAIN_S
        try:
            with urllib.request.urlopen(request, timeout=20) as stream:
                number, is_event = 0, False
                for raw in stream:
                    if raw.startswith(b"id:"):
                        number = int(raw[3:])
                    elif raw.startswith(b"event:"):
                        is_event = True
                    elif raw == b"\n" and is_event:
                        seen.append(number)
                        last, is_event = number, False
                    if time.time() > min(leave, until):
                        break
        except OSError:
            time.sleep(0.2)


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--watchers", type=int, default=50)
    parser.add_argument("--gets", type=float, default=200)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Served(args.model, Path(folder)).ready()
        process = psutil.Process(server.process.pid)
        until = time.time() + 60 * args.minutes
        seen: list[list[int]] = [[] for _ in range(args.watchers)]
        for numbers in seen:
            threading.Thread(target=watch, args=(server.url, until, numbers), daemon=True).start()
        time.sleep(min(30, 6 * args.minutes))
        begun, made, asked, following = process.memory_info().rss, 0, 0, time.time()
        while time.time() < until - 5:
            if time.time() > following:
                made, following = made + 1, time.time() + 5
                server.make(seed=made)
            server.call("/v1/videos?limit=5")
            asked += 1
            time.sleep(max(0, 1 / args.gets - 0.001))
        grown = process.memory_info().rss / begun - 1
        time.sleep(8)
        everything = set().union(*seen)
        missed = [len(everything - set(numbers)) for numbers in seen]
        twice = [len(numbers) - len(set(numbers)) for numbers in seen]
        print(json.dumps({
            "minutes": args.minutes, "watchers": args.watchers, "clips": made, "gets": asked,
            "events": len(everything), "missed_at_most": max(missed), "twice_at_most": max(twice),
            "rss_mib": round(begun / 2**20), "grown": round(grown, 3),
        }))  # fmt: skip
        server.stop()


if __name__ == "__main__":
    main()
