#!/usr/bin/env python3
"""Change points of the same series by regrade and by its peers: who alarms on nothing, who finds a step that is there.

`benches/peers/change_points.sh` makes the environment and calls this; what it prints is reports/change-points.md. Every
detector gets the same values in the same order and says at which indices a new level begins. Nothing here is tuned to
anyone: peers run at their documented defaults, ours through `regrade judge`. Must not know how any of them decides.
"""

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from importlib.metadata import version

import numpy as np

SEED = 20261125
TOLERANCE = 3  # a point found this near a true one, on either side, counts for it; each counts once
CHUNK = 100  # launches in a real series
MARGIN = 12  # least distance of injected steps from the ends and from each other
SIZES = (0.02, 0.03, 0.05, 0.10, 0.25)
STATISTICS = ("wall_median_s", "wall_best_s", "cpu_median_s")
LONG = 10_000
PATIENCE_S = 10

# STATISTICS.md section 9: deviations of iterations, chance of an outlier, deviations of launches and of slow drift, share
# of time in bursts, deviations of sessions and of builds, share of launches at the slow clock.
WORLDS = {
    "quiet": (0.005, 0.01, 0.003, 0.002, 0.00, 0.003, 0.002, 0.00),
    "shared": (0.020, 0.03, 0.010, 0.010, 0.06, 0.010, 0.004, 0.00),
    "gpu": (0.008, 0.01, 0.004, 0.004, 0.00, 0.004, 0.001, 0.20),
    "nasty": (0.050, 0.06, 0.030, 0.030, 0.12, 0.020, 0.006, 0.00),
}


def launches(rng, world, rows, count, iterations=10):
    """Log medians of `rows` sequences of `count` launches made one after the other."""
    iteration, outlier, process, drift, burst, _, _, slow = WORLDS[world]
    values = np.empty((rows, count))
    walk = rng.normal(0, 1, rows) * drift
    in_burst = rng.random(rows) < burst
    amplitude = np.log1p(rng.uniform(0.05, 0.40, rows))
    is_slow = rng.random(rows) < slow
    enter_burst = burst * 0.35 / (1 - burst)
    enter_slow = slow * 0.30 / (1 - slow)
    for at in range(count):
        walk = 0.97 * walk + np.sqrt(1 - 0.97**2) * rng.normal(0, 1, rows) * drift
        u = rng.random(rows)
        now = np.where(in_burst, u < 0.65, u < enter_burst)
        amplitude = np.where(now & ~in_burst, np.log1p(rng.uniform(0.05, 0.40, rows)), amplitude)
        in_burst = now
        u = rng.random(rows)
        is_slow = np.where(is_slow, u < 0.70, u < enter_slow)
        launch = rng.standard_t(5, rows) / np.sqrt(5 / 3) * process
        x = rng.normal(0, iteration, (rows, iterations))
        hit = rng.random((rows, iterations)) < outlier
        x += hit * np.log1p(np.minimum(rng.pareto(1.5, (rows, iterations)) * 0.15, 20))
        values[:, at] = walk + in_burst * amplitude + is_slow * np.log(1.12) + launch + np.median(x, axis=1)
    return values


def sessions(rng, world, rows, count):
    """Log values of sessions: the lower quartile of five launches spread over a session, as in section 9.5."""
    spread = launches(rng, world, rows * count * 5, 1).reshape(rows, count, 5)
    values = np.quantile(spread, 0.25, axis=2)
    between = np.hypot(WORLDS[world][5], WORLDS[world][6])
    return values + rng.normal(0, between, values.shape) + rng.normal(0, 0.003, values.shape)


def recorded(path, half):
    """Series of CHUNK launches as they were recorded: (name, values)."""
    with open(path) as file:
        recording = json.load(file)
    found = []
    for number, row in enumerate(recording["series"]):
        if half != "all" and (number % 2 == 0) != (half == "choosing"):
            continue
        for statistic in STATISTICS:
            values = np.array(row[statistic])
            for start in range(0, len(values) - CHUNK + 1, CHUNK):
                name = f"{row['case']} {statistic} from {start}"
                found.append((name, values[start : start + CHUNK]))
    return found


def with_steps(rng, values, size, count):
    """The series with `count` steps of `size` up or down at drawn places; and the places."""
    while True:
        places = np.sort(rng.integers(MARGIN, len(values) - MARGIN + 1, count))
        if count == 1 or np.min(np.diff(places)) >= MARGIN:
            break
    values = values.copy()
    for place in places:
        values[place:] *= (1 + size) ** rng.choice((-1, 1))
    return values, places.tolist()


def regrade(program, many):
    """Change points of many series by one call of `regrade judge`."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        rows = [
            {"id": str(i), "unit": "s", "lower_is_better": True, "values": list(values)} for i, values in enumerate(many)
        ]
        json.dump({"series": rows}, file)
        file.flush()
        command = [program, "judge", file.name, "--format", "json"]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [row["change_points"] for row in json.loads(out)["series"]]


def pelt(values):
    import ruptures

    return ruptures.Pelt(model="rbf").fit(values).predict(pen=10)[:-1]


def otava(values):
    from otava.analysis import compute_change_points

    try:
        return [int(point.index) for point in compute_change_points(list(values))[0]]
    except ValueError:  # it gives up on some series of few distinct values
        return []


def e_divisive(values):
    from signal_processing_algorithms.energy_statistics.energy_statistics import e_divisive as detect

    np.random.seed(SEED)
    return sorted(int(point) for point in detect(np.asarray(values)))


PEERS = {"PELT (rbf)": pelt, "Otava": otava, "E-divisive": e_divisive}


def everyone(program, many, for_peers=None):
    """Change points of many series by detector; peers get the first `for_peers` of them."""
    many = [np.asarray(values, dtype=float) for values in many]
    found = {"regrade": regrade(program, many)}
    with multiprocessing.Pool(2) as pool:
        for name, detect in PEERS.items():
            found[name] = pool.map(detect, many[:for_peers])
    return found


def matched(found, true):
    """How many found points stand for a true one, each for one at most."""
    left = sorted(found)
    hits = 0
    for place in true:
        near = [point for point in left if abs(point - place) <= TOLERANCE]
        if near:
            left.remove(min(near, key=lambda point: (abs(point - place), point)))
            hits += 1
    return hits


class Score:
    def __init__(self):
        self.hits = self.found = self.true = 0

    def add(self, found, true):
        self.hits += matched(found, true)
        self.found += len(found)
        self.true += len(true)

    def precision(self):
        return self.hits / self.found if self.found else float("nan")

    def recall(self):
        return self.hits / self.true

    def f1(self):
        return 2 * self.hits / (self.found + self.true)


def alarmed(found):
    """Share of series with any change point."""
    return sum(bool(points) for points in found) / len(found)


def table(heading, rows):
    lines = ["| " + " | ".join(heading) + " |", "| --- |" + " ---: |" * (len(heading) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def percent(share):
    return f"{100 * share:.1f} %"


def timed(detect, values, answer):
    start = time.perf_counter()
    detect(values)
    answer.put(time.perf_counter() - start)


def time_of(detect, values):
    """Seconds for one series, or None when PATIENCE_S is over or the child died."""
    answer = multiprocessing.Queue()
    child = multiprocessing.Process(target=timed, args=(detect, values, answer))
    child.start()
    child.join(PATIENCE_S)
    if child.is_alive():
        child.kill()
        child.join()
        return None
    return answer.get() if child.exitcode == 0 else None


def ours(program, values):
    """Seconds that our detector adds to a call: ten copies of the series against ten of a few values."""
    best = []
    for _ in range(3):
        spent = []
        for many in ([values] * 10, [values[:11]] * 10):
            start = time.perf_counter()
            regrade(program, many)
            spent.append(time.perf_counter() - start)
        best.append(spent[0] / 10)
    return min(best)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--regrade", default="target/release/regrade")
    parser.add_argument("--half", choices=("choosing", "reporting", "all"), default="reporting")
    parser.add_argument("--series", default="tests/fixtures/series")
    parser.add_argument("--histories", type=int, default=1000, help="null series of each synthetic world")
    parser.add_argument("--peer-histories", type=int, default=40, help="how many of them the slow peers get")
    parser.add_argument("--skip-times", action="store_true")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    program = arguments.regrade
    names = ["regrade", *PEERS]
    print("# Change points: regrade and its peers\n")
    versions = ", ".join(
        f"{package} {version(package)}"
        for package in ("ruptures", "apache-otava", "signal-processing-algorithms", "numpy", "scipy")
    )
    own = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    words = " ".join(["benches/peers/change_points.sh", *sys.argv[1:]])
    print(f"Made by `{words}`", end="")
    print(f" on {time.strftime('%Y-%m-%d')}: {own}, {versions}, Python {platform.python_version()};")
    print(f"{os.cpu_count()} processors ({cpu}), shared.\n")
    print(
        "Peers at their documented defaults: PELT with the rbf kernel and the penalty 10 of its documentation's first\n"
        "example (it has no default; minimum size 2, every 5th place tried), Otava with window 50, p 0.001 and no minimum\n"
        "magnitude, E-divisive with p 0.05 and 100 permutations. regrade through `regrade judge`. A found point counts\n"
        f"for a true one within {TOLERANCE} points on either side, each once, for all alike.\n"
    )

    print("## Histories in which nothing happens\n")
    print("Share with a change point. The synthetic worlds are those of STATISTICS.md section 9:")
    print(f"{arguments.histories} histories of 60 sessions each (lower quartile of five launches spread over a session),")
    print("and as many of 100 launches made one after the other, which drift and burst; peers, being slow, get the first")
    print(f"{arguments.peer_histories} of each.\n")
    rows = []
    for kind, make, count in (("sessions", sessions, 60), ("launches", launches, 100)):
        for world in WORLDS:
            rng = np.random.default_rng([SEED, list(WORLDS).index(world), count])
            many = np.exp(make(rng, world, arguments.histories, count))
            found = everyone(program, many, arguments.peer_histories)
            rows.append([f"{world}, {kind}", *(percent(alarmed(found[name])) for name in names)])
    real = {kind: recorded(f"{arguments.series}/{kind}.json", arguments.half) for kind in ("quiet", "loaded", "busy")}
    for kind, series in real.items():
        if series:
            found = everyone(program, [values for _, values in series])
            title = f"real, {kind} ({len(series)} series)"
            rows.append([title, *(percent(alarmed(found[name])) for name in names)])
    print(table(["histories", *names], rows))

    print("## Steps in real noise\n")
    print(f"Every real series of {CHUNK} launches (half `{arguments.half}`), once with one step and once with three, of each")
    print("size, up or down, at drawn places. What the machine itself did in a series counts against everybody.\n")
    total = {name: Score() for name in names}
    for kind, series in real.items():
        if not series:
            continue
        rows = []
        for count in (1, 3):
            for size in SIZES:
                rng = np.random.default_rng([SEED, count, round(1000 * size), len(kind)])
                stepped = [with_steps(rng, values, size, count) for _, values in series]
                found = everyone(program, [values for values, _ in stepped])
                row = [f"{count} × {100 * size:.0f} %"]
                for name in names:
                    score = Score()
                    for points, (_, true) in zip(found[name], stepped):
                        score.add(points, true)
                        total[name].add(points, true)
                    row.append(f"{score.precision():.2f} / {score.recall():.2f} / {score.f1():.2f}")
                rows.append(row)
        print(f"{kind.capitalize()}, precision / recall / F1:\n")
        print(table(["steps", *names], rows))
    scores = {name: (f"{s.precision():.3f}", f"{s.recall():.3f}", f"{s.f1():.3f}") for name, s in total.items()}
    print("All of them together:\n")
    print(table(["", *names], [[word, *(scores[name][i] for name in names)] for i, word in enumerate(("precision", "recall", "F1"))]))

    if arguments.skip_times:
        return
    print(f"## Time for {LONG:,} points\n")
    print(f"One series; peers in a process of their own, killed after {PATIENCE_S} s. For regrade: a call of `regrade judge`")
    print("with ten such series, reading and printing included, over ten.\n")
    rng = np.random.default_rng([SEED, LONG])
    plain = np.exp(rng.normal(0, 0.01, LONG))
    many_steps = plain * np.repeat(1 + 0.1 * (np.arange(100) % 2), LONG // 100)
    rows = []
    for title, values in (("one level", plain), ("99 steps of 10 %", many_steps)):
        times = [ours(program, values), *(time_of(detect, values) for detect in PEERS.values())]
        shown = [f"> {PATIENCE_S} s" if t is None else f"{1000 * t:.0f} ms" if t < 1 else f"{t:.1f} s" for t in times]
        rows.append([title, *shown])
    print(table(["series", *names], rows))


if __name__ == "__main__":
    main()
