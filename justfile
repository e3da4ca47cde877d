# The recipes are CI's own steps; `.ci/run` runs `just`-free the same commands in the same order.

# Everything CI checks.
check: fmt clippy xla-crate miri doc github test

fmt:
    cargo fmt --check

clippy:
    cargo clippy --locked --all-targets -- -D warnings

# The feature `xla-crate`, type-checked only; brings libclang.
xla-crate:
    .ci/xla-crate.sh

# The binding to PJRT under Miri; brings a nightly toolchain.
miri:
    .ci/miri.sh

# `post` against a stand-in for GitHub; needs Node, and installs the rest below tests/github.
github:
    tests/github/check.sh

# The README's test command.
test:
    cargo test --locked

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

# api.json against GitHub's description that it was cut from (385 MB).
github-drift:
    tests/github/drift.sh

# Licences, sources, banned crates (needs cargo-deny and the network).
deny:
    cargo deny check

# The binding to PJRT and tests/xla.rs under AddressSanitizer; needs a nightly toolchain, and builds everything again.
asan:
    .ci/asan.sh

# Figures of reports/performance.md.
bench:
    cargo bench

# The SIGKILL test at 100 moments.
kill-100:
    REGRADE_KILL_MOMENTS=100 cargo test --release --test kill

# Committed schemas, after a change of a format.
schemas:
    cargo run --release -- schema suite > suites/suite.schema.json
    cargo run --release -- schema report > reports/report.schema.json
    cargo run --release -- schema prices > suites/prices/prices.schema.json
