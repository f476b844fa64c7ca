#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# lwip_redirects_test.sh ARCHIVE: nothing in lwIP calls a redirected function under its own name. A call that lwIP
# gains in a later version, or a file that is compiled without its definitions, would lead around IPsec.
set -eu

# Allowed: a port unreachable goes out like any packet; timers count on their memory; port.c is the redirect itself.
expected="port.c.o memp_malloc
port.c.o tcp_rexmit_fast
port.c.o tcp_rexmit_rto_commit
timeouts.c.o memp_malloc
udp.c.o icmp_dest_unreach"

redirected="ip4_frag ip6_frag ip4_reass ip6_reass raw_input netif_loop_output icmp_dest_unreach tcp_eff_send_mss_netif
memp_malloc tcp_rexmit_fast tcp_rexmit_rto_commit"
any=$(echo $redirected | tr ' ' '|')
found=$(nm -A "$1" | sed -nE "s/^.*[:(]([a-z0-9_]+\.c\.o)\)?: +U ($any)\$/\1 \2/p" | LC_ALL=C sort)
if [ "$found" != "$expected" ]; then
    printf 'calls under the original names:\n%s\nexpected:\n%s\n' "$found" "$expected" >&2
    exit 1
fi
for name in $redirected; do
    nm "$1" 2>/dev/null | grep -q " U latchkey_$name\$" || { echo "no call reaches latchkey_$name" >&2; exit 1; }
done
