"""A studio under watch: does it grow, does a watcher miss anything.

    PYTHONPATH=.:tests/studio python benchmarks/studio_watchers.py --model FOLDER
        [--minutes 60] [--watchers 50] [--gets 200] [--every 5]

Starts a server, has WATCHERS listen to its events (each leaves after a while and comes back with
Last-Event-ID), asks it GETS times a second, or as often as it answers, and queues a clip EVERY so
many seconds. Twelve times what each watcher was told is held against the events in the server's own
database: MiB, GETs, clips, events, missed and told twice at most by a watcher.
"""

import argparse
import http.client
import json
import random
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
from served import Served

from avgen.studio.queue import Queue

AGAIN_S = 20  # a watcher stays for about so long
SETTLED_S = 60  # after which the server's memory is first read


def watch(url: str, is_over: threading.Event, seen: list[int]) -> None:
    """Listen, leave, come back; the numbers of the events that were told."""
    last = 0
    while not is_over.is_set():
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
                    if time.time() > leave or is_over.is_set():
                        break
        except OSError:
            time.sleep(0.2)
        time.sleep(random.uniform(0, 2))  # events come meanwhile


def ask(server: Served, until: float, gets: float, every: float) -> tuple[int, int]:
    """Ask and queue until a time; how many GETs were answered, how many clips were queued."""
    host = server.url.removeprefix("http://")
    connection, asked, made, following = http.client.HTTPConnection(host), 0, 0, 0.0
    began = time.time()
    while time.time() < until:
        if time.time() > following:
            following = time.time() + every
            try:
                server.make(seed=made)
                made += 1
            except urllib.error.HTTPError as full:  # 100 wait: the worker is slower than this asks
                assert full.code == 429
        try:
            connection.request("GET", "/v1/videos?limit=5")
            answer = connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError):  # silent for 5 s: it hung up
            connection.close()
            continue
        assert answer.status == 200
        answer.read()
        asked += 1
        time.sleep(max(0.0, began + asked / gets - time.time()))
    return asked, made


def observe(server: Served, args: argparse.Namespace) -> None:
    """Watch a server for so long, and print."""
    process = psutil.Process(server.process.pid)
    seen: list[list[int]] = [[] for _ in range(args.watchers)]
    is_over = threading.Event()
    for numbers in seen:
        arguments = (server.url, is_over, numbers)
        threading.Thread(target=watch, args=arguments, daemon=True).start()
    ask(server, time.time() + min(SETTLED_S, 6 * args.minutes), args.gets, args.every)
    memory, asked, made = [process.memory_info().rss], 0, 0
    queue = Queue(server.folder / "studio.sqlite3")
    for _ in range(12):
        more = ask(server, time.time() + 5 * args.minutes, args.gets, args.every)
        asked, made = asked + more[0], made + more[1]
        memory.append(process.memory_info().rss)
        happened = {event["number"] for event in queue.events(0, 10**6)}
        time.sleep(2 * AGAIN_S)  # whoever is away comes back
        missed = [len(happened - set(numbers)) for numbers in seen]
        twice = [len(numbers) - len(set(numbers)) for numbers in seen]
        sizes = [round(rss / 2**20, 1) for rss in memory]
        print(sizes, asked, made, len(happened), max(missed), max(twice), flush=True)
    is_over.set()
    cpu = process.cpu_times()
    print(json.dumps({
        "minutes": args.minutes, "watchers": args.watchers, "clips": made, "gets": asked,
        "gets_per_s": round(asked / 60 / args.minutes, 1), "events": len(happened),
        "missed_at_most": max(missed), "twice_at_most": max(twice),
        "rss_mib": round(memory[0] / 2**20, 1), "grown": round(memory[-1] / memory[0] - 1, 4),
        "cpu_s": round(cpu.user + cpu.system),
    }))  # fmt: skip


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--watchers", type=int, default=50)
    parser.add_argument("--gets", type=float, default=200)
    parser.add_argument("--every", type=float, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Served(args.model, Path(folder)).ready()
        try:
            observe(server, args)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
