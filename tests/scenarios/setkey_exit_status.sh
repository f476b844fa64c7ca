#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The setkey program against a running latchkeyd: exit status, and what goes to which stream.
# Needs $LATCHKEY_BUILD (the build tree); no root, no network.
set -u

bin=${LATCHKEY_BUILD:?names the build tree}/bin
[ -x "$bin/latchkeyd" ] || { echo "latchkeyd is not built"; exit 77; }

dir=$(mktemp -d) || exit 1
LATCHKEY=$dir/socket
export LATCHKEY
mkdir "$dir/wire"
: >"$dir/ready"
"$bin/latchkeyd" --socket "$LATCHKEY" --wire "unix:$dir/wire" --address 10.0.0.1/24 --foreground >"$dir/ready" 2>"$dir/log" &
daemon=$!
trap 'kill $daemon 2>/dev/null; wait $daemon 2>/dev/null; rm -rf "$dir"' EXIT
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    grep -q ready "$dir/ready" && break
    sleep 0.5
done
grep -q ready "$dir/ready" || { echo "latchkeyd does not start:"; cat "$dir/log"; exit 1; }

failed=0
complain() { echo "FAILED: $*"; failed=1; }

# check STATUS OUT ERR INPUT ARGUMENTS...: OUT and ERR are patterns for the first line, empty means: nothing at all.
check() {
    want=$1 out=$2 err=$3 input=$4
    shift 4
    printf '%s' "$input" | "$bin/setkey" "$@" >"$dir/out" 2>"$dir/err"
    got=$?
    [ $got -eq "$want" ] || complain "setkey $*: status $got, expected $want ($(head -n 1 "$dir/out" "$dir/err"))"
    stream "$out" "$dir/out" "$*"
    stream "$err" "$dir/err" "$*"
}

stream() {
    if [ -z "$1" ]; then
        [ ! -s "$2" ] || complain "setkey $3: unexpected output: $(head -n 1 "$2")"
    else
        head -n 1 "$2" | grep -q -e "$1" || complain "setkey $3: expected '$1', got '$(head -n 1 "$2")'"
    fi
}

entries() { "$bin/setkey" -D | grep -c 'spi='; }

add='add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-cbc "1234567890123456";
'
second='add 10.0.0.1 10.0.0.2 esp 0x2000 -E aes-cbc "1234567890123456";
'

# Empty tables.
check 0 '^No SAD entries\.$' '' '' -D
check 0 '^No SPD entries\.$' '' '' -DP

# -f: 0; 1 after a refusal, but the rest runs; 1 at a parse error, and the rest does not run.
check 0 '' '' "$add" -f -
check 1 '' '^setkey: stdin:1:1: add 10.0.0.1 10.0.0.2 esp 0x1000: File exists' "$add$second" -f -
[ "$(entries)" = 2 ] || complain "-f did not go on after a refusal"
check 0 '' '' '' -F
check 1 '' '^setkey: stdin:2:1: syntax error: expected a command' "${add}bogus;
$second" -f -
[ "$(entries)" = 1 ] || complain "-f: the commands before a parse error are applied, the others are not"
check 0 '' '^setkey: stdin:1:1: .*File exists' "$add" --no-strict -f -
check 1 '' 'syntax error' 'bogus;' --no-strict -f -
check 1 '' "$dir/absent: No such file" '' -f "$dir/absent"
printf '%s' "$second" >"$dir/second.cf"
check 0 '' '' '' -f "$dir/second.cf"

# -c: 0 whatever happens, everything on stdout; --strict.
check 0 'stdin:1:1: .*: File exists.*\.$' '' "$add" -c
check 0 'stdin:1:1: syntax error' '' 'bogus;' -c
check 0 'Invalid key length' '' 'add 10.0.0.1 10.0.0.2 esp 0x3000 -E aes-cbc "short";' -c
check 1 'File exists' '' "$add" --strict -c
check 1 'syntax error' '' 'bogus;' --strict -c
check 0 '^10.0.0.1 10.0.0.2 $' '' 'get 10.0.0.1 10.0.0.2 esp 0x1000;' --strict -c

# Flushing, and deleting what is not there.
check 0 '' '' '' -F
check 0 '' '' '' -FP
check 0 '^No SAD entries\.$' '' '' -D
check 0 'No entry.*\.$' '' 'delete 10.0.0.1 10.0.0.2 esp 0x1000;' -c

# The monitor sees what others do.
"$bin/setkey" -x >"$dir/monitor" 2>&1 &
monitor=$!
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ -s "$dir/monitor" ] && break
    sleep 0.2
done
check 0 '' '' '' -F
for _ in 1 2 3 4 5 6 7 8 9 10; do
    grep -q 'type=9 ' "$dir/monitor" && break
    sleep 0.2
done
kill $monitor
wait $monitor 2>/dev/null
grep -q 'type=9 ' "$dir/monitor" || complain "-x did not show the flush"

# The command line, and a host that is not there.
check 2 '' 'one of -c, -f, -D, -F and -x is needed' ''
check 2 '' 'unknown option -q' '' -q
check 0 '^usage: setkey' '' '' --help
check 0 '^setkey (Latchkey)' '' '' --version
check 1 '' "$dir/nobody: No such file" '' --socket "$dir/nobody" -D

exit $failed
