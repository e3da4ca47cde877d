#!/usr/bin/env bash
# Change points by regrade and by its peers: a throw-away environment, then benches/peers/change_points.py.
# `PEERS_PYTHON=/path/to/python` uses an environment that is there already.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release --locked --quiet
python=${PEERS_PYTHON:-}
if [ -z "$python" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet -r benches/peers/change_points.requirements.txt
    "$folder/bin/pip" install --quiet --no-deps apache-otava==0.8.0
    python=$folder/bin/python
fi
"$python" benches/peers/change_points.py "$@"
