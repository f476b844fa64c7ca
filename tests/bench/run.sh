#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# usage: tests/bench/run.sh
# Builds the release preset and prints every benchmark: ratios against a bound that is measured in the same run.
set -eu
cd "$(dirname "$0")/../.."
sh tests/packages.sh test
cmake --preset release -DLATCHKEY_TESTS=ON >/dev/null
cmake --build --preset release >/dev/null
for bench in esp_bench engine_bench lookup_bench; do
    printf '\n== %s\n' "$bench"
    "build/release/bin/$bench"
done
printf '\n== hosts_bench\n'
LATCHKEY_BUILD=build/release python3 tests/bench/hosts_bench.py
