// SPDX-License-Identifier: BSD-2-Clause
// What ingress does with fragments that nobody else covers: the report of a timeout, and fragments of one piece.
#include "support/lab.hpp"

#include <doctest/doctest.h>

using namespace latchkey;
using namespace latchkey::sim;
using namespace std::chrono_literals;

namespace {

constexpr std::uint16_t port = 4444;

struct Alone : Lab {
    Instance& host = add({{"10.0.0.1/24", "fd00::1/64"}}, {0});
    Address stranger(Family f) const { return ip(f == Family::v4 ? "10.0.0.9" : "fd00::9"); }
    Address self(Family f) const { return ip(f == Family::v4 ? "10.0.0.1" : "fd00::1"); }

    // Sends nothing by itself: the stranger answers ARP and ND only so that replies to it get onto the wire.
    void introduce_stranger()
    {
        add({{"10.0.0.9/24", "fd00::9/64"}}, {0});
        world.run(2s);
        forget();
    }
};

}  // namespace

TEST_CASE("a datagram whose rest does not come is reported to its sender, unless its first piece is missing")
{
    for (const auto family : {Family::v4, Family::v6})
        for (const bool first : {true, false}) {
            CAPTURE(family == Family::v6);
            CAPTURE(first);
            Alone net;
            net.introduce_stranger();
            IpPacket piece{net.stranger(family), net.self(family)};
            const auto whole = udp_bytes({piece.source, port, 0}, {piece.destination, port, 0}, marked(200));
            piece.payload.assign(whole.begin(), whole.begin() + 96);
            piece.offset = first ? 0 : 96;
            piece.more = true;
            net.world.inject(0, frame_to(mac(0), bytes_of(piece)));
            net.world.run(family == Family::v4 ? 29s : 59s);
            CHECK(dropped(net.host, "frag_timeout") == 0);
            net.forget();
            net.world.run(3s);
            CHECK(dropped(net.host, "frag_timeout") == 1);
            std::size_t reports = 0;
            for (const auto& seen : net.frames)
                if (const auto packet = parse_packet(seen.packet()); packet && packet->flow.has_ports &&
                    packet->protocol == (family == Family::v4 ? ip_proto::icmp : ip_proto::icmpv6) &&
                    packet->flow.source_port == (family == Family::v4 ? 11 : 3)) {
                    ++reports;
                    CHECK(packet->flow.destination_port == 1);   // code: reassembly time exceeded
                    CHECK(packet->destination == net.stranger(family));
                }
            CHECK(reports == (first ? 1 : 0));
        }
}

TEST_CASE("an IPv6 fragment that is a whole datagram is taken as one, beside others of its id (RFC 6946)")
{
    Alone net;
    const auto at = net.udp(net.host, Family::v6, port);
    const auto from = net.stranger(Family::v6), to = net.self(Family::v6);
    IpPacket beside{from, to};
    const auto other = udp_bytes({from, port, 0}, {to, port, 0}, marked(200));
    beside.payload.assign(other.begin(), other.begin() + 96);
    beside.more = true;
    net.world.inject(0, frame_to(mac(0), bytes_of(beside)));

    const auto sent = marked(64);
    auto packet = udp_packet({from, port, 0}, {to, port, 0}, sent);
    const Buffer header{packet[6], 0, 0, 0, 0, 0, 0x47, 0x11};   // next header, offset 0, no more, the same id
    packet[6] = ip_proto::fragment;
    packet.insert(packet.begin() + 40, header.begin(), header.end());
    wire::set_field<std::uint16_t>(packet, 4, static_cast<std::uint16_t>(packet.size() - 40));
    net.world.inject(0, frame_to(mac(0), packet));
    CHECK(net.arrives(net.host, at, sent));
    CHECK(dropped(net.host, "frag_overlap") == 0);
}
