#!/usr/bin/env bash
# Type-checks the feature `xla-crate`. Nothing is linked: that needs the C++ archive xla_extension. The build script of the crate
# `xla` needs libclang, from LIBCLANG_PATH, pip or apt; where none has it, this says so and ends well.
set -euo pipefail
cd "$(dirname "$0")/.."

wheel=target/libclang/clang/native
if [ -z "${LIBCLANG_PATH:-}" ]; then
    [ -e "$wheel/libclang.so" ] ||
        python3 -m pip install --quiet --root-user-action ignore --target target/libclang libclang==18.1.1 || true
    if [ -e "$wheel/libclang.so" ]; then
        export LIBCLANG_PATH=$PWD/$wheel
    elif ! { apt-get update -qq && apt-get install -y -qq libclang1; }; then
        echo 'skipped: the feature xla-crate was not checked, because neither pip nor apt brings libclang'
        exit 0
    fi
fi
# libclang alone has no `stdbool.h`; the C compiler's will do.
export BINDGEN_EXTRA_CLANG_ARGS="${BINDGEN_EXTRA_CLANG_ARGS:-} -I$(cc -print-file-name=include)"
# The crate's own word for a machine without xla_extension.
DOCS_RS=1 cargo clippy --locked --features xla-crate -- -D warnings
