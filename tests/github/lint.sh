#!/usr/bin/env bash
# Lints the workflows and the action below a folder (by default this repository) as strictly as the tools can; what is
# accepted all the same says why at its line. check.sh installs the tools.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "${1:-$here/../..}"
tools=$here/.venv/bin

for tool in zizmor actionlint check-jsonschema; do
    [ -x "$tools/$tool" ] || { echo "lint.sh: $tool is not installed; run tests/github/check.sh, which installs it" >&2; exit 6; }
done
# actionlint asks it about every `run:`, and would be silent without it.
command -v shellcheck >/dev/null || { echo "lint.sh: shellcheck is not installed; install your system's package" >&2; exit 6; }

workflows=(.github/workflows/*.yml)
[ -f "${workflows[0]}" ] || { echo "lint.sh: $PWD/.github/workflows holds no workflow" >&2; exit 2; }
inputs=(.github)
actions=()
if [ -f action.yml ]; then
    inputs+=(action.yml)
    actions=(action.yml)
fi
"$tools/zizmor" --offline --persona auditor --quiet --no-progress "${inputs[@]}"
config=()
[ ! -f .github/actionlint.yaml ] || config=(-config-file .github/actionlint.yaml)
"$tools/actionlint" -no-color "${config[@]}" "${workflows[@]}"
"$tools/check-jsonschema" --builtin-schema vendor.github-workflows "${workflows[@]}"
[ ${#actions[@]} -eq 0 ] || "$tools/check-jsonschema" --builtin-schema vendor.github-actions "${actions[@]}"
# Every action by its commit, with the version it is beside it.
if grep -nE '^\s*(- )?uses: [^.]' "${workflows[@]}" "${actions[@]}" | grep -vE 'uses: [A-Za-z0-9_.-]+/[A-Za-z0-9_./-]+@[0-9a-f]{40} # v[0-9]+\.[0-9]+\.[0-9]+$'; then
    echo "lint.sh: pin these by commit, with the version as a comment" >&2
    exit 1
fi
