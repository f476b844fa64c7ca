#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""AH against scapy: it verifies what we sign and we verify what it signs, for every signature, IPv4 and IPv6, with
options and extension headers, and after routers have changed what they may change. With --record FILE: writes scapy's
packets for tests/stack/ah_test.cpp instead."""
import sys

from esp_cases import SKIPPED, Refused, Tool, ah_suites, material, to_hex

try:
    from scapy_algorithms import AUTHS
    from scapy.layers.inet import (IP, UDP, IPOption, IPOption_EOL, IPOption_LSRR, IPOption_NOP, IPOption_RR,
                                   IPOption_Router_Alert, IPOption_Security, IPOption_Timestamp, IPOption_Traceroute)
    from scapy.layers.inet6 import (HBHOptUnknown, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, PadN,
                                    RouterAlert)
    from scapy.layers.ipsec import AH, IPSecIntegrityError, SecurityAssociation, split_for_transport
    from scapy.packet import Raw
except ImportError as error:
    print(f"skipped: {error} (Debian: python3-scapy, python3-cryptography)")
    sys.exit(SKIPPED)

SPI = 0xA11CE001
AH_PROTOCOL = 51
SIZES = (0, 1, 1372)
RECORDED = ((1, False, 5), (0xFFFFFFFF, False, 40), (0x0123456780000001, True, 41))
ROUTE = ["2001:db8::11", "2001:db8::12", "2001:db8::13"]


def v4(*options, **fields):
    return IP(src="192.0.2.1", dst="198.51.100.2", id=0x1234, options=list(options), **fields)


def v6(*extensions, **fields):
    packet = IPv6(src="2001:db8::1", dst="2001:db8::2", **fields)
    for extension in extensions:
        packet /= extension
    return packet


def changing_options():
    """Third bit set: the data may change on the way."""
    return [HBHOptUnknown(otype=0x3E, optlen=4, optdata=b"abcd"), PadN(optdata=b"\0\0")]


HEADERS = {
    "IPv4": lambda: v4(),
    "IPv4, TOS and don't fragment": lambda: v4(tos=0xB9, flags="DF", ttl=7),
    "IPv4, router alert": lambda: v4(IPOption_Router_Alert()),
    "IPv4, no operation and end of list": lambda: v4(IPOption_NOP(), IPOption_NOP(), IPOption_EOL()),
    "IPv4, security": lambda: v4(IPOption_Security()),
    "IPv4, record route": lambda: v4(IPOption_RR(routers=["10.0.0.1", "10.0.0.2"]), IPOption_NOP()),
    "IPv4, time stamp": lambda: v4(IPOption_Timestamp(timestamp=0x01020304)),
    "IPv4, trace route": lambda: v4(IPOption_Traceroute()),
    "IPv4, source route that was used up": lambda: v4(IPOption_NOP(), IPOption_LSRR(pointer=8, routers=["10.0.0.1"])),
    "IPv4, unknown option": lambda: v4(IPOption(bytes([0x9E, 4, 1, 2]))),
    "IPv4, several": lambda: v4(IPOption_Router_Alert(), IPOption_RR(routers=["10.0.0.1"]), IPOption_NOP(),
                                IPOption_Security(), tos=0x11),
    "IPv6": lambda: v6(),
    "IPv6, class and label": lambda: v6(tc=0xB9, fl=0xABCDE, hlim=3),
    "IPv6, hop by hop": lambda: v6(IPv6ExtHdrHopByHop(options=[RouterAlert(value=3)])),
    "IPv6, hop by hop that changes": lambda: v6(IPv6ExtHdrHopByHop(options=changing_options())),
    "IPv6, destination options": lambda: v6(IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x1E, optlen=3,
                                                                                      optdata=b"xyz"), PadN()])),
    "IPv6, routing": lambda: v6(IPv6ExtHdrRouting(addresses=ROUTE, segleft=len(ROUTE))),
    "IPv6, routing used up": lambda: v6(IPv6ExtHdrRouting(addresses=ROUTE, segleft=0)),
    "IPv6, several": lambda: v6(IPv6ExtHdrHopByHop(options=changing_options()),
                                IPv6ExtHdrDestOpt(options=changing_options()),
                                IPv6ExtHdrRouting(addresses=ROUTE[:1], segleft=1), tc=1),
}

# scapy takes every route that it sends for one that still lies ahead.
SCAPY_CANNOT_SEND = {"IPv6, routing used up"}


def association(suite, **more):
    return SecurityAssociation(AH, spi=SPI, auth_algo=AUTHS[suite.auth], auth_key=suite.auth_key, **more)


def parsed(packet):
    return (IP if packet[0] >> 4 == 4 else IPv6)(packet)


def ah_size(suite, version):
    unit = 4 if version == 4 else 8
    return (12 + suite.icv + unit - 1) // unit * unit


def split(suite, plain):
    """(next header, headers as they go out, payload)"""
    header, next_header, payload = split_for_transport(plain, AH_PROTOCOL)
    more = ah_size(suite, plain.version) + len(payload)
    if plain.version == 4:
        header.len = len(header) + more
    else:
        header.plen = len(header.payload) + more
    return next_header, bytes(header), bytes(payload)


def arrived(packet):
    """What the receiver gets to see: routers have changed all that they may."""
    packet = parsed(packet)
    layer = packet
    if packet.version == 4:
        packet.ttl -= 2
        packet.tos ^= 0x63
        for option in packet.options:
            if isinstance(option, IPOption_RR):
                option.routers = ["172.16.0.9"] * len(option.routers)
        del packet.chksum
        return bytes(packet)
    packet.hlim -= 2
    packet.tc ^= 0x63
    packet.fl ^= 0x12345
    while not isinstance(layer, AH):
        if isinstance(layer, IPv6ExtHdrRouting):
            while layer.segleft:
                here = len(layer.addresses) - layer.segleft
                packet.dst, layer.addresses[here] = layer.addresses[here], packet.dst
                layer.segleft -= 1
        for option in getattr(layer, "options", []):
            if option.otype & 0x20:
                option.optdata = b"\xff" * option.optlen
        layer = layer.payload
    return bytes(packet)


def verified_by_scapy(suite, wire, **more):
    try:
        association(suite).auth_algo.verify(parsed(wire), suite.auth_key, **more)
    except IPSecIntegrityError:
        return False
    return True


def ours_to_scapy(tool, suite, plain, sequence):
    next_header, headers, payload = split(suite, plain)
    signed = tool.seal_ah(suite, SPI, sequence, next_header, headers, payload)
    wire = arrived(signed)
    if not verified_by_scapy(suite, wire):
        raise AssertionError(f"scapy refuses {signed.hex()}")
    if verified_by_scapy(suite, wire[:5] + bytes([wire[5] ^ 1]) + wire[6:]):   # IPv4 identification, IPv6 length
        raise AssertionError("scapy took a changed packet: this comparison proves nothing")
    opened = tool.open_ah(suite, SPI, sequence - 1, len(headers), wire)
    if opened != (next_header, ah_size(suite, plain.version)):
        raise AssertionError(f"we read {opened} in our own packet")


def scapy_to_ours(tool, suite, plain, sequence):
    next_header, headers, _ = split(suite, plain)
    wire = arrived(bytes(association(suite).encrypt(plain.copy(), seq_num=sequence)))
    opened = tool.open_ah(suite, SPI, sequence - 1, len(headers), wire)
    if opened != (next_header, ah_size(suite, plain.version)):
        raise AssertionError(f"we read {opened}")
    try:
        tool.open_ah(suite, SPI, sequence - 1, len(headers), wire[:-1] + bytes([wire[-1] ^ 1]))
    except Refused as refusal:
        assert str(refusal) == "in_integrity", refusal
    else:
        raise AssertionError("we took a changed packet")


def datagram(name, header, size):
    plain = header() / UDP(sport=4000, dport=5000) / Raw(material(name, size))
    return parsed(bytes(plain))


def compare():
    tool = Tool()
    checks = 0
    for suite in ah_suites():
        for name, header in HEADERS.items():
            for sequence, size in enumerate(SIZES, start=0x7FFFFFFE):   # crosses the sign bit
                plain = datagram(name, header, size)
                try:
                    ours_to_scapy(tool, suite, plain, sequence)
                    if name not in SCAPY_CANNOT_SEND:
                        scapy_to_ours(tool, suite, plain, sequence)
                except Exception as error:
                    print(f"FAILED: {suite}, {name}, {size} bytes: {error!r}")
                    return 1
                checks += 1 if name in SCAPY_CANNOT_SEND else 2
    print(f"{checks} packets, ours and scapy's, are verified by the other side")
    return 0


def record(path):
    with open(path, "w", encoding="ascii") as file:
        print("# Datagrams with AH signed by scapy; written by tests/interop/ah_scapy.py --record", file=file)
        print("# name auth key spi sequence kind next-header place-of-AH as-sent as-received", file=file)
        for suite in ah_suites():
            for name, header in HEADERS.items():
                if name in SCAPY_CANNOT_SEND:
                    continue
                for sequence, extended, size in RECORDED:
                    plain = datagram(name, header, size)
                    next_header, headers, _ = split(suite, plain)
                    high, low = sequence >> 32, sequence & 0xFFFFFFFF
                    sent = bytes(association(suite, esn_en=extended, esn=high).encrypt(plain, seq_num=low))
                    print(name.replace(" ", "_"), suite.auth, to_hex(suite.auth_key), f"{SPI:x}", f"{sequence:x}",
                          "extended" if extended else "plain", next_header, len(headers), sent.hex(),
                          arrived(sent).hex(), sep="\t", file=file)
    return 0


if __name__ == "__main__":
    sys.exit(record(sys.argv[2]) if sys.argv[1:2] == ["--record"] else compare())
