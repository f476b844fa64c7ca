#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# usage: tests/fuzz/run_fuzz.sh SECONDS [TARGET...]
# Builds the fuzz targets with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer (preset fuzz, clang) and runs
# each of them, or those named, for SECONDS. What libFuzzer learns stays in build/fuzz/corpus, findings go to
# build/fuzz/findings. Exit status 1 if there was a finding. To look at one: build/fuzz/bin/TARGET_fuzz FILE
set -eu

case "${1:-}" in
'' | *[!0-9]*) sed -n '3,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
seconds=$1
shift
cd "$(dirname "$0")/../.."
build=build/fuzz

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { cmake --preset fuzz && cmake --build --preset fuzz --target fuzzers; } >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi

if [ $# -eq 0 ]; then
    for source in tests/fuzz/*_fuzz.cpp; do
        name=$(basename "$source" _fuzz.cpp)
        set -- "$@" "$name"
    done
fi

# Names in stack traces.
symbolizer=$(command -v llvm-symbolizer-19 || command -v llvm-symbolizer || true)
export ASAN_SYMBOLIZER_PATH="$symbolizer"
export UBSAN_OPTIONS="print_stacktrace=1${symbolizer:+:external_symbolizer_path=$symbolizer}"

findings=0
mkdir -p "$build/findings"
for name in "$@"; do
    learned=$build/corpus/$name
    mkdir -p "$learned"
    # New inputs are kept in the first directory only.
    if "$build/bin/${name}_fuzz" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -verbosity=0 \
        -print_final_stats=1 -artifact_prefix="$build/findings/$name-" "$learned" "tests/fuzz/corpus/$name" >"$log" 2>&1; then
        echo "$name: no finding in $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs"
    else
        findings=$((findings + 1))
        echo "$name: FINDING"
        cat "$log"
    fi
done
[ "$findings" -eq 0 ]
