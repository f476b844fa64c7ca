#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# usage: tests/run.sh [--long] [--fast]
# Installs what it needs, builds, and runs every test: optimised, and again under AddressSanitizer and
# UndefinedBehaviorSanitizer. The last line is `N passed, N failed`, with `, N skipped` if a test could not run here.
#   --fast   the optimised build only
#   --long   besides, fuzzes every target for ten minutes and runs the soaks (needs clang-19)
set -eu

cd "$(dirname "$0")/.."
long=0
presets="release asan"
for argument in "$@"; do
    case "$argument" in
    --long) long=1 ;;
    --fast) presets=release ;;
    -h | --help) sed -n '3,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "tests/run.sh: unknown argument $argument (see --help)" >&2; exit 2 ;;
    esac
done

if [ "$long" -eq 1 ]; then sh tests/packages.sh long; else sh tests/packages.sh test; fi

passed=0
failed=0
skipped=0

# count FILE: adds the numbers of a JUnit report.
count() {
    total=$(sed -n 's/.*<testsuite .*\btests="\([0-9]*\)".*/\1/p; s/^[[:space:]]*tests="\([0-9]*\)".*/\1/p' "$1" | head -n 1)
    bad=$(sed -n 's/.*failures="\([0-9]*\)".*/\1/p' "$1" | head -n 1)
    not_run=$(sed -n 's/.*skipped="\([0-9]*\)".*/\1/p' "$1" | head -n 1)
    disabled=$(sed -n 's/.*disabled="\([0-9]*\)".*/\1/p' "$1" | head -n 1)
    not_run=$((${not_run:-0} + ${disabled:-0}))
    passed=$((passed + ${total:-0} - ${bad:-0} - not_run))
    failed=$((failed + ${bad:-0}))
    skipped=$((skipped + not_run))
}

for preset in $presets; do
    echo "== build: $preset"
    cmake --preset "$preset" -DLATCHKEY_WERROR=ON -DLATCHKEY_TESTS=ON >"build-$preset.log" 2>&1 || { cat "build-$preset.log"; echo "0 passed, 1 failed"; exit 1; }
    if ! cmake --build --preset "$preset" >"build-$preset.log" 2>&1; then
        grep -E -A 12 'error|FAILED' "build-$preset.log" | head -n 120
        echo "0 passed, 1 failed"
        exit 1
    fi
    rm -f "build-$preset.log"
    echo "== test: $preset"
    report="$PWD/build/$preset/report.xml"
    rm -f "$report"
    ctest --test-dir "build/$preset" --output-on-failure --no-tests=error -j 2 --output-junit "$report" >"build/$preset/ctest.log" 2>&1 || true
    # Every test in a line; the output of those that did not pass.
    grep -vE '^ *Start +[0-9]+:' "build/$preset/ctest.log" || true
    [ -s "$report" ] || { echo "0 passed, 1 failed"; exit 1; }
    count "$report"
done

if [ "$long" -eq 1 ]; then
    echo "== fuzz: ten minutes for each target"
    if sh tests/fuzz/run_fuzz.sh 600; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
    echo "== soak"
    for soak in "soak.py 120" "pfkey_soak.py --seconds 60"; do
        if LATCHKEY_BUILD=build/asan LATCHKEY_SANITIZED=1 python3 -B tests/scenarios/$soak; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
    done
fi

if [ "$skipped" -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ]
