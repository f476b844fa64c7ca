#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# send(), then a weaker policy on the same socket, 10,000 times: not one datagram leaves in clear (design §1, order).
set -eu
build=${LATCHKEY_BUILD:?}
work=$(mktemp -d)
pids=
trap 'kill $pids 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT

start() {
    mkfifo "$work/$1.ready"
    "$build/bin/latchkeyd" --foreground --socket "$work/$1.sock" --wire "unix:$work/lan" --address "10.0.0.$2/24" $3 >"$work/$1.ready" &
    pids="$pids $!"
    read -r word <"$work/$1.ready"
    [ "$word" = ready ]
}
key='-E aes-gcm-16 0x000102030405060708090a0b0c0d0e0f10111213'
rules="add 10.0.0.1 10.0.0.2 esp 0x1001 $key; add 10.0.0.2 10.0.0.1 esp 0x1002 $key;"
start a 1 "--pcap $work/wire.pcap"
start b 2 ""
printf '%s spdadd 10.0.0.1 10.0.0.2 any -P out ipsec esp/transport//require;\n' "$rules" | LATCHKEY=$work/a.sock "$build/bin/setkey" -k -f -
printf '%s\n' "$rules" | LATCHKEY=$work/b.sock "$build/bin/setkey" -k -f -
LATCHKEY=$work/a.sock "$build/bin/latchkey" ping -q -c 1 10.0.0.2 >"$work/ping.log"
LATCHKEY=$work/a.sock "$build/bin/weaker_policy" 10.0.0.2 9 10000

# The last datagram, under the bypass, is the only clear one; then everything before it is on the wire, too.
tries=0
until "$build/examples/pcap_summary" "$work/wire.pcap" "sent under bypass" >"$work/summary" || grep -q 'bypass. seen in 1$' "$work/summary"; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { echo "the last datagram is missing:"; cat "$work/summary"; exit 1; }
    sleep 0.1
done
"$build/examples/pcap_summary" "$work/wire.pcap" CLEARTEXT-MARKER >"$work/summary" || true
cat "$work/summary"
esp=$(sed -n 's/.* frames: \([0-9]*\) ESP.*/\1/p' "$work/summary")
clear=$(sed -n 's/.*, \([0-9]*\) others in clear.*/\1/p' "$work/summary")
marked=$(sed -n 's/.* seen in \([0-9]*\)$/\1/p' "$work/summary")
# One echo and its reply, 10,000 datagrams, and b's ICMP errors (nobody listens on the port), which are not protected.
[ "$esp" -ge 10001 ] || { echo "fewer than 10,001 ESP packets"; exit 1; }
[ "$marked" -eq 0 ] || { echo "the marker was seen in clear"; exit 1; }
[ "$clear" -ge 1 ] || { echo "the bypass did not work"; exit 1; }
