"""The table of programs beside JAX from what xla.sh left in a folder.

xla_table.py FOLDER
"""

import json
import pathlib
import sqlite3
import statistics
import sys

folder = pathlib.Path(sys.argv[1])
turns = [json.loads(line) for line in (folder / "jax.jsonl").read_text().splitlines()]
found = {}
for case, run, name, median in sqlite3.connect(folder / "xla.sqlite").execute(
    "SELECT case_id, run, name, median FROM launches JOIN metrics ON metrics.launch = launches.key"
    " WHERE name IN ('latency', 'cpu_time') ORDER BY launches.started_ns"
):
    program = case.split("program=")[1].split("@")[0]
    found.setdefault(program, {}).setdefault(name, {}).setdefault(run, []).append(median * 1e3)

print("| program | ours, ms | JAX, ms (two turns) | ratio | variation in each session | CPU time, ours and JAX, ms |")
print("|---|---|---|---|---|---|")
for program, metrics in sorted(found.items()):
    sessions = list(metrics["latency"].values())
    ours = statistics.median([value for session in sessions for value in session])
    jax = [turn[program]["wall_s"] * 1e3 for turn in turns]
    spreads = ", ".join(f"{statistics.stdev(values) / statistics.mean(values):.2%}" for values in sessions)
    cpu = statistics.median([value for session in metrics["cpu_time"].values() for value in session])
    jax_cpu = statistics.median(turn[program]["cpu_s"] * 1e3 for turn in turns)
    print(
        f"| {program} | {ours:.4f} | {', '.join(f'{value:.4f}' for value in jax)} | {ours / statistics.median(jax):.3f}"
        f" | {spreads} | {cpu:.3f}, {jax_cpu:.3f} |"
    )
