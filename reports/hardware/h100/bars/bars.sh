#!/bin/sh
# Holds regrade against PyTorch on one GPU and writes bars.json, resolution.json and naive.jsonl to $1. From the repository's root;
# REGRADE names the program. Takes about ten minutes; `bars.sh OUT rates` and `bars.sh OUT resolution` do one half each.
set -eu
out=$1
half=${2:-both}
here=reports/hardware/h100/bars
regrade=${REGRADE:-target/release/regrade}
if [ "$half" != resolution ]; then
    # Alternating: what one of them does to the card's temperature must not always meet the other.
    python3 $here/peers.py rates >"$out/peers-1.json"
    "$regrade" run $here/bars.toml --db "$out/bars.sqlite" --quiet >"$out/bars.txt" || true
    python3 $here/peers.py rates >"$out/peers-2.json"
    "$regrade" report --db "$out/bars.sqlite" --format json >"$out/bars.json"
fi
if [ "$half" != rates ]; then
    : >"$out/naive.jsonl"
    for _ in 1 2 3 4 5; do
        python3 $here/peers.py naive >>"$out/naive.jsonl"
        echo >>"$out/naive.jsonl"
    done
    "$regrade" run $here/resolution.toml --db "$out/resolution.sqlite" --quiet >"$out/resolution.txt" || true
    "$regrade" report --db "$out/resolution.sqlite" --format json >"$out/resolution.json"
    for _ in 1 2 3 4 5; do
        python3 $here/peers.py naive >>"$out/naive.jsonl"
        echo >>"$out/naive.jsonl"
    done
fi
