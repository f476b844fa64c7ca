// SPDX-License-Identifier: BSD-2-Clause
// When limits are reached, as a table. What the engine does then: engine_time_test.cpp.
#include "pfkey/lifetimes.hpp"

#include <doctest/doctest.h>

using namespace latchkey;

namespace {

constexpr Time at(std::int64_t seconds)
{
    return std::chrono::seconds(seconds);
}

struct Row {
    std::string_view name;
    Lifetime limit, current;       // limit: once as the soft and once as the hard one
    std::int64_t first_use, now;   // seconds; the SA is from second 100
    bool reached;
    Time next;                     // Time::max(): no limit in time
};

constexpr std::uint64_t far = ~std::uint64_t{0};

const Row rows[] = {
    {"no limit", {}, {9, 9, 9, 9}, 200, 1'000'000, false, Time::max()},
    {"age, a moment before", {0, 0, 50, 0}, {}, 0, 149, false, at(150)},
    {"age, at the moment", {0, 0, 50, 0}, {}, 0, 150, true, at(150)},
    {"age counts without use", {0, 0, 50, 0}, {}, 0, 10'000, true, at(150)},
    {"use time of an unused SA", {0, 0, 0, 50}, {}, 0, 10'000, false, Time::max()},
    {"use time, a moment before", {0, 0, 0, 50}, {1, 1, 0, 0}, 200, 249, false, at(250)},
    {"use time, at the moment", {0, 0, 0, 50}, {1, 1, 0, 0}, 200, 250, true, at(250)},
    {"age before use time", {0, 0, 120, 50}, {1, 1, 0, 0}, 200, 219, false, at(220)},
    {"use time before age", {0, 0, 500, 50}, {1, 1, 0, 0}, 200, 250, true, at(250)},
    {"bytes, one less", {0, 100, 0, 0}, {1, 99, 0, 0}, 200, 300, false, Time::max()},
    {"bytes", {0, 100, 0, 0}, {1, 100, 0, 0}, 200, 300, true, Time::max()},
    {"bytes beyond 32 bits", {0, 0x1'0000'0000, 0, 0}, {1, 0xffff'ffff, 0, 0}, 200, 300, false, Time::max()},
    {"packets, one less", {3, 0, 0, 0}, {2, 0, 0, 0}, 200, 300, false, Time::max()},
    {"packets", {3, 0, 0, 0}, {3, 0, 0, 0}, 200, 300, true, Time::max()},
    {"the end of time", {0, far, far, far}, {1, 1, 0, 0}, 200, 1'000'000, false, Time::max()},
};

Sa sa_of(const Row& row)
{
    Sa sa;
    sa.state = SaState::mature;
    sa.created = at(100);
    sa.first_use = at(row.first_use);
    sa.current = row.current;
    return sa;
}

}  // namespace

TEST_CASE("a limit of time, use, bytes or packets is reached at its moment, soft or hard, each without the other")
{
    for (const auto& row : rows) {
        CAPTURE(row.name);
        Sa soft = sa_of(row), hard = sa_of(row);
        soft.soft = row.limit;
        hard.hard = row.limit;
        CHECK(soft_reached(soft, at(row.now)) == row.reached);
        CHECK(!hard_reached(soft, at(row.now)));
        CHECK(hard_reached(hard, at(row.now)) == row.reached);
        CHECK(!soft_reached(hard, at(row.now)));
        CHECK(next_limit(soft, 30) == row.next);
        CHECK(next_limit(hard, 30) == row.next);
        soft.state = SaState::dying;   // its soft limit was announced: nothing comes any more
        CHECK(next_limit(soft, 30) == Time::max());
        hard.state = SaState::larval;
        CHECK(next_limit(hard, 30) == at(130));
    }
}

TEST_CASE("a packet may use up the hard limit, not go beyond it")
{
    Sa sa;
    sa.hard = {3, 100, 0, 0};
    sa.current = {2, 60, 0, 0};
    CHECK(!hard_exceeded_by(sa, 40));
    CHECK(hard_exceeded_by(sa, 41));
    CHECK(hard_exceeded_by(sa, ~std::size_t{0}));   // no overflow
    sa.current = {3, 60, 0, 0};
    CHECK(hard_exceeded_by(sa, 1));
    sa.current = {2, 200, 0, 0};                    // the limit was lowered by UPDATE
    CHECK(hard_exceeded_by(sa, 1));
    sa.hard = {};
    CHECK(!hard_exceeded_by(sa, ~std::size_t{0}));
}
