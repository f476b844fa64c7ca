#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# A BSD-style source against a host: linked with liblatchkey-ipsec, by itself and under the preload library; what it
# prints is what setkey prints; without a host it meets a system without PF_KEY. And the example for porters.
set -eu
build=${LATCHKEY_BUILD:?names the build tree}
program=$build/bin/bsd_source
tool=$build/examples/policy_tool
for needed in "$program" "$build/bin/latchkeyd" "$build/bin/setkey" "$tool"; do
    [ -x "$needed" ] || { echo "$needed is not built"; exit 77; }
done
work=$(mktemp -d)
pids=
trap 'kill $pids 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

LATCHKEY=$work/none.sock "$program" nohost >"$work/out"
words="Address family not supported by protocol: no Latchkey host at $work/none.sock"
grep -qx "$words" "$work/out" || fail "$(cat "$work/out")"

mkfifo "$work/ready"
"$build/bin/latchkeyd" --foreground --socket "$work/a.sock" --wire "unix:$work/lan" --address 10.0.0.1/24 \
    >"$work/ready" &
pids=$!
read -r word <"$work/ready"
[ "$word" = ready ]
LATCHKEY=$work/a.sock
export LATCHKEY

"$program" || fail "by itself"
"$program" keep || fail "keep"

# Times and the asker's pid differ from call to call.
same() {
    sed -e '/diff:/d' -e '/created:/d' -e 's/ pid=[0-9]*/ pid=/' "$1" >"$1.same"
}
for what in D:sadump DP:spdump; do
    "$build/bin/setkey" "-${what%:*}" >"$work/setkey"
    "$program" "${what#*:}" >"$work/program"
    same "$work/setkey"
    same "$work/program"
    grep -q 10.0.0.2 "$work/program.same" || fail "nothing was printed: ${what#*:}"
    diff "$work/setkey.same" "$work/program.same" || fail "pfkey_${what#*:} is not as setkey -${what%:*}"
done
"$build/bin/setkey" -F
"$build/bin/setkey" -FP

# The preload library has no sanitizer's run time in it, which a sanitized program would want first.
if [ -z "${LATCHKEY_SANITIZED:-}" ]; then
    "$build/bin/latchkey" run "$program" sockets || fail "under latchkey run"
fi

"$tool" list | grep -qx 'No policies.' || fail "policy_tool list of nothing"
"$tool" add 10.0.0.1 10.0.0.2 'out ipsec esp/transport//require'
"$tool" add fd00::1 fd00::2 'in ipsec ah/transport//use'
"$tool" list >"$work/out"
grep -q 'out prio def ipsec' "$work/out" || fail "policy_tool list: $(cat "$work/out")"
grep -q 'ah/transport//use' "$work/out" || fail "policy_tool list: $(cat "$work/out")"
if "$tool" add 10.0.0.1 10.0.0.2 'out ipsec esp/transport//require' 2>"$work/error"; then fail "a policy twice"; fi
grep -q 'File exists' "$work/error" || fail "$(cat "$work/error")"
if "$tool" add 10.0.0.1 10.0.0.2 'out ipsec esp/transport//must' 2>"$work/error"; then fail "a policy that is none"; fi
grep -q 'Invalid argument (column 26: expected a level' "$work/error" || fail "$(cat "$work/error")"
"$tool" delete 10.0.0.1 10.0.0.2 out
"$tool" delete fd00::1 fd00::2 in
"$tool" list | grep -qx 'No policies.' || fail "policy_tool delete"
