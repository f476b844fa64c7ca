// SPDX-License-Identifier: BSD-2-Clause
// The fragments are read back here by hand (offsets of RFC 791 and RFC 8200), not with parse_packet.
#include "stack/fragment.hpp"

#include "tests/stack/packets.hpp"

#include <doctest/doctest.h>
#include <string>

using namespace latchkey;
using namespace latchkey::test;

namespace {

std::vector<Buffer> cut(Bytes datagram, std::size_t mtu, std::uint32_t id = 0xcafe0001)
{
    std::vector<Buffer> out;
    auto fragmenter = Fragmenter::cut(datagram, mtu, id);
    Fragmenter::Piece piece;
    while (fragmenter && fragmenter->next(piece)) {
        Buffer packet(piece.header.begin(), piece.header.begin() + static_cast<std::ptrdiff_t>(piece.header_size));
        packet.insert(packet.end(), piece.payload.begin(), piece.payload.end());
        out.push_back(std::move(packet));
    }
    return out;
}

Drop refusal(Bytes datagram, std::size_t mtu)
{
    const auto fragmenter = Fragmenter::cut(datagram, mtu, 1);
    return fragmenter ? Drop::none : fragmenter.error();
}

// Checks all that a receiver could see; empty if right.
std::string check_v4(const V4& v, std::size_t mtu)
{
    const auto datagram = build(v);
    const auto pieces = cut(datagram, mtu);
    if (datagram.size() <= mtu)
        return pieces.size() == 1 && pieces[0] == datagram ? "" : "a datagram that fits was changed";
    const std::size_t base = (v.flags_and_offset & 0x1fffu) * 8u;
    const bool more_after = (v.flags_and_offset & 0x2000u) != 0;
    Buffer payload;
    for (std::size_t i = 0; i < pieces.size(); ++i) {
        const Bytes p(pieces[i]);
        const bool last = i + 1 == pieces.size();
        const std::size_t header = (p[0] & 0x0fu) * 4u;
        if (p[0] >> 4 != 4 || header < 20 || (i == 0 && header != 20 + v.options.size()))
            return "header length";
        if (p.size() > mtu || p.size() != wire::field<std::uint16_t>(p, 2))
            return "total length";
        if (!ipv4_checksum_right(p.first(header)))
            return "checksum";
        if (wire::field<std::uint16_t>(p, 4) != v.id || p[1] != v.tos || p[9] != v.protocol || p[8] != 64)
            return "a field that fragments share";
        const auto flags = wire::field<std::uint16_t>(p, 6);
        if ((flags & 0xc000u) != (v.flags_and_offset & 0xc000u))
            return "DF";
        if (((flags & 0x2000u) != 0) != (!last || more_after))
            return "MF";
        if ((flags & 0x1fffu) * 8u != base + payload.size())
            return "offset";
        const auto body = p.subspan(header);
        if (body.empty() || (!last && body.size() != (mtu - header) / 8 * 8))
            return "fragment not as full as it may be";
        payload.insert(payload.end(), body.begin(), body.end());
    }
    return payload == v.payload ? "" : "payload";
}

std::string check_v6(const V6& v, std::size_t unfragmentable, std::size_t mtu, std::uint32_t id)
{
    const auto datagram = build(v);
    const auto pieces = cut(datagram, mtu, id);
    if (datagram.size() <= mtu)
        return pieces.size() == 1 && pieces[0] == datagram ? "" : "a datagram that fits was changed";
    const std::size_t header = unfragmentable + 8;
    Buffer payload;
    for (std::size_t i = 0; i < pieces.size(); ++i) {
        const Bytes p(pieces[i]);
        const bool last = i + 1 == pieces.size();
        if (p.size() > mtu || p.size() - 40 != wire::field<std::uint16_t>(p, 4))
            return "payload length";
        const auto fragment = p.subspan(unfragmentable, 8);
        if (wire::field<std::uint32_t>(fragment, 4) != id || fragment[1] != 0)
            return "id";
        if (wire::field<std::uint16_t>(fragment, 2) != (payload.size() | (last ? 0u : 1u)))
            return "offset and M";
        const auto body = p.subspan(header);
        if (body.empty() || (!last && body.size() != (mtu - header) / 8 * 8))
            return "fragment not as full as it may be";
        payload.insert(payload.end(), body.begin(), body.end());
    }
    return std::ranges::equal(payload, Bytes(datagram).subspan(unfragmentable)) ? "" : "payload";
}

V4 udp4(std::size_t payload)
{
    V4 v;
    v.payload = pattern(payload);
    return v;
}

V6 udp6(std::size_t payload)
{
    V6 v;
    v.payload = pattern(payload);
    return v;
}

void expect(const std::string& fault, std::size_t size, std::size_t mtu)
{
    if (!fault.empty())
        FAIL_CHECK(fault, ": payload of ", size, " bytes at MTU ", mtu);
}

}  // namespace

TEST_CASE("IPv4 at every MTU from 68 to 1500")
{
    for (std::size_t mtu = 68; mtu <= 1500; ++mtu)
        for (const std::size_t size : {mtu - 21, mtu - 20, mtu - 19, mtu - 12, 2 * (mtu - 20) - 5, std::size_t{4001}})
            expect(check_v4(udp4(size), mtu), size, mtu);
}

TEST_CASE("IPv4 at every size from 1000 to 5999, where lwIP's own fragmenter loses datagrams")
{
    for (const std::size_t mtu : {1438u, 1400u, 1280u, 576u})
        for (std::size_t size = 1000; size < 6000; ++size)
            expect(check_v4(udp4(size), mtu), size, mtu);
}

TEST_CASE("IPv6 at every MTU from 1280 to 9000")
{
    for (std::size_t mtu = 1280; mtu <= 9000; ++mtu)
        for (const std::size_t size : {mtu - 41, mtu - 40, mtu - 39, 2 * (mtu - 48) + 1, std::size_t{20001}})
            expect(check_v6(udp6(size), 40, mtu, 7), size, mtu);
}

TEST_CASE("IPv6 at every size from 1200 to 4000")
{
    for (std::size_t size = 1200; size <= 4000; ++size)
        expect(check_v6(udp6(size), 40, 1280, 0xffffffff), size, 1280);
}

TEST_CASE("the largest datagrams")
{
    for (const std::size_t mtu : {68u, 1500u, 65528u, 65534u, 65535u})
        expect(check_v4(udp4(65515), mtu), 65515, mtu);
    for (const std::size_t mtu : {1280u, 1500u, 65535u, 65575u})
        expect(check_v6(udp6(65535), 40, mtu, 1), 65535, mtu);
}

TEST_CASE("DF is left to the caller, and kept")
{
    auto v = udp4(3000);
    v.flags_and_offset = 0x4000;
    expect(check_v4(v, 1500), 3000, 1500);
}

TEST_CASE("IPv4 fragments cut further keep id and MF and add to the offset")
{
    auto middle = udp4(1480);
    middle.flags_and_offset = 0x2000 | 185;
    auto tail = udp4(1003);
    tail.flags_and_offset = 370;
    for (std::size_t mtu = 68; mtu < 1500; mtu += 7) {
        expect(check_v4(middle, mtu), 1480, mtu);
        expect(check_v4(tail, mtu), 1003, mtu);
    }
    SUBCASE("a fragment that its sender cut wrongly")
    {
        auto odd = udp4(1001);
        odd.flags_and_offset = 0x2000;
        CHECK(refusal(build(odd), 576) == Drop::in_malformed);
        auto beyond = udp4(1480);
        beyond.flags_and_offset = 0x1fff;
        CHECK(refusal(build(beyond), 576) == Drop::in_malformed);
    }
}

TEST_CASE("IPv4 options: all in the first fragment, later ones only those with the copy bit")
{
    // Record route (7), router alert (0x94, copied), no-operations, timestamp (0x44), security (0x82, copied), end.
    const auto options = hex("07070400000000" "94040000" "01" "44080500000000aa" "01" "8203bb" "00" "000000" "00000000");
    REQUIRE(options.size() == 32);
    auto v = udp4(500);
    v.options = options;
    expect(check_v4(v, 200), 500, 200);
    const auto pieces = cut(build(v), 200);
    REQUIRE(pieces.size() == 4);
    CHECK(std::ranges::equal(Bytes(pieces[0]).subspan(20, 32), options));
    for (std::size_t i = 1; i < pieces.size(); ++i) {
        CHECK((pieces[i][0] & 0x0f) == 7);
        CHECK(std::ranges::equal(Bytes(pieces[i]).subspan(20, 8), hex("940400008203bb00")));
    }
    SUBCASE("nothing to copy")
    {
        v.options = hex("0707040000000000");
        const auto plain = cut(build(v), 200);
        REQUIRE(plain.size() > 1);
        CHECK(plain[0][0] == 0x47);
        CHECK(plain[1][0] == 0x45);
    }
    SUBCASE("40 bytes of options at the smallest MTU")
    {
        v.options = Buffer(40, 1);
        expect(check_v4(v, 68), 500, 68);
    }
    SUBCASE("options that run over their end")
    {
        for (const auto* broken : {"94050000", "94010000", "94000000", "01010194"}) {
            v.options = hex(broken);
            CHECK(refusal(build(v), 200) == Drop::in_malformed);
            CHECK(refusal(build(v), 1500) == Drop::none);   // not ours to judge when nothing is cut
        }
        v.options = hex("00940500");   // after the end of the list: no options
        CHECK(refusal(build(v), 200) == Drop::none);
    }
}

TEST_CASE("IPv6: hop-by-hop and routing headers in every fragment, the rest behind the fragment header")
{
    V6 v;
    v.next_header = 0;
    // 40 hop-by-hop, 48 destination options, 64 routing, 88 destination options, 96 payload
    v.payload = join({extension(60, 1), extension(43, 2), extension(60, 3), extension(17, 1), pattern(5000)});
    for (const std::size_t mtu : {1280u, 1300u, 1499u})
        expect(check_v6(v, 88, mtu, 9), 5000, mtu);
    const auto pieces = cut(build(v), 1280);
    REQUIRE(pieces.size() == 5);
    for (const auto& piece : pieces) {
        CHECK(piece[6] == 0);
        CHECK(piece[40] == 60);
        CHECK(piece[48] == 43);
        CHECK(piece[64] == 44);   // the routing header names the fragment header
        CHECK(piece[88] == 60);   // which names the destination options
    }
}

TEST_CASE("IPv6 datagram that has a fragment header already")
{
    SUBCASE("atomic: its own header is used")
    {
        V6 v;
        v.next_header = 44;
        v.payload = join({fragment_header(17, 0, false, 77), pattern(3000)});
        const auto pieces = cut(build(v), 1280, 5);
        REQUIRE(pieces.size() == 3);
        CHECK(pieces[0].size() == 1280);
        CHECK(std::ranges::equal(Bytes(pieces[0]).subspan(40, 8), fragment_header(17, 0, true, 77)));
        CHECK(std::ranges::equal(Bytes(pieces[1]).subspan(40, 8), fragment_header(17, 1232, true, 77)));
        CHECK(std::ranges::equal(Bytes(pieces[2]).subspan(40, 8), fragment_header(17, 2464, false, 77)));
    }
    SUBCASE("with a routing header behind it, where none should be")
    {
        V6 v;
        v.next_header = 44;
        v.payload = join({fragment_header(43, 0, false, 77), extension(17, 3), pattern(3000)});
        const auto pieces = cut(build(v), 1280, 5);
        REQUIRE(pieces.size() == 3);
        CHECK(std::ranges::equal(Bytes(pieces[1]).subspan(40, 8), fragment_header(43, 1232, true, 77)));
    }
    SUBCASE("a fragment: the offset adds, M stays")
    {
        V6 v;
        v.next_header = 44;
        v.payload = join({fragment_header(17, 800, true, 77), pattern(1600)});
        const auto pieces = cut(build(v), 1280, 5);
        REQUIRE(pieces.size() == 2);
        CHECK(std::ranges::equal(Bytes(pieces[1]).subspan(40, 8), fragment_header(17, 800 + 1232, true, 77)));
        CHECK(pieces[1].size() == 48 + 1600 - 1232);
    }
}

TEST_CASE("no room")
{
    CHECK(refusal(build(udp4(100)), 27) == Drop::out_too_big);
    CHECK(refusal(build(udp4(100)), 28) == Drop::none);
    CHECK(refusal(build(udp6(100)), 55) == Drop::out_too_big);
    CHECK(refusal(build(udp6(100)), 56) == Drop::none);
    V6 v;
    v.next_header = 0;
    v.payload = join({extension(17, 26), pattern(2000)});   // 248 bytes of headers, 8 for the fragment header
    expect(check_v6(v, 248, 1280, 3), 2000, 1280);
    v.payload = join({extension(17, 27), pattern(2000)});
    CHECK(refusal(build(v), 1280) == Drop::out_too_big);
    CHECK(cut(build(v), 4000) == std::vector<Buffer>{build(v)});
    v.payload = join({extension(17, 255), pattern(100)});   // longer than Piece's header, but nothing to cut
    CHECK(cut(build(v), 4000) == std::vector<Buffer>{build(v)});
}

TEST_CASE("a view longer than the datagram; a datagram without payload; garbage")
{
    auto padded = build(udp4(2));
    const auto datagram = padded;
    padded.resize(46, 0xee);
    CHECK(cut(padded, 1500) == std::vector<Buffer>{datagram});
    CHECK(cut(build(udp4(0)), 1500).size() == 1);
    CHECK(cut(build(udp6(0)), 1280).size() == 1);
    CHECK(refusal(pattern(60), 1500) == Drop::in_malformed);
    CHECK(refusal({}, 1500) == Drop::in_malformed);
}
