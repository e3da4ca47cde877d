#!/usr/bin/env bash
# Compares the CPU engine with PyTorch: a throw-away environment, then benches/peers/pytorch.py. Some 5 GB of wheels.
# `PEERS_PYTHON=/path/to/python` uses an environment that is there already.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release --locked
python=${PEERS_PYTHON:-}
if [ -z "$python" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet torch==2.11.0 torchvision transformers==4.57.6 numpy
    python=$folder/bin/python
fi
"$python" benches/peers/pytorch.py "$@"
