#!/usr/bin/env bash
# tests/xla.rs and the tests of the binding to PJRT under AddressSanitizer. Not part of `.ci/run`: it builds everything a second time.
# Real plugins run where REGRADE_PLUGIN_PATH has one.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(rustc -vV | sed -n 's/^host: //p')
sanitized() {
    RUSTFLAGS=-Zsanitizer=address cargo +nightly "$1" --locked --target "$target" "${@:2}"
}
CARGO_TARGET_DIR=target/miri sanitized test --manifest-path tests/miri/Cargo.toml
CARGO_TARGET_DIR=target/asan sanitized build --bin regrade \
    --config 'profile.dev.opt-level=0' --config 'profile.dev.package.regrade.opt-level=0'
# Tests want to see signals as they are. XLA's compiler loses a few names in each process; leaks of ours are looked for above.
export REGRADE_BIN=$PWD/target/asan/$target/debug/regrade ASAN_OPTIONS=handle_segv=0:handle_abort=0:detect_leaks=0
# That test measures memory, of which a sanitizer takes its own.
cargo test --locked --test xla -- --skip a_thousand_steps
