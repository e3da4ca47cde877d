#!/usr/bin/env bash
# Runs the shipped workflows with act against the fake: REGRADE_BIN names the regrade they use (default: the debug build).
set -euo pipefail
cd "$(dirname "$0")"

missing() {
    echo "act.sh: $1" >&2
    exit 6
}
[ -x .venv/bin/act ] || missing "act is not installed; run tests/github/check.sh, which installs it"
[ -d node_modules/@stoplight/prism-cli ] || missing "Prism is not installed; run tests/github/check.sh, which installs it"
command -v cc >/dev/null || missing "there is no C compiler, which builds what the workflows measure; install gcc"
REGRADE_BIN=${REGRADE_BIN:-${CARGO_TARGET_DIR:-$PWD/../../target}/debug/regrade}
[ -x "$REGRADE_BIN" ] || missing "$REGRADE_BIN is no program; run \`cargo build\`, or set REGRADE_BIN"
export REGRADE_BIN
exec node --test --test-reporter=spec act.mjs
