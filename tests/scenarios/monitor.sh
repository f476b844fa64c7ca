#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Addresses, routes and links change at run time, and every change is told to who watches.
set -eu
build=${LATCHKEY_BUILD:?}
work=$(mktemp -d)
pids=
trap 'kill $pids 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
mkfifo "$work/ready" "$work/events"
"$build/bin/latchkeyd" --foreground --socket "$work/a.sock" --wire "unix:$work/lan" --address 10.0.0.1/24 >"$work/ready" &
pids=$!
read -r word <"$work/ready"
[ "$word" = ready ]
LATCHKEY=$work/a.sock
export LATCHKEY
"$build/bin/latchkey" monitor >"$work/events" 2>"$work/monitor.log" &
pids="$pids $!"
exec 3<"$work/events"
read -r word <&3
[ "$word" = watching ]

expect() {
    read -r event <&3
    [ "$event" = "$1" ] || { echo "expected the event \`$1\`, got \`$event\`"; exit 1; }
}
tool="$build/bin/latchkey"
"$tool" addr add fd00::7/64; expect "address add fd00::7/64 dev net0"
"$tool" addr add 10.0.0.7/24 dev net0; expect "address add 10.0.0.7/24 dev net0:3"
"$tool" route add 10.9.0.0/16 via 10.0.0.254; expect "route add 10.9.0.0/16"
"$tool" route | grep -q '^10.9.0.0/16 via 10.0.0.254 dev net0'
"$tool" link set net0 mtu 1400; expect "link net0 mtu 1400"
"$tool" link | grep -q '^net0 up mtu 1400'
"$tool" link set net0 down; expect "link net0 down"
"$tool" link set net0 up; expect "link net0 up"
"$tool" route delete 10.9.0.0/16; expect "route delete 10.9.0.0/16"
"$tool" addr del 10.0.0.7; expect "address delete 10.0.0.7/24 dev net0:3"
"$tool" addr del fd00::7; expect "address delete fd00::7/64 dev net0"
! "$tool" addr del fd00::7 2>"$work/error"
! "$tool" route add 10.9.0.0/16 via 192.0.2.1 2>"$work/error"
grep -q 'not on a link' "$work/error"
echo "every change was told"
