#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A Linux kernel is the IPsec peer of our host on a TAP: ping, UDP and TCP, both ways, through ESP in transport and
tunnel mode, IPv4 and IPv6 in each other, every suite; then kernel_cases.py: AH, IPComp, ESP in UDP, bundles. A
bystander on the wire sees nothing but the outermost transform. Arguments: only cases whose name has one of them."""
import hashlib
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "uml"))
import kernel_cases
from guest import Guest, need_guest
from peers import (IN_SPI, MIXED_TUNNELS, OUR_MAC, OUT_SPI, PATIENCE, SUITES, TRANSPORTS, TUNNELS, Capture,
                   enter_private_network, expect, host_on_tap, ip, main, material, quiet_device, setkey_script)

CASES = [(suite, ends) for suite in SUITES for ends in TRANSPORTS + TUNNELS]
CASES += [(SUITES[0], ends) for ends in MIXED_TUNNELS]

TCP_BYTES = 400_000
PING_SIZES = (56, 1400, 5000)     # 1400: whole in clear, in pieces once protected
UDP_SIZES = (1, 1460, 6000)
UDP_ECHO, TCP_SINK = 7001, 7002   # ports, on both sides


def guest_script(suite, ends):
    """The same associations and policies as setkey_script() makes, seen from the other side."""
    ours, peers = ends.outer

    def state(source, destination, spi, label):
        # af-unspec: a tunnel may carry the other family.
        return (f"xfrm state add src {source} dst {destination} proto esp spi {spi:#x} mode {ends.mode} "
                "replay-window 32 flag af-unspec " + " ".join(word or '""' for word in suite.xfrm_words(label)))

    def policy(source, destination, direction, outer_source, outer_destination):
        return (f"xfrm policy add src {source} dst {destination} dir {direction} tmpl "
                f"src {outer_source} dst {outer_destination} proto esp mode {ends.mode}")

    lines = ["xfrm state flush", "xfrm policy flush",
             state(ours, peers, OUT_SPI, "out"), state(peers, ours, IN_SPI, "in"),
             policy(ends.ours, ends.peers, "in", ours, peers), policy(ends.peers, ends.ours, "out", peers, ours)]
    return batch(lines, ends)


def batch(lines, ends):
    # To Linux, neighbour discovery is traffic like any other.
    lines += [f"xfrm policy add src ::/0 dst ::/0 proto ipv6-icmp type {kind} dir {direction} priority 1 action allow"
              for kind in (135, 136) for direction in ("in", "out")]
    lines.append(f"route replace {ends.ours} dev vec0 src {ends.peers}")
    return "ip -batch - <<'END'\n" + "\n".join(lines) + "\nEND"


# The kernel takes ESP out of UDP for a socket that asks for it.
ENCAPSULATION_SOCKETS = f"""import signal, socket
taken = [socket.socket(family, socket.SOCK_DGRAM) for family in (socket.AF_INET, socket.AF_INET6)]
taken[1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
for s in taken:
    s.setsockopt(17, 100, (2).to_bytes(4, "little"))
    s.bind(("", {kernel_cases.UDP_PORT}))
signal.pause()
"""


def bring_up(lab):
    ip("link add wire type bridge mcast_snooping 0")
    quiet_device("wire")
    ip("link set wire up")
    guest = Guest(lab, "wire")
    quiet_device("guest")
    host = host_on_tap(lab, "ours")
    ip("link set ours master wire up")
    guest.run(f"""ip -batch - <<'END'
link set vec0 up
address add 10.7.0.2/24 dev vec0
address add fd07::2/64 dev vec0 nodad
address add 10.82.0.1/32 dev lo
address add fd82::1/128 dev lo
neighbour replace 10.7.0.1 lladdr {OUR_MAC} nud permanent dev vec0
neighbour replace fd07::1 lladdr {OUR_MAC} nud permanent dev vec0
END
ethtool -K vec0 tx off tso off gso off gro off >/dev/null""")
    guest.start(f"socat -b 65536 UDP6-RECVFROM:{UDP_ECHO},ipv6only=0,fork PIPE")
    guest.start(f"socat TCP6-LISTEN:{TCP_SINK},ipv6only=0,reuseaddr,fork SYSTEM:'sha256sum >/run/sum'")
    with open(lab.path("encapsulation.py"), "w", encoding="ascii") as file:
        file.write(ENCAPSULATION_SOCKETS)
    guest.start(f"python3 {lab.path('encapsulation.py')}")
    host.start("udp_echo", "serve", str(UDP_ECHO), stderr=subprocess.DEVNULL)
    return guest, host


# ---- traffic ---------------------------------------------------------------------------------------------------------

def pings(guest, host, ends):
    for size in PING_SIZES:
        host.ping(ends.peers, count=2, size=size)
    command = "; ".join(f"ping -n -q -c 2 -i 0.05 -W 3 -s {size} {ends.ours} || exit 1" for size in PING_SIZES)
    guest.run(f"({command})")


def datagrams(guest, host, ends, lab):
    texts = [material(f"datagram {size}", (size + 1) // 2).hex()[:size] for size in UDP_SIZES]
    for text in texts:
        done = host.run("udp_echo", "send", ends.peers, str(UDP_ECHO), text)
        expect(done.returncode == 0 and done.stdout == text + "\n",
               f"{ends.name}: UDP, {len(text)} bytes to the peer: {done.stdout[:200]!r}")
        with open(lab.path(f"datagram.{len(text)}"), "w", encoding="ascii") as file:
            file.write(text)
    got = guest.run(f"""timeout {PATIENCE} bash -c '
for size in {" ".join(map(str, UDP_SIZES))}; do
    exec 3<>/dev/udp/{ends.ours}/{UDP_ECHO}
    cat {lab.folder}/datagram.$size >&3
    dd bs=65536 count=1 status=none <&3
    echo
done'""")
    sizes = [len(text) for text in got.split()]
    expect(got.split() == texts, f"{ends.name}: UDP from the peer, {UDP_SIZES} bytes, or other ones: {sizes}")


def streams(guest, host, ends, lab):
    data = material(f"stream {ends.name}", TCP_BYTES)
    path = lab.path("stream")
    with open(path, "wb") as file:
        file.write(data)
    with open(path, "rb") as file:
        done = host.run("tcp_transfer", "send", ends.peers, str(TCP_SINK), stdin=file)
    expect(done.returncode == 0, f"TCP to the peer: {done.stdout}")
    got = guest.run("cat /run/sum; rm /run/sum").split()[0]
    expect(got == hashlib.sha256(data).hexdigest(), "TCP to the peer: other bytes came than were sent")

    receiver = host.start("tcp_transfer", "receive", str(TCP_SINK), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    address = f"TCP6:[{ends.ours}]" if ":" in ends.ours else f"TCP4:{ends.ours}"
    guest.start(f"socat -u OPEN:{path} {address}:{TCP_SINK},retry=50,interval=0.1")
    got, _ = receiver.communicate(timeout=PATIENCE)
    expect(receiver.returncode == 0 and got == data,
           f"TCP from the peer: {len(got)} of {len(data)} bytes, or other ones")


def clear_is_refused(guest, host, ends):
    """A peer that forgets its policies is not heard."""
    guest.run("ip xfrm policy flush")
    before = host.counters()
    status, output = guest.ask(f"ping -n -q -c 2 -i 0.1 -W 0.3 {ends.ours}", PATIENCE)
    expect(status == 1, f"{ends.name}: pings in clear were answered:\n{output}")
    dropped = host.drops_since(before)
    expect(dropped == {"drop_in_clear": 2}, f"{ends.name}: 2 clear packets sent, counted: {dropped}")


def body(lab):
    guest, host = bring_up(lab)
    for ends in TRANSPORTS:   # the wire and the capture work, in clear
        with Capture("guest") as capture:
            host.ping(ends.peers)
        expect(any(kind.startswith("IPv") for kind in capture.kinds), f"the capture saw no clear ping: {capture.kinds}")
    wanted = sys.argv[1:]
    count = 0
    for suite, ends in CASES:
        label = f"{suite.name}, {ends.name}"
        if wanted and not any(word in label for word in wanted):
            continue
        count += 1
        host.setkey(setkey_script(suite, ends))
        guest.run(guest_script(suite, ends))
        before = host.counters()
        with Capture("guest") as capture:
            pings(guest, host, ends)
            datagrams(guest, host, ends, lab)
            streams(guest, host, ends, lab)
        capture.expect_only_esp(label)
        dropped = host.drops_since(before)
        expect(not dropped, f"{label}: our host dropped packets: {dropped}")
        print(f"{label}: {capture.kinds['esp']} packets")
        if suite is SUITES[0]:
            clear_is_refused(guest, host, ends)
    for case in kernel_cases.CASES:
        if wanted and not any(word in case.name for word in wanted):
            continue
        count += 1
        host.setkey(case.setkey_script())
        guest.run(batch(case.xfrm_lines(), case.ends))
        before = host.counters()
        with Capture("guest") as capture:
            pings(guest, host, case.ends)
            datagrams(guest, host, case.ends, lab)
            streams(guest, host, case.ends, lab)
        outermost = case.on_wire[0]
        expect(capture.kinds.get(outermost), f"{case.name}: no {outermost} on the wire: {capture.kinds}")
        expect(set(capture.kinds) <= {*case.on_wire, "arp", "nd"}, f"{case.name}: also on the wire: {capture.kinds}")
        dropped = host.drops_since(before)
        expect(not dropped, f"{case.name}: our host dropped packets: {dropped}")
        print(f"{case.name}: {capture.kinds[outermost]} packets", flush=True)
    host.setkey("flush; spdflush;")
    expect(count, f"no case has {wanted} in its name")
    print(f"{count} cases")


if __name__ == "__main__":
    need_guest()
    enter_private_network()
    sys.exit(main(body))
