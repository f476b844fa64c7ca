// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/deadlines.hpp"

#include <algorithm>
#include <doctest/doctest.h>
#include <random>
#include <vector>

using namespace latchkey;

TEST_CASE("timers come due in order; a cancelled one never")
{
    Deadlines deadlines;
    Timer a, b, c;
    CHECK(deadlines.next() == Time::max());
    deadlines.set(a, Time(30));
    deadlines.set(b, Time(10));
    deadlines.set(c, Time(20));
    CHECK(deadlines.next() == Time(10));
    CHECK(deadlines.due(Time(9)) == nullptr);
    CHECK(deadlines.due(Time(10)) == &b);
    deadlines.cancel(b);
    deadlines.cancel(b);
    CHECK(!b.set());
    deadlines.set(a, Time(15));   // moves it
    CHECK(deadlines.due(Time(100)) == &a);
    deadlines.set(a, Time::max());
    CHECK(deadlines.due(Time(100)) == &c);
    CHECK(deadlines.size() == 1);
}

TEST_CASE("agrees with a sorted list under random use")
{
    std::mt19937 random(3);
    Deadlines deadlines;
    std::vector<Timer> timers(200);
    for (int i = 0; i < 20'000; ++i) {
        Timer& timer = timers[random() % timers.size()];
        if (random() % 3 == 0)
            deadlines.cancel(timer);
        else
            deadlines.set(timer, Time(random() % 1000));
        Time expected = Time::max();
        for (const auto& t : timers)
            expected = std::min(expected, t.at);
        REQUIRE(deadlines.next() == expected);
    }
}

TEST_CASE("seconds saturate instead of overflowing")
{
    CHECK(after_seconds(Time(5), 2) == Time(2'000'000'005));
    CHECK(after_seconds(Time(5), 0) == Time(5));
    CHECK(after_seconds(Time(5), ~std::uint64_t{0}) == Time::max());
    CHECK(after_seconds(Time(5), 9'223'372'036) == Time::max());
    CHECK(after_seconds(Time(5), 9'000'000'000) < Time::max());
}
