// SPDX-License-Identifier: BSD-2-Clause
// The long packets were written by scapy 2.5.0.
#include "stack/packet.hpp"

#include "tests/stack/packets.hpp"

#include <doctest/doctest.h>

using namespace latchkey;
using namespace latchkey::test;

namespace {

const Buffer v4_tcp_options = hex("47b80030123440003d06fcc20a0102030a0405060707040102030401040001bb0000000000000000"
                                  "500220006f1a0000");
const Buffer v4_icmp = hex("4500001d0001000040015fd20a0102030a04050608047ffb0000000078");
const Buffer v4_later_fragment = hex("4500001cbeef20b94011801b0a0102030a0405063132333435363738");
// Hop-by-hop 40, destination options 48, routing 56, fragment 80 (first), destination options 88, TCP 112.
const Buffer v6_chain = hex("645abcde005c0007fd000000000000000000000000000001fd000000000000000000000000000002"
                            "3c000502000001002b000104000000002c02000100000000fd000000000000000000000000000009"
                            "3c000001cafebabe060201020000c91000000000000000000000000000000000138800500000000000"
                            "000000500220007f010000");
// Hop-by-hop 40, destination options 48, ESP 56.
const Buffer v6_esp = hex("6000000000200040fd000000000000000000000000000001fd000000000000000000000000000002"
                          "3c00050200000100320001040000000011223344000000016162636465666768");
const Buffer v6_icmp = hex("6000000000083a40fd000000000000000000000000000001fd000000000000000000000000000002"
                           "800085b500010002");
const Buffer v6_sctp = hex("6000000000140040fd000000000000000000000000000001fd000000000000000000000000000002"
                           "84000502000001000009000a00000000a60fcd45");

bool malformed(Bytes view)
{
    const auto p = parse_packet(view);
    return !p && p.error() == Drop::in_malformed;
}

Buffer with(Buffer packet, std::size_t at, std::uint8_t value)
{
    packet.at(at) = value;
    return packet;
}

}  // namespace

TEST_CASE("IPv4 with options and TCP")
{
    const auto p = parse_packet(v4_tcp_options);
    REQUIRE(p);
    CHECK(p->family == Family::v4);
    CHECK(p->source == Address::v4(10, 1, 2, 3));
    CHECK(p->destination == Address::v4(10, 4, 5, 6));
    CHECK(p->total == 48);
    CHECK(p->protocol == ip_proto::tcp);
    CHECK(p->payload == 28);
    CHECK(p->protocol_at == 9);
    CHECK(p->insert == 28);
    CHECK(p->insert_at == 9);
    CHECK(p->insert_protocol == ip_proto::tcp);
    CHECK_FALSE(p->is_fragment);
    CHECK(p->dont_fragment);
    CHECK(p->traffic_class == 0xb8);
    CHECK(p->hop_limit == 61);
    CHECK(p->fragment_id == 0x1234);
    CHECK(p->flow == Flow{p->source, p->destination, 1024, 443, ip_proto::tcp, true});
}

TEST_CASE("ICMP and ICMPv6 show type and code as ports")
{
    const auto v4 = parse_packet(v4_icmp);
    REQUIRE(v4);
    CHECK(v4->flow == Flow{v4->source, v4->destination, 8, 4, ip_proto::icmp, true});
    const auto v6 = parse_packet(v6_icmp);
    REQUIRE(v6);
    CHECK(v6->flow == Flow{v6->source, v6->destination, 128, 0, ip_proto::icmpv6, true});
    CHECK(v6->payload == 40);
    CHECK(v6->insert == 40);
    CHECK(v6->insert_at == 6);
}

TEST_CASE("IPv4 later fragment has no ports")
{
    const auto p = parse_packet(v4_later_fragment);
    REQUIRE(p);
    CHECK(p->is_fragment);
    CHECK(p->more_fragments);
    CHECK(p->fragment_offset == 1480);
    CHECK(p->fragment_id == 0xbeef);
    CHECK(p->protocol == ip_proto::udp);
    CHECK_FALSE(p->flow.has_ports);
    CHECK(p->flow.source_port == 0);
}

TEST_CASE("IPv6 with every extension header")
{
    const auto p = parse_packet(v6_chain);
    REQUIRE(p);
    CHECK(p->family == Family::v6);
    CHECK(p->source == *Address::parse("fd00::1"));
    CHECK(p->destination == *Address::parse("fd00::2"));
    CHECK(p->total == 132);
    CHECK(p->traffic_class == 0x45);
    CHECK(p->hop_limit == 7);
    CHECK(p->protocol == ip_proto::tcp);
    CHECK(p->payload == 112);
    CHECK(p->protocol_at == 88);
    CHECK(p->insert == 88);
    CHECK(p->insert_at == 80);
    CHECK(p->insert_protocol == ip_proto::dest_options);
    CHECK(p->is_fragment);
    CHECK(p->more_fragments);
    CHECK(p->fragment_offset == 0);
    CHECK(p->fragment_id == 0xcafebabe);
    CHECK(p->fragment_header == 80);
    CHECK(p->fragment_at == 56);
    CHECK(p->routing_header);
    CHECK(p->flow == Flow{p->source, p->destination, 5000, 80, ip_proto::tcp, true});
}

TEST_CASE("ESP and AH end the chain; destination options after hop-by-hop are protected")
{
    const auto esp = parse_packet(v6_esp);
    REQUIRE(esp);
    CHECK(esp->protocol == ip_proto::esp);
    CHECK(esp->payload == 56);
    CHECK(esp->protocol_at == 48);
    CHECK(esp->insert == 48);
    CHECK(esp->insert_at == 40);
    CHECK(esp->insert_protocol == ip_proto::dest_options);
    CHECK_FALSE(esp->flow.has_ports);
    CHECK_FALSE(esp->routing_header);

    const auto ah = parse_packet(with(v6_esp, 48, ip_proto::ah));
    REQUIRE(ah);
    CHECK(ah->protocol == ip_proto::ah);
    CHECK(ah->payload == 56);
}

TEST_CASE("every protocol with ports, none without")
{
    for (const int protocol : {6, 17, 33, 132, 136}) {
        const auto p = parse_packet(with(v6_sctp, 40, static_cast<std::uint8_t>(protocol)));
        REQUIRE(p);
        CHECK(p->flow.has_ports);
        CHECK(p->flow.source_port == 9);
        CHECK(p->flow.destination_port == 10);
        CHECK(p->flow.protocol == protocol);
    }
    // IPIP, mobility, UDP-like numbers beside the real ones, IPComp, no next header, AH, ESP
    for (const int protocol : {4, 41, 135, 16, 18, 131, 137, 108, 59, 50, 51}) {
        const auto p = parse_packet(with(v6_sctp, 40, static_cast<std::uint8_t>(protocol)));
        REQUIRE(p);
        CHECK_FALSE(p->flow.has_ports);
        CHECK(p->protocol == protocol);
        CHECK(p->payload == 48);
    }
}

TEST_CASE("upper-layer header too short for its ports")
{
    for (std::size_t size = 0; size < 8; ++size) {
        for (const std::uint8_t protocol : {ip_proto::udp, ip_proto::icmp, ip_proto::icmpv6}) {
            const std::size_t needs = protocol == ip_proto::udp ? 4 : 2;
            const auto v4 =
                parse_packet(build(V4{.protocol = protocol, .flags_and_offset = 0x2000, .payload = pattern(size)}));
            REQUIRE(v4);
            CHECK(v4->flow.has_ports == (size >= needs));
            const auto v6 = parse_packet(build(V6{.next_header = protocol, .payload = pattern(size)}));
            REQUIRE(v6);
            CHECK(v6->flow.has_ports == (size >= needs));
        }
    }
}

TEST_CASE("every truncation is refused, and a longer view makes no difference")
{
    for (const auto* whole : {&v4_tcp_options, &v4_icmp, &v4_later_fragment, &v6_chain, &v6_esp, &v6_icmp, &v6_sctp}) {
        for (std::size_t size = 0; size < whole->size(); ++size)
            CHECK(malformed(Bytes(*whole).first(size)));
        auto padded = *whole;
        padded.insert(padded.end(), 46, 0xee);
        const auto p = parse_packet(padded);
        REQUIRE(p);
        CHECK(p->total == whole->size());
    }
}

TEST_CASE("IPv6 chain cut at every length by its own length field")
{
    // In a first fragment as in a whole packet the chain must be complete (RFC 7112); the TCP header may be short.
    for (std::size_t size = 40; size <= v6_chain.size(); ++size) {
        const auto cut = with(with(v6_chain, 4, 0), 5, static_cast<std::uint8_t>(size - 40));
        const auto p = parse_packet(Bytes(cut).first(size));
        CHECK(p.has_value() == (size >= 112));
        if (p)
            CHECK(p->flow.has_ports == (size >= 116));
    }
}

TEST_CASE("IPv6 later fragment: the fragment header's next header, even if it is an extension header")
{
    auto later = v6_chain;
    later[82] = 0x05;
    later[83] = 0xa9;   // offset 1448, more
    const auto p = parse_packet(later);
    REQUIRE(p);
    CHECK(p->fragment_offset == 1448);
    CHECK(p->more_fragments);
    CHECK(p->protocol == ip_proto::dest_options);
    CHECK(p->protocol_at == 80);
    CHECK(p->payload == 88);
    CHECK_FALSE(p->flow.has_ports);
}

TEST_CASE("an atomic fragment is not a fragment, but its header is known")
{
    auto atomic = v6_chain;
    atomic[83] = 0;
    const auto p = parse_packet(atomic);
    REQUIRE(p);
    CHECK_FALSE(p->is_fragment);
    CHECK(p->fragment_header == 80);
    CHECK(p->flow.has_ports);
}

TEST_CASE("IPv4 header fields that cannot be")
{
    CHECK(malformed({}));
    for (const int version : {0x05, 0x15, 0x55, 0x75, 0xf5})
        CHECK(malformed(with(v4_icmp, 0, static_cast<std::uint8_t>(version))));
    for (const int ihl : {0x40, 0x41, 0x44, 0x48, 0x4f})   // below 20; beyond the total length of 29
        CHECK(malformed(with(v4_icmp, 0, static_cast<std::uint8_t>(ihl))));
    CHECK(parse_packet(with(v4_icmp, 0, 0x47)).has_value());
    CHECK(malformed(with(v4_icmp, 3, 19)));
    CHECK(malformed(with(v4_icmp, 3, 0)));
    CHECK(malformed(with(v4_icmp, 3, 30)));
    CHECK(malformed(with(v4_icmp, 2, 1)));
    CHECK(parse_packet(with(v4_icmp, 3, 20)).has_value());
}

TEST_CASE("IPv6 chains that cannot be")
{
    const auto udp = pattern(8);
    SUBCASE("hop-by-hop options anywhere but first")
    {
        CHECK(malformed(build(V6{.next_header = 60, .payload = join({extension(0, 1), extension(17, 1), udp})})));
        CHECK(malformed(build(V6{.next_header = 0, .payload = join({extension(0, 1), extension(17, 1), udp})})));
    }
    SUBCASE("two fragment headers")
    {
        const auto inner = fragment_header(17, 0, false, 1);
        CHECK(malformed(build(V6{.next_header = 44, .payload = join({fragment_header(44, 0, false, 1), inner, udp})})));
    }
    SUBCASE("16 headers are read, 17 are not")
    {
        for (const std::size_t count : {16u, 17u}) {
            Buffer chain;
            for (std::size_t i = 0; i < count; ++i)
                chain = join({chain, extension(i + 1 == count ? 17 : 60, 1)});
            const auto p = parse_packet(build(V6{.next_header = 60, .payload = join({chain, udp})}));
            CHECK(p.has_value() == (count == 16));
        }
    }
    SUBCASE("jumbograms (RFC 2675)")
    {
        Buffer jumbo{17, 0, 0xc2, 4, 0, 1, 0, 0};
        CHECK(malformed(build(V6{.next_header = 0, .payload = join({jumbo, udp})})));
        auto as_sent = build(V6{.next_header = 0, .payload = join({jumbo, udp})});
        as_sent[4] = as_sent[5] = 0;
        CHECK(malformed(as_sent));
    }
    SUBCASE("hop-by-hop option beyond its header")
    {
        auto options = extension(17, 1);
        CHECK(parse_packet(build(V6{.next_header = 0, .payload = join({options, udp})})).has_value());
        options[3] = 5;
        CHECK(malformed(build(V6{.next_header = 0, .payload = join({options, udp})})));
        Buffer type_only{17, 0, 0, 0, 0, 0, 0, 5};   // Pad1s, then a type without a length
        CHECK(malformed(build(V6{.next_header = 0, .payload = join({type_only, udp})})));
    }
    SUBCASE("no next header may be empty")
    {
        const auto p = parse_packet(build(V6{.next_header = ip_proto::no_next}));
        REQUIRE(p);
        CHECK(p->protocol == ip_proto::no_next);
        CHECK(p->payload == 40);
    }
}

TEST_CASE("IPv4 checksum")
{
    for (const auto* packet : {&v4_tcp_options, &v4_icmp, &v4_later_fragment}) {
        auto copy = *packet;
        const std::size_t header = (copy[0] & 0x0fu) * 4u;
        CHECK(ipv4_checksum_right(Bytes(copy).first(header)));
        copy[10] = 0xaa;
        copy[11] = 0x55;
        set_ipv4_checksum(MutableBytes(copy).first(header));
        CHECK(copy == *packet);
    }
    auto carries_twice = hex("ffffffff00010000000000000000000000000000");   // the words add up to 0x1ffff
    set_ipv4_checksum(carries_twice);
    CHECK(wire::field<std::uint16_t>(carries_twice, 10) == 0xfffe);
    CHECK(ipv4_checksum_right(carries_twice));
    Buffer all_ones(60, 0xff);
    set_ipv4_checksum(all_ones);
    CHECK(ipv4_checksum_right(all_ones));
}

TEST_CASE("rewrite_header")
{
    auto v4 = v4_tcp_options;
    rewrite_header(v4, Family::v4, 9, ip_proto::esp, 45);
    CHECK(wire::field<std::uint16_t>(v4, 2) == 45);
    CHECK(v4[9] == ip_proto::esp);
    CHECK(ipv4_checksum_right(Bytes(v4).first(28)));
    CHECK(std::ranges::equal(Bytes(v4).subspan(12), Bytes(v4_tcp_options).subspan(12)));

    auto v6 = v6_esp;
    rewrite_header(v6, Family::v6, 48, ip_proto::udp, 64);
    CHECK(wire::field<std::uint16_t>(v6, 4) == 24);
    CHECK(v6[48] == ip_proto::udp);
    auto p = parse_packet(v6);
    REQUIRE(p);
    CHECK(p->protocol == ip_proto::udp);
    CHECK(p->total == 64);

    rewrite_header(v6, Family::v6, 48, ip_proto::udp, 40 + 65535);
    CHECK(wire::field<std::uint16_t>(v6, 4) == 0xffff);
}
