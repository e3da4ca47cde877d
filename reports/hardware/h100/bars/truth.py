"""What truth.sh left, in short: for each run of it the verdict on the latency of each kernel, and the difference of each pair in percent
(head over base, medians of launches, natural logarithm).

truth.py DATABASE [ONE.json THREE.json ...] >truth.json
"""

import json
import math
import pathlib
import sqlite3
import sys

database, reports = sys.argv[1], sys.argv[2:]
connection = sqlite3.connect(database)


def differences(base, head):
    """Case → percent by pair."""
    rows = connection.execute(
        "SELECT b.case_id, mb.median, mh.median FROM launches b"
        " JOIN launches h ON h.case_id = b.case_id AND h.launch_index = b.launch_index"
        " JOIN runs rb ON rb.key = b.run JOIN runs rh ON rh.key = h.run"
        " JOIN metrics mb ON mb.launch = b.key AND mb.name = 'latency'"
        " JOIN metrics mh ON mh.launch = h.key AND mh.name = 'latency'"
        " WHERE rb.id = ? AND rh.id = ? AND b.outcome = 'measured' AND h.outcome = 'measured' ORDER BY b.launch_index",
        (base, head),
    )
    found = {}
    for case, before, after in rows:
        found.setdefault(case, []).append(round(100 * math.log(after / before), 2))
    return found


def models():
    columns = "case_id, metric, pairs, pair_spread, false_alarms, trials, smallest_detectable"
    rows = connection.execute(f"SELECT {columns} FROM noise_models WHERE metric = 'latency' ORDER BY case_id")
    return [dict(zip(columns.split(", "), row, strict=True)) for row in rows]


summary = {}
itself = connection.execute(
    "SELECT arm, id FROM runs WHERE synthetic IS NULL AND arm IN ('base', 'head') ORDER BY arm"
).fetchall()
if itself:
    alarms = connection.execute("SELECT count(*), sum(false_alarms), sum(trials) FROM noise_models").fetchone()
    ids = dict(itself)
    summary["same"] = {
        "metrics": alarms[0],
        "false_alarms": alarms[1],
        "relabellings": alarms[2],
        "latency": models(),
        "pairs_percent": differences(ids["base"], ids["head"]),
    }
for path in reports:
    report = json.loads(pathlib.Path(path).read_text())
    pairs = differences(report["base"][0]["id"], report["head"]["id"])
    summary[pathlib.Path(path).stem] = {
        row["case"]: {
            "call": row["verdict"]["call"],
            "severity": row["verdict"]["severity"],
            "change_percent": row["verdict"]["estimate"] and round(100 * row["verdict"]["estimate"]["change"], 2),
            "note": row["verdict"]["note"],
            "pairs_percent": pairs.get(row["case"], []),
        }
        for row in report["rows"]
        if row["metric"]["name"] == "latency"
    }
json.dump(summary, sys.stdout, indent=1)
print()
