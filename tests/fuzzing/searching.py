"""
One search: inputs for one target, findings sorted by what broke, and a report.

Coverage leads it where atheris is there (Linux, Python up to 3.13); else plain chance.
"""

import json
import random
import sys
import time

from pathlib import Path

import attrs

from .mutation import Mutator


REPORT_SECONDS = 2.0

POOL = 4096
"""
Inputs to begin from; a new one takes the place of an old one now and then.
"""


class Search:
    """
    Tries inputs, and goes on after a finding: it is kept, the shortest of its kind.
    """

    def __init__(self, target, runs, folder):
        self.target = target
        self.runs = runs
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.inputs = 0
        self.findings = {}
        self._began = self._reported = time.monotonic()

    def one(self, data):
        """
        Try one input.
        """
        self.inputs += 1
        try:
            self.target.check(data)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 -- whatever it is, it is a finding
            self._keep(data, error)
        if self.inputs >= self.runs or not self.inputs % 64:
            self._report_in_time()

    def _keep(self, data, error):
        where = error.__traceback__
        while where.tb_next is not None:
            where = where.tb_next
        kind = (
            f"{type(error).__name__} in {Path(where.tb_frame.f_code.co_filename).name}:"
            f"{where.tb_lineno}: {str(error).split(':')[0][:60]}"
        )
        known = self.findings.setdefault(kind, {"times": 0, "length": sys.maxsize})
        known["times"] += 1
        if len(data) < known["length"]:
            name = f"{self.target.name}-{list(self.findings).index(kind)}.bin"
            (self.folder / name).write_bytes(data)
            known.update(length=len(data), said=str(error)[:500], file=name)

    def _report_in_time(self):
        now = time.monotonic()
        if self.inputs >= self.runs or now - self._reported > REPORT_SECONDS:
            self._reported = now
            self.report()

    def report(self):
        """
        Write what is known so far: libFuzzer ends the process without asking anybody.
        """
        told = {
            "target": self.target.name,
            "inputs": self.inputs,
            "seconds": time.monotonic() - self._began,
            "findings": self.findings,
        }
        file = self.folder / f"{self.target.name}.json"
        partly = file.with_suffix(".part")
        partly.write_text(json.dumps(told, indent=1))
        partly.replace(file)


def by_chance(search, seed):
    """
    Mutate what is in a pool that drifts away from the seeds.
    """
    rng = random.Random(seed)
    pool = list(search.target.seeds)
    mutator = Mutator(rng, tuple(pool))
    for data in tuple(pool):
        if search.inputs < search.runs:
            search.one(data)
    while search.inputs < search.runs:
        data = mutator.mutate(pool[int(rng.random() * len(pool))])
        search.one(data)
        if rng.random() < 0.05:
            if len(pool) < POOL:
                pool.append(data)
            else:
                pool[int(rng.random() * POOL)] = data
    search.report()


@attrs.frozen
class Guided:
    """
    libFuzzer's view of a search: it calls back, and does not return.
    """

    search: Search

    seed: int

    def run(self, atheris):
        """
        Search until the runs are used up; ends the process.
        """
        search, seeds = self.search, self.search.target.seeds
        corpus = search.folder / f"corpus-{search.target.name}"
        corpus.mkdir(exist_ok=True)
        for at, data in enumerate(seeds):
            (corpus / f"seed-{at:03}").write_bytes(data)
        rng = random.Random(self.seed)
        mutator = Mutator(rng, seeds)

        def mutate(data, most, seed):
            # Half of the steps know the shapes, half know nothing: those find what our
            # mutator does not think of.
            if seed % 2:
                return atheris.Mutate(data, most)
            return mutator.mutate(bytes(data))[:most]

        options = [
            sys.argv[0],
            f"-runs={search.runs}",
            f"-seed={self.seed}",
            f"-max_len={search.target.longest}",
            "-timeout=120",
            "-rss_limit_mb=0",
            "-print_final_stats=1",
            f"-artifact_prefix={search.folder}/",
            str(corpus),
        ]
        atheris.Setup(options, search.one, custom_mutator=mutate)
        atheris.Fuzz()
