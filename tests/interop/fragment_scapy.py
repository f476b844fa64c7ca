#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Fragments against scapy: it puts together what we cut, we put together what it cuts, and both read packets alike."""
import logging
import random
import sys

from fragment_cases import SKIPPED, Tool, expect_equal, material

logging.getLogger("scapy").setLevel(logging.ERROR)
try:
    from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption, IPOption_RR, defragment, fragment
    from scapy.layers.inet6 import (HAO, ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment,
                                    IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, PadN, RouterAlert, defragment6, fragment6)
    from scapy.layers.sctp import SCTP
    from scapy.packet import Raw
except ImportError as error:
    print(f"skipped: {error} (Debian: python3-scapy)")
    sys.exit(SKIPPED)

SIZES = (0, 1, 7, 8, 9, 100, 1000, 1003, 1452, 1471, 1472, 1473, 2961, 4000, 9001, 65000)
COPIED_OPTION = IPOption(bytes.fromhex("94040000"))   # router alert


def v4(size, options=()):
    packet = IP(src="10.0.0.1", dst="10.0.0.2", id=77, ttl=9, tos=0xB8, options=list(options))
    return packet / UDP(sport=5, dport=6) / Raw(material(size))


def v6(size, *headers):
    packet = IPv6(src="fd00::1", dst="fd00::2", hlim=9, tc=0xB8, fl=0x12345)
    for header in headers:
        packet /= header.copy()
    return packet / UDP(sport=5, dport=6) / Raw(material(size))


def unfragmentable():
    return (IPv6ExtHdrHopByHop(options=[RouterAlert(otype=5, value=0)]),
            IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)]), IPv6ExtHdrRouting(addresses=["fd00::9"]))


def shuffled(pieces, seed):
    pieces = list(pieces)
    random.Random(seed).shuffle(pieces)
    return pieces


def joined_v4(pieces):
    found = defragment([IP(p) for p in pieces])
    if len(found) != 1:
        raise AssertionError(f"scapy made {len(found)} packets of it")
    packet = IP(bytes(found[0]))
    packet.flags, packet.frag = 0, 0
    del packet.len, packet.chksum
    return bytes(packet)


def joined_v6(pieces):
    """In order: scapy's own sorting takes the first instead of the lowest."""
    packet = defragment6([IPv6(p) for p in pieces])
    return bytes(packet)


def scapy_joins_ours(tool):
    count = 0
    for size in SIZES:
        whole = bytes(v4(size))
        for mtu in (68, 576, 1280, 1400, 1438, 1500, 9000):
            if size > 10000 and mtu < 576:
                continue
            pieces = tool.cut(whole, mtu)
            expect_equal(f"IPv4, {size} bytes at MTU {mtu}", joined_v4(shuffled(pieces, size)), whole)
            count += 1
        for headers in ((), unfragmentable()):
            if size + 100 > 65535:
                continue
            whole = bytes(v6(size, *headers))
            for mtu in (1280, 1500, 9000):
                pieces = tool.cut(whole, mtu)
                if len(pieces) == 1:
                    expect_equal("IPv6 that fits", pieces[0], whole)
                else:
                    expect_equal(f"IPv6, {size} bytes at MTU {mtu}", joined_v6(pieces), whole)
                count += 1
    return count


def we_join_scapys(tool):
    count = 0
    for size in SIZES:
        for options in ((), (COPIED_OPTION,), (IPOption_RR(routers=["0.0.0.0"]), COPIED_OPTION)):
            whole = bytes(v4(size, options))
            for cut_at in (48, 504, 1480):
                if size > 10000 and cut_at < 504:
                    continue
                pieces = fragment(IP(whole), fragsize=cut_at)
                expect_equal(f"scapy's IPv4, {size} bytes in {cut_at}", tool.joined(shuffled(pieces, size)), whole)
                count += 1
        for headers in ((), unfragmentable()):
            if size + 100 > 65535:
                continue
            whole = bytes(v6(size, *headers))
            pieces = fragment6(v6(size, *headers, IPv6ExtHdrFragment(id=0xCAFE)), 1280)
            expect_equal(f"scapy's IPv6, {size} bytes", tool.joined(shuffled(pieces, size)), whole)
            count += 1
    return count


def overlaps_are_refused(tool):
    """scapy's Teardrop-like pairs: the datagram is given up, and stays so."""
    count = 0
    for first, second, offset in ((64, 64, 4), (64, 64, 7), (64, 8, 2), (64, 64, 0)):
        base = IP(src="10.0.0.1", dst="10.0.0.2", id=78, proto=17)
        one = base.copy() / Raw(material(first))
        one.flags = "MF"
        two = base.copy() / Raw(material(second, 2))
        two.frag = offset
        two.flags = "MF" if offset == 0 else 0
        for pair in ((one, two), (two, one)):
            answers = tool.join([*pair, one])
            if answers != ["kept", "drop frag_overlap", "drop frag_overlap"]:
                raise AssertionError(f"overlap at {offset}: {answers}")
            tool.forget()
            count += 1
    return count


def upper_layers(own):
    return (TCP(sport=1024, dport=443), UDP(sport=53, dport=5353), SCTP(sport=9, dport=10), own, Raw(b"\1\2\3\4\5\6\7\10"))


def expected_reading(whole, upper):
    """PROTOCOL PAYLOAD-OFFSET OFFSET more|last PORT PORT, as scapy's own layers have it."""
    name = type(upper)
    offset = len(bytes(whole)) - len(bytes(whole[name]))
    numbers = {TCP: 6, UDP: 17, SCTP: 132, ICMP: 1, ICMPv6EchoRequest: 58, Raw: 253}
    if name in (TCP, UDP, SCTP):
        ports = [str(upper.sport), str(upper.dport)]
    elif name is Raw:
        ports = ["-", "-"]
    else:
        ports = [str(upper.type), str(upper.code)]
    return [str(numbers[name]), str(offset), "0", "last", *ports]


def read_alike(tool, whole, upper):
    expected, got = expected_reading(whole, upper), tool.parse(whole)
    if got != expected:
        raise AssertionError(f"{whole.summary()}: {got} instead of {expected}")


def packets_read_alike(tool):
    count = 0
    for upper in upper_layers(ICMP(type=3, code=4)):
        for options in ((), (COPIED_OPTION,), (IPOption_RR(routers=["1.2.3.4", "5.6.7.8"]),)):
            packet = IP(src="10.0.0.1", dst="10.0.0.2", options=list(options))
            if isinstance(upper, Raw):
                packet.proto = 253
            read_alike(tool, IP(bytes(packet / upper)), upper)
            count += 1
    dest = IPv6ExtHdrDestOpt(options=[HAO()])
    for upper in upper_layers(ICMPv6EchoRequest()):
        for headers in ((), unfragmentable(), (dest,), (*unfragmentable(), dest), unfragmentable()[:1]):
            packet = IPv6(src="fd00::1", dst="fd00::2")
            for header in headers:
                packet /= header.copy()
            if isinstance(upper, Raw):
                packet.lastlayer().nh = 253
            read_alike(tool, IPv6(bytes(packet / upper)), upper)
            count += 1
    return count


def main():
    tool = Tool()
    for check in (scapy_joins_ours, we_join_scapys, overlaps_are_refused, packets_read_alike):
        print(f"{check.__name__.replace('_', ' ')}: {check(tool)} cases")


main()
