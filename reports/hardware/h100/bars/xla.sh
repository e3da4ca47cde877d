#!/bin/sh
# Holds regrade against JAX on one NVIDIA GPU: the same programs, turn and turn about. Writes OUT/jax.jsonl and OUT/xla.sqlite. From the
# repository's root; REGRADE names the program; python3 has JAX with its CUDA plugin.
set -eu
out=$1
regrade=${REGRADE:-target/release/regrade}
models="resnet50-b8 bert-base-s512 gpt2-s512 gpt2-bf16 gpt2-train llama-block attention-bf16"
: >"$out/jax.jsonl"
for _ in 1 2; do
    # shellcheck disable=SC2086 # words
    XLA_PYTHON_CLIENT_PREALLOCATE=false python3 benches/peers/xla.py $models >>"$out/jax.jsonl"
    "$regrade" run reports/hardware/h100/bars/xla.toml --db "$out/xla.sqlite" --quiet >>"$out/xla.txt" || true
done
