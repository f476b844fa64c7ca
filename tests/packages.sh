#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# usage: packages.sh build|test
# Installs the Debian packages that building (or also testing) needs, if any is missing. Uses apt as root, or through sudo.
set -eu

build="g++ cmake ninja-build pkg-config libssl-dev libsodium-dev zlib1g-dev dpkg-dev ca-certificates"
test="$build doctest-dev librapidcheck-dev python3 python3-scapy python3-cryptography tshark tcpdump iproute2 iputils-ping
      socat ethtool kmod user-mode-linux openiked"
long="$test clang-19 libclang-rt-19-dev valgrind"

case "${1:-}" in
build) wanted=$build ;;
test) wanted=$test ;;
long) wanted=$long ;;
*) echo "usage: packages.sh build|test|long" >&2; exit 2 ;;
esac

missing=
for package in $wanted; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

root=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "These Debian packages are missing; install them as root, then run this again:" >&2
        echo "  apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
    root=sudo
fi
echo "Installing:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# An old package list is tried first: a repeated run needs no network.
if ! $root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing >"$log" 2>&1; then
    if ! { $root apt-get update && $root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
        cat "$log" >&2
        exit 1
    fi
fi
# A daemon that came only to be tested does not serve this machine.
case "$missing" in
*openiked*) $root systemctl disable --now openiked >/dev/null 2>&1 || true ;;
esac
