#!/bin/sh
# Process CPU time of a step of five programs, regrade's beside JAX's, turn and turn about, one thread each: prints a line a program. From the
# repository's root; REGRADE names the program, PYTHON a Python with JAX; needs the CPU plugin. Some twelve minutes.
set -eu
regrade=${REGRADE:-target/release/regrade}
python=${PYTHON:-python3}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cat >"$out/suite.toml" <<'T'
schema_version = 1
name = "ratio"
backends = ["xla:cpu"]
launches = 1
timeout = "5m"
reference_workloads = false
[sampling]
max_time = "6s"
max_warmup = "1s"
min_sample_time = "250ms"
[[benchmark]]
name = "p"
[benchmark.axes]
program = ["mlp-train", "attention", "transformer-train", "resnet50", "gpt2-bf16"]
T
for _ in 1 2 3 4; do
    for program in mlp-train attention transformer-train resnet50 gpt2-bf16; do
        JAX_PLATFORMS=cpu NPROC=1 XLA_FLAGS=--xla_cpu_multi_thread_eigen=false \
            "$python" benches/peers/xla.py "$program" >>"$out/jax.jsonl"
        "$regrade" run "$out/suite.toml" --filter "p/program=$program@*" --db "$out/ours.sqlite" --quiet >/dev/null
    done
done
"$python" - "$out" <<'P'
import json
import sqlite3
import statistics
import sys

jax = {}
for line in open(f"{sys.argv[1]}/jax.jsonl"):
    for name, figures in json.loads(line).items():
        if isinstance(figures, dict):
            jax.setdefault(name, []).append(figures["cpu_s"])
database = sqlite3.connect(f"{sys.argv[1]}/ours.sqlite")
for name, theirs in jax.items():
    rows = database.execute(
        "SELECT median FROM launches JOIN metrics ON metrics.launch = launches.key WHERE case_id = ? AND name = 'cpu_time'",
        (f"p/program={name}@xla:cpu",),
    )
    ours = [row[0] for row in rows]
    ratio = statistics.median(ours) / statistics.median(theirs)
    print(f"{name}: {1e3 * statistics.median(ours):.2f} ms, JAX {1e3 * statistics.median(theirs):.2f} ms, ratio {ratio:.3f}")
P
