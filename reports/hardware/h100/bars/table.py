"""Tables from what bars.sh left in a folder: rates and agreement beside PyTorch, and how closely launches repeat. Where the folder
has kernels.sqlite, how closely those launches repeat, whatever run they belong to.

table.py FOLDER
"""

import json
import pathlib
import sqlite3
import statistics
import sys

folder = pathlib.Path(sys.argv[1])


def launches(database, metric):
    """Case → the median of each launch, in the order in which they were made."""
    rows = sqlite3.connect(folder / database).execute(
        "SELECT case_id, median FROM launches JOIN metrics ON metrics.launch = launches.key"
        " JOIN runs ON runs.key = launches.run"
        " WHERE name = ? AND outcome = 'measured' AND suite_name != 'nvidia-roadmap' ORDER BY launches.started_ns",
        (metric,),
    )
    found = {}
    for case, median in rows:
        found.setdefault(case.removesuffix("@nvidia"), []).append(median)
    return found


def spread(values):
    return statistics.stdev(values) / statistics.mean(values)


if (folder / "bars.sqlite").exists():
    ours = {case: statistics.median(values) for case, values in launches("bars.sqlite", "latency").items()}
    peers = [json.loads((folder / f"peers-{turn}.json").read_text()) for turn in (1, 2)]
    # The lowest of PyTorch's figures, by any way of timing, backend and turn: what it can do at its best here.
    best = {}
    for work in peers[0]:
        benches = [peer[work]["do_bench_s"] for peer in peers]
        lowest = min([*benches, *(peer[work]["rested_s"] for peer in peers)])
        case = work.split(" ")[0]
        if case not in best or lowest < best[case][0]:
            best[case] = (lowest, benches, work)
    print("| work | regrade, ms | PyTorch at its best, ms | rate against it | do_bench, ms (two turns) |\n|---|---|---|---|---|")
    for case, (lowest, benches, work) in best.items():
        time = ours[case]
        turns = ", ".join(f"{bench * 1e3:.4f}" for bench in benches)
        print(f"| {work} | {time * 1e3:.4f} | {lowest * 1e3:.4f} | {lowest / time:.3f} | {turns} |")
    copied = 2 * 2**30 / ours["copy"]
    for case in ("softmax", "layernorm"):
        moved = 2 * 16384 * 8192 * 2 / ours[case]
        print(f"\n{case}: {moved / 1e12:.3f} TB/s, {moved / copied:.1%} of the copy's {copied / 1e12:.3f} TB/s")

if (folder / "resolution.sqlite").exists():
    time, cycles = (launches("resolution.sqlite", metric) for metric in ("latency", "cycles"))
    naive = [json.loads(line) for line in (folder / "naive.jsonl").read_text().splitlines() if line.strip()]
    print("\n| work | launches | median, us | variation of time | of cycles | PyTorch processes | variation of time |\n|---|---|---|---|---|---|---|")
    for case, values in time.items():
        peer = [process[case] for process in naive]
        print(
            f"| {case} | {len(values)} | {statistics.median(values) * 1e6:.2f} | {spread(values):.2%} | {spread(cycles[case]):.2%} |"
            f" {len(peer)} | {spread(peer):.2%} |"
        )

if (folder / "kernels.sqlite").exists():
    time, cycles = (launches("kernels.sqlite", metric) for metric in ("latency", "cycles"))
    print("| case | launches | median, us | variation of time | of cycles |\n|---|---|---|---|---|")
    for case, values in sorted(time.items()):
        median = statistics.median(values) * 1e6
        print(f"| {case} | {len(values)} | {median:.2f} | {spread(values):.2%} | {spread(cycles[case]):.2%} |")
