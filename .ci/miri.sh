#!/usr/bin/env bash
# The binding to PJRT under Miri. Where no nightly toolchain with Miri can be had, this says so and ends well.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo +nightly miri --version >/dev/null 2>&1 &&
    ! rustup toolchain install nightly --profile minimal --component miri,rust-src --no-self-update; then
    echo 'skipped: the binding was not run under Miri, because there is no nightly toolchain with it'
    exit 0
fi
if ! cargo +nightly miri setup; then
    echo 'skipped: the binding was not run under Miri, which cannot build its standard library here'
    exit 0
fi
CARGO_TARGET_DIR=target/miri cargo +nightly miri test --locked --manifest-path tests/miri/Cargo.toml "$@"
