// SPDX-License-Identifier: BSD-2-Clause
#include "stack/fragment.hpp"

#include "tests/stack/packets.hpp"

#include <doctest/doctest.h>

using namespace latchkey;
using namespace latchkey::test;
using namespace std::chrono_literals;

namespace {

// Fragments are put together by hand: a piece [from, to) of the payload of one datagram.
struct Source {
    Family family = Family::v4;
    Buffer payload = pattern(4000);
    std::uint16_t id = 0x4242;
    std::uint8_t protocol = ip_proto::udp;
    std::uint8_t host = 1;

    Buffer piece(std::size_t from, std::size_t to, bool more) const
    {
        const Buffer bytes(payload.begin() + static_cast<std::ptrdiff_t>(from),
                           payload.begin() + static_cast<std::ptrdiff_t>(to));
        return raw(from, more, bytes);
    }
    Buffer piece(std::size_t from, std::size_t to) const { return piece(from, to, to != payload.size()); }
    Buffer raw(std::size_t offset, bool more, const Buffer& bytes, std::uint8_t ecn = 0) const
    {
        if (family == Family::v4)
            return build(V4{.protocol = protocol, .id = id,
                            .flags_and_offset = static_cast<std::uint16_t>((more ? 0x2000u : 0u) | offset / 8),
                            .tos = ecn, .last_byte_of_source = host, .payload = bytes});
        const auto header = fragment_header(protocol, static_cast<std::uint16_t>(offset), more, id);
        return build(V6{.next_header = 44, .traffic_class = ecn, .last_byte_of_source = host,
                        .payload = join({header, bytes})});
    }
    Buffer whole() const
    {
        if (family == Family::v4)
            return build(V4{.protocol = protocol, .id = id, .last_byte_of_source = host, .payload = payload});
        return build(V6{.next_header = protocol, .last_byte_of_source = host, .payload = payload});
    }
};

struct Receiver {
    Reassembly reassembly;
    Reassembly::Outcome last;
    Time now = 1s;

    Receiver() = default;
    explicit Receiver(Reassembly::Limits limits) : reassembly(limits) {}

    Drop add(const Buffer& fragment, std::uint64_t provenance = 0)
    {
        const auto packet = parse_packet(fragment);
        REQUIRE(packet);
        last = reassembly.add(fragment, *packet, provenance, now);
        return last.drop;
    }
    bool complete() const { return last.datagram != nullptr; }
    bool gave(const Buffer& expected) const
    {
        return complete() && std::ranges::equal(Bytes(last.datagram.get(), last.size), expected);
    }
    bool empty() const { return reassembly.held_bytes() == 0 && reassembly.held_datagrams() == 0; }
};

Source source(Family family)
{
    Source s;
    s.family = family;
    return s;
}

template <class Test> void both_families(Test test)
{
    for (const auto family : {Family::v4, Family::v6}) {
        CAPTURE(static_cast<int>(family));
        test(source(family));
    }
}

}  // namespace

TEST_CASE("every order of four fragments")
{
    both_families([](const Source& s) {
        const std::vector<Buffer> pieces{s.piece(0, 1480), s.piece(1480, 1488), s.piece(1488, 3000),
                                         s.piece(3000, 4000)};
        std::array<std::size_t, 4> order{0, 1, 2, 3};
        do {
            Receiver r;
            for (std::size_t i = 0; i < order.size(); ++i) {
                CHECK(r.add(pieces[order[i]]) == Drop::none);
                CHECK(r.complete() == (i == 3));
            }
            CHECK(r.gave(s.whole()));
            CHECK(r.last.id == 0x4242);
            CHECK(r.last.largest_fragment == pieces[2].size());
            CHECK(r.empty());
        } while (std::ranges::next_permutation(order).found);
    });
}

TEST_CASE("a clear fragment never completes a protected datagram, in either order")
{
    both_families([](const Source& s) {
        const auto first = s.piece(0, 2000), second = s.piece(2000, 4000);
        for (const auto& [one, other] : {std::pair{0, 7}, std::pair{7, 0}, std::pair{7, 8}}) {
            Receiver r;
            CHECK(r.add(first, static_cast<std::uint64_t>(one)) == Drop::none);
            CHECK(r.add(second, static_cast<std::uint64_t>(other)) == Drop::none);
            CHECK_FALSE(r.complete());
            CHECK(r.reassembly.held_datagrams() == 2);
            // Nor does the foreign piece disturb the datagram that it imitates.
            CHECK(r.add(second, static_cast<std::uint64_t>(one)) == Drop::none);
            CHECK(r.gave(s.whole()));
        }
    });
}

TEST_CASE("addresses, id and (IPv4) protocol keep datagrams apart")
{
    both_families([](const Source& s) {
        auto other_id = s, other_host = s, other_protocol = s;
        other_id.id = 0x4243;
        other_host.host = 3;
        other_protocol.protocol = ip_proto::tcp;
        Receiver r;
        r.add(s.piece(0, 2000));
        r.add(other_id.piece(2000, 4000));
        CHECK_FALSE(r.complete());
        r.add(other_host.piece(2000, 4000));
        CHECK_FALSE(r.complete());
        r.add(other_protocol.piece(2000, 4000));
        if (s.family == Family::v4) {
            CHECK_FALSE(r.complete());
            CHECK(r.reassembly.held_datagrams() == 4);
        } else {
            CHECK(r.gave(s.whole()));   // RFC 8200 §4.5: the first fragment's next header counts
        }
    });
}

TEST_CASE("exact duplicates are ignored")
{
    both_families([](const Source& s) {
        Receiver r;
        for (const auto& piece : {s.piece(3000, 4000), s.piece(0, 1000)}) {
            r.add(piece);
            const auto held = r.reassembly.held_bytes();
            CHECK(r.add(piece) == Drop::none);
            CHECK(r.reassembly.held_bytes() == held);
        }
        r.add(s.piece(1000, 3000));
        CHECK(r.gave(s.whole()));
    });
}

TEST_CASE("overlaps drop the datagram and what is still to come of it")
{
    both_families([](const Source& s) {
        auto forged = s;
        forged.payload[1500] ^= 1;
        const std::pair<Buffer, Buffer> pairs[] = {
            {s.piece(1000, 2000), s.piece(1000, 1992)},     // same start, shorter
            {s.piece(1000, 2000), s.piece(1000, 2008)},     // same start, longer
            {s.piece(1000, 2000), s.piece(992, 2000)},      // same end
            {s.piece(1000, 2000), s.piece(992, 1008)},      // over the left edge
            {s.piece(1000, 2000), s.piece(1992, 2008)},     // over the right edge
            {s.piece(1000, 2000), s.piece(1200, 1208)},     // inside
            {s.piece(1000, 2000), s.piece(0, 3000)},        // around
            {s.piece(1000, 2000), forged.piece(1000, 2000)},// same place, other bytes
            {s.piece(3000, 4000), s.piece(3000, 4000, true)},      // the last one, and not the last one
            {s.piece(3000, 4000, true), s.piece(3000, 4000)},
            {s.piece(1000, 2000, false), s.piece(3000, 4000)},     // two ends
            {s.piece(3000, 4000), s.piece(1000, 2000, false)},
            {s.piece(1000, 2000, false), s.piece(2000, 3000)},     // something after the end
            {s.piece(2000, 3000), s.piece(1000, 2000, false)},
            {s.piece(1000, 2000, false), s.piece(1992, 3000)},
        };
        for (std::size_t i = 0; i < std::size(pairs); ++i) {
            CAPTURE(i);
            Receiver r;
            CHECK(r.add(pairs[i].first) == Drop::none);
            const auto held = r.reassembly.held_bytes();
            CHECK(r.add(pairs[i].second) == Drop::frag_overlap);
            CHECK(r.reassembly.held_bytes() < held);
            for (const auto& late : {s.piece(0, 1000), s.piece(1000, 2000), s.piece(2000, 3000), s.piece(3000, 4000)})
                CHECK(r.add(late) == Drop::frag_overlap);
            CHECK_FALSE(r.complete());
            CHECK(r.reassembly.held_datagrams() == 1);
            // After the timeout the id is free again; nothing timed out that was not reported before.
            r.now += 60s;
            CHECK(r.reassembly.expire(r.now) == 0);
            CHECK(r.empty());
            r.add(s.piece(0, 2000));
            r.add(s.piece(2000, 4000));
            CHECK(r.gave(s.whole()));
        }
    });
}

TEST_CASE("adjacent pieces do not overlap")
{
    both_families([](const Source& s) {
        Receiver r;
        for (const auto& piece : {s.piece(1000, 2000), s.piece(2000, 2008), s.piece(992, 1000), s.piece(0, 992)})
            CHECK(r.add(piece) == Drop::none);
        CHECK(r.add(s.piece(2008, 4000)) == Drop::none);
        CHECK(r.gave(s.whole()));
    });
}

TEST_CASE("impossible fragments are dropped alone")
{
    both_families([](const Source& s) {
        Receiver r;
        r.add(s.piece(0, 2000));
        CHECK(r.add(s.piece(2000, 2001, true)) == Drop::frag_malformed);
        CHECK(r.add(s.piece(2000, 2007, true)) == Drop::frag_malformed);
        CHECK(r.add(s.piece(2000, 2000, true)) == Drop::frag_malformed);
        CHECK(r.add(s.piece(2000, 2000, false)) == Drop::frag_malformed);
        CHECK(r.add(s.piece(0, 0, true)) == Drop::frag_malformed);
        CHECK(r.add(s.raw(65528, false, pattern(8))) == Drop::frag_too_big);
        CHECK(r.add(s.raw(65528, true, pattern(8))) == Drop::frag_too_big);
        CHECK(r.add(s.raw(64000, false, pattern(1600))) == Drop::frag_too_big);
        CHECK(r.reassembly.held_datagrams() == 1);
        CHECK(r.add(s.piece(2000, 4000)) == Drop::none);
        CHECK(r.gave(s.whole()));
    });
}

TEST_CASE("the largest datagrams, and one byte more")
{
    both_families([](Source s) {
        const std::size_t most = s.family == Family::v4 ? 65535 - 20 : 65535;
        s.payload = pattern(most);
        Receiver r;
        r.add(s.piece(0, 40000));
        r.add(s.piece(40000, most));
        CHECK(r.gave(s.whole()));
        CHECK(r.add(s.raw(40000, false, pattern(most + 1 - 40000))) == Drop::frag_too_big);
    });
}

TEST_CASE("too big only with the options of the first fragment")
{
    Source s;
    s.payload = pattern(65515);
    Receiver r;
    CHECK(r.add(s.piece(1000, 65515)) == Drop::none);
    const V4 first{.id = s.id, .flags_and_offset = 0x2000, .options = Buffer(4, 1),
                   .payload = Buffer(s.payload.begin(), s.payload.begin() + 1000)};
    CHECK(r.add(build(first)) == Drop::frag_too_big);
    CHECK(r.add(s.piece(0, 1000)) == Drop::frag_too_big);
    CHECK_FALSE(r.complete());

    Receiver six;
    V6 v{.next_header = 0};
    v.payload = join(
        {extension(44, 1), fragment_header(17, 0, true, s.id), Buffer(s.payload.begin(), s.payload.begin() + 1000)});
    s.family = Family::v6;
    CHECK(six.add(s.piece(1000, 65515)) == Drop::none);
    CHECK(six.add(build(v)) == Drop::none);
    CHECK(six.last.size == 40 + 8 + 65515);
    s.payload = pattern(65535);
    CHECK(six.add(s.piece(1000, 65535)) == Drop::none);
    CHECK(six.add(build(v)) == Drop::frag_too_big);
}

TEST_CASE("IPv4 header: that of the first fragment, options included, without fragment fields")
{
    const auto payload = pattern(100);
    const auto options = hex("9404000007040400");
    const V4 first{.flags_and_offset = 0x6000, .tos = 0xb8, .options = options,
                   .payload = Buffer(payload.begin(), payload.begin() + 64)};
    const V4 second{.flags_and_offset = 0x4008, .tos = 0, .options = hex("94040000"),
                    .payload = Buffer(payload.begin() + 64, payload.end())};
    Receiver r;
    r.add(build(second));
    r.add(build(first));
    CHECK(r.gave(build(V4{.flags_and_offset = 0x4000, .tos = 0xb8, .options = options, .payload = payload})));
}

TEST_CASE("IPv6 header: the unfragmentable part of the first fragment")
{
    const auto payload = join({extension(17, 1), pattern(100)});
    const auto fragment = [&](std::size_t from, std::size_t to, Buffer before, std::uint8_t names) {
        const Buffer bytes(payload.begin() + static_cast<std::ptrdiff_t>(from),
                           payload.begin() + static_cast<std::ptrdiff_t>(to));
        const auto header = fragment_header(names, static_cast<std::uint16_t>(from), to != payload.size(), 5);
        return build(V6{.next_header = 0, .payload = join({std::move(before), header, bytes})});
    };
    Receiver r;
    // The later fragment says another next header and has no routing header.
    r.add(fragment(64, 108, extension(44, 1), 6));
    r.add(fragment(0, 64, join({extension(43, 2), extension(44, 3)}), 60));
    CHECK(r.gave(build(V6{.next_header = 0, .payload = join({extension(43, 2), extension(60, 3), payload})})));
}

TEST_CASE("IPv6 first fragment without the whole upper-layer header (RFC 7112)")
{
    const auto add = [](std::uint8_t protocol, std::size_t size) {
        Receiver r;
        return r.add(
            build(V6{.next_header = 44, .payload = join({fragment_header(protocol, 0, true, 1), pattern(size)})}));
    };
    CHECK(add(ip_proto::tcp, 16) == Drop::frag_malformed);
    CHECK(add(ip_proto::tcp, 24) == Drop::none);
    CHECK(add(ip_proto::udp, 8) == Drop::none);
    CHECK(add(ip_proto::icmpv6, 8) == Drop::none);
    CHECK(add(ip_proto::ah, 8) == Drop::frag_malformed);
    CHECK(add(ip_proto::esp, 8) == Drop::none);
    Receiver r;   // the chain ends with the fragment: no upper-layer header at all
    CHECK(r.add(build(V6{.next_header = 44, .payload = join({fragment_header(60, 0, true, 1), extension(17, 1)})})) ==
          Drop::frag_malformed);
}

TEST_CASE("atomic fragments are processed alone (RFC 6946)")
{
    const auto s = source(Family::v6);
    Receiver r;
    r.add(s.piece(0, 2000));
    const auto udp = pattern(64, 9);
    CHECK(r.add(build(V6{.next_header = 44, .payload = join({fragment_header(17, 0, false, s.id), udp})})) ==
          Drop::none);
    CHECK(r.gave(build(V6{.next_header = 17, .payload = udp})));
    CHECK(r.last.id == s.id);
    CHECK(r.reassembly.held_datagrams() == 1);
    CHECK(r.add(s.piece(2000, 4000)) == Drop::none);
    CHECK(r.gave(s.whole()));
    // With hop-by-hop options before it.
    CHECK(r.add(build(V6{.next_header = 0,
                         .payload = join({extension(44, 2), fragment_header(17, 0, false, 1), udp})})) == Drop::none);
    CHECK(r.gave(build(V6{.next_header = 0, .payload = join({extension(17, 2), udp})})));
}

TEST_CASE("what is no fragment comes back as it is")
{
    both_families([](const Source& s) {
        Receiver r;
        r.add(s.whole());
        CHECK(r.gave(s.whole()));
        CHECK(r.empty());
    });
}

TEST_CASE("ECN (RFC 3168 §5.3)")
{
    constexpr std::uint8_t not_ect = 0, ect1 = 1, ect0 = 2, ce = 3, refused = 0xff;
    struct Row {
        std::uint8_t first, second, result;
    };
    constexpr Row rows[] = {
        {not_ect, not_ect, not_ect}, {ect0, ect0, ect0},     {ect1, ect1, ect1},     {ce, ce, ce},
        {ect0, ce, ce},              {ce, ect0, ce},         {ect1, ce, ce},         {ce, ect1, ce},
        {not_ect, ce, refused},      {ce, not_ect, refused}, {not_ect, ect0, refused}, {ect1, not_ect, refused},
        {ect0, ect1, ect0},          {ect1, ect0, ect1},
    };
    both_families([&](const Source& s) {
        const auto first = s.piece(0, 2000), second = s.piece(2000, 4000);
        const auto body = [&](const Buffer& piece) { return Buffer(piece.end() - 2000, piece.end()); };
        for (const auto& row : rows) {
            CAPTURE(int{row.first});
            CAPTURE(int{row.second});
            Receiver r;
            r.add(s.raw(2000, false, body(second), static_cast<std::uint8_t>(0x48 | row.second)));
            const auto drop = r.add(s.raw(0, true, body(first), static_cast<std::uint8_t>(0x48 | row.first)));
            CHECK(drop == (row.result == refused ? Drop::frag_malformed : Drop::none));
            CHECK(r.complete() == (row.result != refused));
            if (!r.complete())
                continue;
            const Bytes datagram(r.last.datagram.get(), r.last.size);
            const auto p = parse_packet(datagram);
            REQUIRE(p);
            CHECK(p->traffic_class == (0x48 | row.result));
            if (s.family == Family::v4)
                CHECK(ipv4_checksum_right(datagram.first(20)));
        }
    });
}

TEST_CASE("timeouts: 30 seconds for IPv4, 60 for IPv6, from the first that came")
{
    const auto four = source(Family::v4), six = source(Family::v6);
    Receiver r;
    CHECK(r.reassembly.next_deadline() == Time::max());
    r.add(six.piece(0, 2000));
    CHECK(r.reassembly.next_deadline() == 61s);
    r.now = 2s;
    r.add(four.piece(0, 1000));
    CHECK(r.reassembly.next_deadline() == 32s);
    r.now = 20s;
    r.add(four.piece(1000, 2000));   // does not prolong it
    CHECK(r.reassembly.next_deadline() == 32s);
    CHECK(r.reassembly.expire(32s - 1ns) == 0);
    CHECK(r.reassembly.expire(32s) == 1);
    CHECK(r.reassembly.next_deadline() == 61s);
    r.now = 33s;
    r.add(four.piece(2000, 4000));
    CHECK_FALSE(r.complete());
    CHECK(r.reassembly.expire(70s) == 2);
    CHECK(r.empty());
    CHECK(r.reassembly.next_deadline() == Time::max());
}

TEST_CASE("an expired datagram shows its first fragment, if that came")
{
    both_families([](const Source& s) {
        const auto first = s.piece(0, 1000);
        std::vector<std::pair<Buffer, std::uint64_t>> told;
        const auto tell = [&](Bytes fragment, std::uint64_t provenance) {
            told.emplace_back(Buffer(fragment.begin(), fragment.end()), provenance);
        };
        Receiver r;
        r.add(s.piece(1000, 2000), 5);
        CHECK(r.reassembly.expire(1000s, tell) == 1);
        CHECK(told.empty());
        r.add(s.piece(1000, 2000), 5);
        r.add(first, 5);
        CHECK(r.reassembly.expire(1000s, tell) == 1);
        REQUIRE(told.size() == 1);
        CHECK(told[0] == std::pair{first, std::uint64_t{5}});

        // The callback may come back with a fragment, as loopback ICMP would.
        r.add(first);
        const auto again = [&](Bytes, std::uint64_t) { r.add(first, 9); };
        CHECK(r.reassembly.expire(r.now + 60s, again) == 1);
        CHECK(r.reassembly.held_datagrams() == 1);
    });
}

TEST_CASE("number of datagrams: the oldest goes first, across families")
{
    Receiver r({.datagrams = 4});
    std::vector<Source> sources;
    for (std::uint16_t i = 0; i < 6; ++i) {
        auto s = source(i % 2 == 0 ? Family::v4 : Family::v6);
        s.id = static_cast<std::uint16_t>(100 + i);
        sources.push_back(s);
        r.now += 1s;
        CHECK(r.add(s.piece(0, 2000)) == Drop::none);
        CHECK(r.last.evicted == (i < 4 ? 0u : 1u));
        CHECK(r.reassembly.held_datagrams() == std::min<std::size_t>(i + 1u, 4));
    }
    r.add(sources[5].piece(2000, 4000));
    CHECK(r.gave(sources[5].whole()));
    r.add(sources[2].piece(2000, 4000));
    CHECK(r.gave(sources[2].whole()));
    for (const std::size_t lost : {0u, 1u}) {
        r.add(sources[lost].piece(2000, 4000));
        CHECK_FALSE(r.complete());
    }
}

TEST_CASE("bytes held never exceed the limit, whatever comes")
{
    const Reassembly::Limits limits{.bytes = 100'000, .datagrams = 40};
    SUBCASE("many small pieces cost more than their bytes")
    {
        both_families([&](Source s) {
            Receiver r(limits);
            s.payload = pattern(65400);
            s.protocol = ip_proto::no_next;
            std::size_t accepted = 0, sent = 0;
            for (std::size_t at = 0; at + 16 <= s.payload.size(); at += 16, ++sent) {
                accepted += r.add(s.piece(at, at + 8, true)) == Drop::none ? 1 : 0;
                REQUIRE(r.reassembly.held_bytes() <= limits.bytes);
            }
            // 32 kB of payload, but as many tree nodes: the datagram is given up at some point, and begins again.
            CHECK(accepted < sent);
            CHECK(accepted > 500);
        });
    }
    SUBCASE("a flood of datagrams")
    {
        Receiver r(limits);
        std::size_t evicted = 0, dropped = 0;
        for (std::uint32_t i = 0; i < 3000; ++i) {
            auto s = source(i % 3 == 0 ? Family::v6 : Family::v4);
            s.id = static_cast<std::uint16_t>(i * 7919u);
            s.host = static_cast<std::uint8_t>(i);
            const std::size_t from = i % 5 * 8;
            r.now += 1ms;
            dropped += r.add(s.piece(from, from + 800 + i % 300 * 8)) == Drop::none ? 0 : 1;
            evicted += r.last.evicted;
            REQUIRE(r.reassembly.held_bytes() <= limits.bytes);
            REQUIRE(r.reassembly.held_datagrams() <= limits.datagrams);
        }
        CHECK(dropped == 0);
        CHECK(evicted == 3000 - r.reassembly.held_datagrams());
        r.reassembly.expire(1000s);
        CHECK(r.empty());
    }
    SUBCASE("one datagram larger than the limit")
    {
        Receiver r({.bytes = 2500});
        const auto s = source(Family::v4);
        CHECK(r.add(s.piece(0, 1000)) == Drop::none);
        CHECK(r.add(s.piece(1000, 3000)) == Drop::frag_limit);
        CHECK(r.empty());
    }
    SUBCASE("no room for anything")
    {
        for (const auto& nothing : {Reassembly::Limits{.bytes = 10}, Reassembly::Limits{.datagrams = 0}}) {
            Receiver r(nothing);
            CHECK(r.add(source(Family::v4).piece(0, 1000)) == Drop::frag_limit);
            CHECK(r.empty());
        }
    }
}
