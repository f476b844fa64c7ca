#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""scapy is the IPsec peer of our host on a TAP: it asks, and answers, pings and UDP through ESP in transport and tunnel
mode, IPv4 and IPv6 in each other, every suite; and sends what must be dropped."""
import logging
import select
import socket
import subprocess
import sys
import time

from esp_cases import SKIPPED, material
from peers import (IN_SPI, MIXED_TUNNELS, OUR_MAC, OUT_SPI, PATIENCE, PEER_MAC, SUITES, TRANSPORTS, TUNNELS,
                   enter_private_network, expect, host_on_tap, ip, kind_of_frame, main, setkey_script)

logging.getLogger("scapy").setLevel(logging.ERROR)
try:
    from scapy.layers.inet import ICMP, IP, UDP
    from scapy.layers.inet6 import (ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS,
                                    ICMPv6NDOptDstLLAddr, IPv6)
    from scapy.layers.ipsec import ESP, SecurityAssociation
    from scapy.layers.l2 import ARP, Ether
    from scapy.packet import Raw
except ImportError as error:
    print(f"skipped: {error} (Debian: python3-scapy, python3-cryptography)")
    sys.exit(SKIPPED)

PEER_ADDRESSES = ("10.7.0.2", "fd07::2")   # on the link; scapy answers for them
UDP_ECHO, PEER_PORT = 7001, 40001
SILENCE = 0.2   # seconds after which nothing more is expected; answers take about a millisecond


def header(source, destination):
    return (IPv6 if ":" in source else IP)(src=source, dst=destination)


class Link:
    """The other end of the TAP: frames, and the answers to who has an address."""

    def __init__(self, device):
        every_protocol = 3
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(every_protocol))
        self.socket.bind((device, every_protocol))

    def send(self, packet):
        kind = 0x86DD if packet.version == 6 else 0x0800
        self.socket.send(bytes(Ether(src=PEER_MAC, dst=OUR_MAC, type=kind) / packet))

    def packets(self, seconds):
        """IP packets from our host to the peer, as they come."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and select.select([self.socket], [], [], left)[0]:
            raw, source = self.socket.recvfrom(65536)
            if source[2] == socket.PACKET_OUTGOING and raw[6:12] == bytes.fromhex(PEER_MAC.replace(":", "")):
                continue   # our own
            frame = Ether(raw)
            if kind_of_frame(raw) in ("arp", "nd"):
                self._answer_neighbour(frame)
            elif frame.src == OUR_MAC:
                yield frame.payload

    def _answer_neighbour(self, frame):
        if ARP in frame and frame[ARP].op == 1 and frame[ARP].pdst in PEER_ADDRESSES:
            question = frame[ARP]
            answer = ARP(op=2, hwsrc=PEER_MAC, psrc=question.pdst, hwdst=question.hwsrc, pdst=question.psrc)
            self.socket.send(bytes(Ether(src=PEER_MAC, dst=question.hwsrc) / answer))
        elif ICMPv6ND_NS in frame and frame[ICMPv6ND_NS].tgt in PEER_ADDRESSES:
            address = frame[ICMPv6ND_NS].tgt
            self.send(IPv6(src=address, dst=frame[IPv6].src, hlim=255) /
                      ICMPv6ND_NA(tgt=address, R=0, S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=PEER_MAC))


class Peer:
    """What scapy knows of one case."""

    def __init__(self, link, suite, ends):
        self.link, self.ends = link, ends
        self.sequence = self.seen = 0
        outer_ours, outer_peers = ends.outer
        tunnel_in = header(outer_ours, outer_peers) if ends.tunnel else None
        tunnel_out = header(outer_peers, outer_ours) if ends.tunnel else None
        self.inbound = self._association(OUT_SPI, suite, "out", tunnel_in)   # ours to the peer
        self.outbound = self._association(IN_SPI, suite, "in", tunnel_out)

    @staticmethod
    def _association(spi, suite, label, tunnel):
        key, auth_key = suite.keys(label)
        crypt, auth = suite.scapy
        return SecurityAssociation(ESP, spi=spi, crypt_algo=crypt, crypt_key=key or None, auth_algo=auth,
                                   auth_key=auth_key or None, tunnel_header=tunnel)

    def clear(self, content):
        packet = header(self.ends.peers, self.ends.ours) / content
        return packet.__class__(bytes(packet))

    def protect(self, content):
        self.sequence += 1
        return self.outbound.encrypt(self.clear(content), seq_num=self.sequence)

    def receive(self, wanted=None, seconds=PATIENCE):
        """The next packet to the peer that has the layer `wanted`, if any, once it is opened; all must be ESP."""
        for packet in self.link.packets(seconds):
            outer_ours, outer_peers = self.ends.outer
            expect(ESP in packet and packet.src == outer_ours and packet.dst == outer_peers,
                   f"{self.ends.name}: not ESP between the right ends: {packet.summary()}")
            self.seen += 1
            expect(packet[ESP].seq == self.seen, f"{self.ends.name}: number {packet[ESP].seq} after {self.seen - 1}")
            opened = self.inbound.decrypt(packet)
            expect(opened.src == self.ends.ours and opened.dst == self.ends.peers, f"inside: {opened.summary()}")
            if wanted is None or wanted in opened:
                return opened
        return None


# ---- what works ------------------------------------------------------------------------------------------------------

def echo_request(version, text, number):
    return (ICMPv6EchoRequest(id=77, seq=number, data=text) if version == 6 else ICMP(id=77, seq=number) / Raw(text))


def peer_pings(peer, version):
    for number, size in enumerate((0, 1, 33, 1300), start=1):
        text = material(f"ping {size}", size)
        peer.link.send(peer.protect(echo_request(version, text, number)))
        answer = peer.receive(ICMPv6EchoReply if version == 6 else ICMP)
        expect(answer, f"{peer.ends.name}: no answer to a ping with {size} bytes")
        icmp = answer.payload
        got = bytes(icmp.data) if version == 6 else bytes(icmp.payload)
        expect((icmp.id, icmp.seq, got) == (77, number, text), f"{peer.ends.name}: another answer: {answer.summary()}")


def our_host_pings(host, peer, version):
    pinging = host.start("latchkey", "ping", "-q", "-c", "2", "-i", "0.05", "-W", "5", peer.ends.peers,
                         stdout=subprocess.PIPE, text=True)
    for _ in range(2):
        asked = peer.receive(ICMPv6EchoRequest if version == 6 else ICMP)
        expect(asked, f"{peer.ends.name}: our host did not ping")
        icmp = asked.payload
        if version == 6:
            reply = ICMPv6EchoReply(id=icmp.id, seq=icmp.seq, data=icmp.data)
        else:
            reply = ICMP(type=0, id=icmp.id, seq=icmp.seq) / Raw(bytes(icmp.payload))
        peer.link.send(peer.protect(reply))
    output, _ = pinging.communicate(timeout=PATIENCE)
    expect(pinging.returncode == 0 and "2 received" in output, f"{peer.ends.name}: our pings:\n{output}")


def datagrams(peer):
    for size in (1, 14, 1200):
        text = material(f"datagram {size}", size)
        peer.link.send(peer.protect(UDP(sport=PEER_PORT, dport=UDP_ECHO) / Raw(text)))
        answer = peer.receive(UDP)
        expect(answer, f"{peer.ends.name}: no UDP answer, {size} bytes")
        udp = answer[UDP]
        expect((udp.sport, udp.dport, bytes(udp.payload)) == (UDP_ECHO, PEER_PORT, text), f"UDP: {answer.summary()}")
        checked = answer.__class__(bytes(answer))
        del checked[UDP].chksum   # scapy computes it anew
        expect(checked.__class__(bytes(checked))[UDP].chksum == udp.chksum, f"{peer.ends.name}: wrong UDP checksum")


# ---- what is dropped -------------------------------------------------------------------------------------------------

def dropped(host, peer, packet, drop):
    """Sent once more, the packet is counted in `drop`, nowhere else, and not answered."""
    before = host.counters()
    peer.link.send(packet)
    answer = peer.receive(seconds=SILENCE)
    expect(answer is None, f"{peer.ends.name}: {drop} expected, answered: {answer and answer.summary()}")
    moved = host.drops_since(before)
    expect(moved == {f"drop_{drop}": 1}, f"{peer.ends.name}: {drop} expected, counted: {moved}")


def refusals(host, peer, version):
    def request():
        return peer.protect(echo_request(version, b"drop me", 9))

    def rebuilt(raw):
        return (IPv6 if raw[0] >> 4 == 6 else IP)(raw)

    accepted = request()
    peer.link.send(accepted)
    expect(peer.receive(), f"{peer.ends.name}: no answer to a good packet")
    dropped(host, peer, accepted, "in_replay")
    bad = bytes(request())
    dropped(host, peer, rebuilt(bad[:-1] + bytes([bad[-1] ^ 1])), "in_integrity")
    unknown = request()
    unknown[ESP].spi = 0x7777
    dropped(host, peer, unknown, "in_unknown_spi")
    dropped(host, peer, peer.clear(echo_request(version, b"clear", 9)), "in_clear")
    # Far ahead is taken and moves the window of 32 packets, so that its left edge passes the late ones (RFC 4303, A2).
    late = request()
    peer.sequence += 30
    edge = request()      # 31 packets after `late`: that is the last place in the window
    peer.link.send(edge)
    expect(peer.receive(), f"{peer.ends.name}: no answer from ahead")
    peer.link.send(late)
    expect(peer.receive(), f"{peer.ends.name}: the window's last place was refused")
    late = request()
    peer.sequence += 31
    peer.link.send(request())
    expect(peer.receive(), f"{peer.ends.name}: no answer from ahead")
    dropped(host, peer, late, "in_replay")


def body(lab):
    host = host_on_tap(lab, "ours")
    ip("link set ours up")
    link = Link("ours")
    host.start("udp_echo", "serve", str(UDP_ECHO), stderr=subprocess.DEVNULL)
    for suite in SUITES:
        for ends in TRANSPORTS + TUNNELS + MIXED_TUNNELS:
            version = 6 if ":" in ends.ours else 4
            host.setkey(setkey_script(suite, ends))
            peer = Peer(link, suite, ends)
            peer_pings(peer, version)
            our_host_pings(host, peer, version)
            datagrams(peer)
            if suite in SUITES[:2]:
                refusals(host, peer, version)
            print(f"{suite.name}, {ends.name}: {peer.sequence} numbers used")


if __name__ == "__main__":
    enter_private_network()
    sys.exit(main(body))
