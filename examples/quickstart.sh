#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Two hosts on a virtual wire talk ESP, keyed by `setkey -f`. No root is needed, but to install missing packages.
# usage: examples/quickstart.sh [DIRECTORY]     DIRECTORY keeps the pcap file and the logs (default: a new one)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."
case "${1:-}" in -h | --help) sed -n '3,4s/^# //p' "$0"; exit 0 ;; esac

step() { printf '\n== %s\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }

step "Packages and build (the first time takes a minute or two)"
sh tests/packages.sh build
[ -f build/release/CMakeCache.txt ] || cmake --preset release -DLATCHKEY_TESTS=OFF >build-quickstart.log 2>&1 || { cat build-quickstart.log; exit 1; }
cmake --build build/release --target latchkeyd setkey latchkey udp_echo tcp_transfer pcap_summary >build-quickstart.log 2>&1 ||
    { tail -n 50 build-quickstart.log; exit 1; }
rm -f build-quickstart.log
PATH="$PWD/build/release/bin:$PWD/build/release/examples:$PATH"
export PATH

work=${1:-$(mktemp -d "${TMPDIR:-/tmp}/latchkey.XXXXXX")}
mkdir -p "$work"
work=$(cd "$work" && pwd)
pids=
finish() {
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
}
trap finish EXIT
trap 'exit 130' INT TERM
alice=$work/alice.sock
bob=$work/bob.sock
pcap=$work/wire.pcap
rm -f "$pcap" "$work"/*.out

# start NAME N OPTIONS...: one latchkeyd; goes on when it says `ready`.
start() {
    name=$1 n=$2
    shift 2
    mkfifo "$work/$name.ready"
    latchkeyd --foreground --name "$name" --socket "$work/$name.sock" --wire "unix:$work/lan" \
        --address "10.0.0.$n/24" --address "fd00::$n/64" --setkey "$here/quickstart/$name.conf" "$@" \
        >"$work/$name.ready" 2>"$work/$name.log" &
    pids="$pids $!"
    if ! read -r word <"$work/$name.ready" || [ "$word" != ready ]; then
        echo "latchkeyd ($name) did not start:" >&2
        cat "$work/$name.log" >&2
        exit 1
    fi
    rm -f "$work/$name.ready"
    echo "$name is ready: 10.0.0.$n, fd00::$n, keyed by examples/quickstart/$name.conf"
}

step "Two hosts on one wire, each with its setkey script"
start alice 1 --pcap "$pcap"
start bob 2
failures=0
check() { if "$@"; then :; else failures=$((failures + 1)); echo "FAILED: $*"; fi; }

step "ICMP echo through ESP, IPv4 and IPv6"
export LATCHKEY="$alice"
check run latchkey ping -c 3 -i 0.2 10.0.0.2
check run latchkey ping -c 3 -i 0.2 -s 3000 fd00::2

step "UDP through ESP"
LATCHKEY=$bob udp_echo serve 7 &
pids="$pids $!"
tries=0
until answer=$(udp_echo send 10.0.0.2 7 "CLEARTEXT over UDP" 2>/dev/null) || [ "$tries" -ge 20 ]; do
    tries=$((tries + 1))
done
echo "bob answers: ${answer:-nothing}"
check test -n "${answer:-}"

step "TCP through ESP: 8 MB"
head -c 8388608 /dev/urandom >"$work/sent.out"
printf 'CLEARTEXT over TCP' >>"$work/sent.out"
for to in 10.0.0.2 fd00::2; do
    LATCHKEY=$bob tcp_transfer receive 5001 >"$work/received.out" &
    receiver=$!
    pids="$pids $receiver"
    begin=$(date +%s%N)
    tries=0
    until tcp_transfer send "$to" 5001 <"$work/sent.out" 2>"$work/send.log" || [ "$tries" -ge 50 ]; do
        tries=$((tries + 1))   # bob's program may not be listening yet
        sleep 0.1
    done
    wait "$receiver" || true
    end=$(date +%s%N)
    check cmp "$work/sent.out" "$work/received.out"
    echo "to $to: $(($(wc -c <"$work/received.out") * 1000 / ((end - begin) / 1000000 + 1) / 1000000)) MB/s, received what was sent"
done

step "alice's SAD: setkey -D"
check run setkey -D
step "alice's policies: setkey -DP"
check run setkey -DP
step "alice's counters: latchkey stat"
run latchkey stat

finish
pids=
step "What the wire carried"
check run pcap_summary "$pcap" CLEARTEXT
echo "The recording: $pcap (open it in Wireshark, or: tcpdump -nr $pcap)"

echo
if [ "$failures" -eq 0 ]; then
    echo "SUCCESS: alice and bob talked, and the wire carried ESP only."
else
    echo "FAILURE: $failures of the checks above did not hold. Logs: $work"
    exit 1
fi
