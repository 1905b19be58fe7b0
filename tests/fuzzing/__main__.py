"""
The command: ``python -m tests.fuzzing``. docs/fuzzing.md says what it does.
"""

import argparse
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path


NAMES = ("sse", "codec", "intake", "stream", "headers", "socket")

EDGES = re.compile(rb"cov: (\d+)")


def arguments():
    """
    What was asked for.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzzing",
        description="Search for bytes that break a promise.",
    )
    parser.add_argument("--target", action="append", choices=NAMES, help="default: all")
    parser.add_argument("--runs", type=int, help="inputs for each target")
    parser.add_argument("--total", type=int, default=200_000, help="inputs in all")
    parser.add_argument("--jobs", type=int, default=1, help="targets at the same time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="corpora, findings and reports")
    parser.add_argument(
        "--engine", choices=("auto", "atheris", "chance"), default="auto"
    )
    parser.add_argument("--replay", type=Path, help="try this one input of --target")
    parser.add_argument(
        "--table", action="store_true", help="print what --folder holds"
    )
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.target = given.target or list(NAMES)
    if given.engine == "auto":
        found = importlib.util.find_spec("atheris") is not None
        given.engine = "atheris" if found else "chance"
    return given


def alone(given):
    """
    Search with one target, in this process.
    """
    name = given.target[0]
    if given.engine == "atheris":
        import atheris

        # What is imported from here on tells which branches an input takes.
        with atheris.instrument_imports(include=["horay_async"]):
            from .targets import TARGETS
    else:
        from .targets import TARGETS
    from .searching import Guided, Search, by_chance

    target = TARGETS[name]
    search = Search(target, given.runs, given.folder)
    if given.engine == "atheris":
        Guided(search, given.seed).run(atheris)
    else:
        by_chance(search, given.seed)
        target.close()


def replay(given):
    """
    Try one input, and let its error be seen.
    """
    from .targets import TARGETS

    for name in given.target:
        TARGETS[name].check(given.replay.read_bytes())
        TARGETS[name].close()
        sys.stdout.write(f"{name}: kept its promises\n")


def search_all(given):
    """
    Search with every target, each in a process of its own.
    """
    from .targets import TARGETS

    shares = sum(TARGETS[name].share for name in given.target)
    folder = given.folder
    folder.mkdir(parents=True, exist_ok=True)

    def search(name):
        runs = given.runs or int(given.total * TARGETS[name].share / shares) + 1
        command = [sys.executable, "-m", __spec__.parent, "--alone"]
        command += ["--target", name, "--runs", str(runs), "--seed", str(given.seed)]
        command += ["--folder", str(folder), "--engine", given.engine]
        with (folder / f"{name}.log").open("wb") as log:
            code = subprocess.run(
                command, stdout=log, stderr=log, check=False
            ).returncode
        if code:
            sys.stdout.write(f"{name}: ended with {code}; see {folder}/{name}.log\n")
        return code

    with ThreadPoolExecutor(given.jobs) as pool:
        return sum(map(bool, pool.map(search, given.target)))


def table(folder, names):
    """
    The reports in a folder as Markdown, and how many findings they hold.
    """
    rows, findings, totals = [], [], [0, 0.0]
    for name in names:
        file = folder / f"{name}.json"
        if not file.exists():
            continue
        told = json.loads(file.read_text())
        log = folder / f"{name}.log"
        edges = EDGES.findall(log.read_bytes()) if log.exists() else []
        edges = edges[-1].decode() if edges else "-"
        inputs, seconds = told["inputs"], told["seconds"]
        totals[0] += inputs
        totals[1] += seconds
        rows.append((name, inputs, seconds, edges, len(told["findings"])))
        findings += [(name, *one) for one in told["findings"].items()]
    rows.append(("all", *totals, "", len(findings)))
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    lines = [
        f"{today}, CPython {platform.python_version()}, {platform.machine()}",
        "",
        "| target | inputs | seconds | inputs/s | edges | findings |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {name} | {inputs:,} | {seconds:,.0f} | {inputs / (seconds or 1):,.0f}"
            f" | {edges} | {found} |"
            for name, inputs, seconds, edges, found in rows
        ),
    ]
    for name, kind, told in findings:
        lines += ["", f"{name}: {kind} ({told['times']} times, {told['file']})"]
        lines += [f"    {told['said']}"]
    return "\n".join(lines) + "\n", len(findings)


def main():
    """
    Search, print the table; the exit status says whether a promise was broken.
    """
    given = arguments()
    if given.alone:
        alone(given)
        return
    if given.replay:
        replay(given)
        return
    if given.folder is None:
        if given.table:
            sys.exit("--table needs a --folder")
        given.folder = Path(tempfile.mkdtemp(prefix="horay-fuzzing-"))
    began, broken = time.monotonic(), 0
    if not given.table:
        sys.stdout.write(f"{given.engine}, into {given.folder}\n\n")
        sys.stdout.flush()
        broken = search_all(given)
    text, findings = table(given.folder, given.target)
    sys.stdout.write(text)
    if not given.table:
        sys.stdout.write(f"\n{time.monotonic() - began:,.0f} s by the clock\n")
    sys.stdout.flush()
    os._exit(1 if broken or findings else 0)


if __name__ == "__main__":
    main()
