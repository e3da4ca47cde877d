#!/usr/bin/env bash
# Makes api.json again from the pinned description (385 MB) and shows what differs; --write takes the new one.
set -euo pipefail
cd "$(dirname "$0")"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp package.json package-lock.json "$work"
npm ci --silent --no-audit --no-fund --ignore-scripts --prefix "$work"
node trim.mjs "$work/node_modules/@octokit/openapi/generated/api.github.com.json" "$work/api.json"
if diff -q api.json "$work/api.json" >/dev/null; then
    echo "drift.sh: api.json is what trim.mjs makes of @octokit/openapi"
elif [ "${1:-}" = --write ]; then
    cp "$work/api.json" api.json
    echo "drift.sh: api.json written; look at the diff before you commit it"
else
    diff <(cut -c 1-160 api.json) <(cut -c 1-160 "$work/api.json") || true
    echo "drift.sh: api.json differs from what trim.mjs makes of @octokit/openapi; --write takes the new one" >&2
    exit 1
fi
