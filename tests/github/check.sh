#!/usr/bin/env bash
# What can be checked of GitHub without it: the stand-in against GitHub's own description, event payloads against their
# schemas, and every request that regrade makes against both. Installs what it needs below tests/github.
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

# Left alone when it is what the lock says.
if ! [ "$here/node_modules/.package-lock.json" -nt "$here/package-lock.json" ]; then
    npm ci --omit=dev --ignore-scripts --no-audit --no-fund --prefix "$here"
    touch "$here/node_modules/.package-lock.json"
fi
node --test "$here"/*.test.mjs
cargo test --locked --test github_contract -- --ignored
