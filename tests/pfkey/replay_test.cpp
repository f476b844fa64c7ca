// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/replay.hpp"

#include <doctest/doctest.h>
#include <random>
#include <set>

using latchkey::ReplayWindow;

TEST_CASE("the left edge is top - window + 1, as measured on Linux (w = 64, top 100: 37 yes, 36 no)")
{
    ReplayWindow window(64);
    window.accept(100);
    CHECK(window.fresh(37));
    CHECK(!window.fresh(36));
    CHECK(!window.fresh(100));
    CHECK(window.fresh(101));
    CHECK(window.highest() == 100);
}

TEST_CASE("sequence 0 is refused while the window is on; window 0 takes everything")
{
    CHECK(!ReplayWindow(32).fresh(0));
    ReplayWindow off(0);
    off.accept(5);
    off.accept(3);
    CHECK(off.fresh(5));
    CHECK(off.fresh(0));
    CHECK(off.highest() == 5);
}

TEST_CASE("asking moves nothing: a packet with a bad ICV leaves the window where it was")
{
    ReplayWindow window(32);
    window.accept(10);
    CHECK(window.fresh(1'000'000));
    CHECK(window.highest() == 10);
    CHECK(window.fresh(9));
}

TEST_CASE("accepting what is too old changes nothing")
{
    ReplayWindow window(32);
    window.accept(1000);
    window.accept(900);
    CHECK(window.highest() == 1000);
    for (std::uint64_t s = 969; s < 1000; ++s)
        CHECK(window.fresh(s));
}

TEST_CASE("64-bit numbers, beyond the wrap of the low half")
{
    ReplayWindow window(64);
    window.accept(0xffff'ffff);
    CHECK(window.fresh(0x1'0000'0000));
    window.accept(0x1'0000'0005);
    CHECK(window.fresh(0xffff'fffe));
    CHECK(!window.fresh(0xffff'ffff));
    window.accept(0xffff'ffff'ffff'ffff);
    CHECK(!window.fresh(0xffff'ffff'ffff'ffff));
    CHECK(window.fresh(0xffff'ffff'ffff'ffc0));
    CHECK(!window.fresh(0xffff'ffff'ffff'ffbf));
}

TEST_CASE("agrees with a set of everything seen, for every kind of window")
{
    std::mt19937_64 random(7);
    for (const std::uint32_t size : {1u, 2u, 31u, 32u, 63u, 64u, 65u, 127u, 128u, 129u, 1024u, 4096u}) {
        CAPTURE(size);
        ReplayWindow window(size);
        std::set<std::uint64_t> seen;
        std::uint64_t top = 0;
        for (int i = 0; i < 20'000; ++i) {
            const auto kind = random() % 100;
            const std::uint64_t jump = kind < 2 ? random() % (size * 3 + 1) : random() % 4;
            const std::uint64_t back = kind < 60 ? random() % (size + 4) : 0;
            const std::uint64_t sequence = top + jump > back ? top + jump - back : 0;
            const bool expected =
                sequence != 0 && (sequence > top || (top - sequence < size && !seen.contains(sequence)));
            REQUIRE(window.fresh(sequence) == expected);
            if (!expected)
                continue;
            window.accept(sequence);
            seen.insert(sequence);
            top = std::max(top, sequence);
        }
        CHECK(window.highest() == top);
    }
}
