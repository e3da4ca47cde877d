"""Tables of programs through XLA from a database: medians and variation over launches, and how the first launch of a session differs.

programs_table.py DATABASE
"""

import collections
import sqlite3
import statistics
import sys

database = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
values = collections.defaultdict(lambda: collections.defaultdict(list))
first = collections.defaultdict(list)
sessions = collections.defaultdict(list)
for case, run, name, median in database.execute(
    "SELECT case_id, run, name, median FROM launches JOIN metrics ON metrics.launch = launches.key ORDER BY launches.started_ns"
):
    values[case.split("@")[0]][name].append(median)
    sessions[name, case, run].append(median)
errors = collections.defaultdict(float)
for case, error in database.execute(
    "SELECT case_id, error / tolerance FROM launches JOIN checks ON checks.launch = launches.key"
):
    errors[case.split("@")[0]] = max(errors[case.split("@")[0]], error)


def shown(numbers, scale=1e3):
    if not numbers:
        return "–"
    spread = f" ({statistics.stdev(numbers) / statistics.mean(numbers):.2%})" if len(numbers) > 1 else ""
    return f"{statistics.median(numbers) * scale:.4f}{spread}"


print("| case | step, ms | device's own time, ms | USD for 10^15 operations | error over tolerance |")
print("|---|---|---|---|---|")
for case, metrics in sorted(values.items()):
    cost = f"{statistics.median(metrics['cost_per_pflop']):.3g}" if "cost_per_pflop" in metrics else "–"
    print(f"| {case} | {shown(metrics['latency'])} | {shown(metrics['device_time'])} | {cost} | {errors[case]:.4f} |")
for (name, _, _), (one, *others) in sessions.items():
    if others:
        first[name].append(one / statistics.mean(others) - 1)
for name in ("latency", "device_time", "peak_memory", "first_step_time"):
    if first[name]:
        print(f"\nfirst launch against the others, {name}: {min(first[name]):+.2%} to {max(first[name]):+.2%}", end="")
print()
