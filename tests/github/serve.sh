#!/usr/bin/env bash
# Starts the fake GitHub behind Prism on free ports, prints its base URL (for GITHUB_API_URL) once it answers, and runs
# until it is ended; with --until-eof, until standard input closes. One process: ending it leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")"

missing() {
    echo "serve.sh: $1" >&2
    exit 6
}
command -v node >/dev/null || missing "node is not installed; contract tests need Node 18 or newer"
[ "$(node -p 'process.versions.node.split(".")[0]')" -ge 18 ] || missing "node is $(node --version); contract tests need 18 or newer"
[ -d node_modules/@stoplight/prism-cli ] ||
    missing "Prism is not installed; run \`npm ci --omit=dev --ignore-scripts --prefix tests/github\`"
exec node serve.mjs "$@"
