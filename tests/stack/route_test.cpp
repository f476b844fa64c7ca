// SPDX-License-Identifier: BSD-2-Clause
#include "stack/route.hpp"

#include <doctest/doctest.h>

using namespace latchkey;
using namespace std::chrono_literals;

namespace {

Address ip(std::string_view text) { return *Address::parse(text); }
Prefix prefix(std::string_view text) { return *Prefix::parse(text); }

unsigned by(const RouteTable& table, std::string_view destination)
{
    const Route* route = table.lookup(ip(destination));
    return route == nullptr ? 0 : route->interface;
}

}  // namespace

TEST_CASE("the longest prefix wins, whatever the order of adding, and the families do not mix")
{
    RouteTable table;
    const std::pair<const char*, unsigned> routes[] = {
        {"10.1.2.0/24", 3}, {"0.0.0.0/0", 1},   {"10.1.2.3/32", 4}, {"10.0.0.0/8", 2},
        {"fd00::/8", 6},    {"fd00::5/128", 7}, {"::/0", 5},
    };
    for (const auto& [to, interface] : routes)
        REQUIRE(table.add({prefix(to), {}, interface, false}).has_value());
    CHECK(by(table, "10.1.2.3") == 4);
    CHECK(by(table, "10.1.2.4") == 3);
    CHECK(by(table, "10.1.3.1") == 2);
    CHECK(by(table, "192.0.2.1") == 1);
    CHECK(by(table, "fd00::5") == 7);
    CHECK(by(table, "fd00::6") == 6);
    CHECK(by(table, "2001:db8::1") == 5);
    REQUIRE(table.remove(prefix("10.1.2.0/24"), false).has_value());
    CHECK(by(table, "10.1.2.4") == 2);
    REQUIRE(table.remove(prefix("0.0.0.0/0"), false).has_value());
    CHECK(by(table, "192.0.2.1") == 0);
    CHECK(by(table, "2001:db8::1") == 5);
}

TEST_CASE("host bits of a prefix do not count; one route per prefix")
{
    RouteTable table;
    REQUIRE(table.add({prefix("10.1.2.3/24"), ip("10.0.0.1"), 1, false}).has_value());
    CHECK(table.list().at(0).destination == prefix("10.1.2.0/24"));
    const auto twice = table.add({prefix("10.1.2.9/24"), ip("10.0.0.2"), 2, false});
    REQUIRE(!twice.has_value());
    CHECK(twice.error().code == Errc::exists);
    CHECK(!table.add({prefix("10.2.0.0/16"), ip("fd00::1"), 1, false}).has_value());  // a gateway of the other family
    CHECK(table.list().size() == 1);
}

TEST_CASE("routes of addresses and routes of people are deleted apart, and an interface takes all of its own along")
{
    RouteTable table;
    REQUIRE(table.add({prefix("10.0.0.0/24"), {}, 1, true}).has_value());
    REQUIRE(table.add({prefix("10.1.0.0/24"), ip("10.0.0.9"), 1, false}).has_value());
    REQUIRE(table.add({prefix("fd00::/64"), {}, 2, true}).has_value());
    CHECK(!table.remove(prefix("10.0.0.0/24"), false).has_value());
    CHECK(!table.remove(prefix("10.1.0.0/24"), true).has_value());
    CHECK(!table.remove(prefix("10.7.0.0/24"), false).has_value());
    CHECK(by(table, "10.0.0.5") == 1);
    table.remove_interface(1);
    CHECK(by(table, "10.0.0.5") == 0);
    CHECK(by(table, "10.1.0.5") == 0);
    CHECK(by(table, "fd00::5") == 2);
    CHECK(table.list().size() == 1);
}

TEST_CASE("the list has IPv4 before IPv6 and longer prefixes first")
{
    RouteTable table;
    for (const char* to : {"::/0", "0.0.0.0/0", "10.2.0.0/16", "10.1.0.0/16", "fd00::1/128", "10.1.1.0/24"})
        REQUIRE(table.add({prefix(to), {}, 1, false}).has_value());
    std::string order;
    for (const auto& route : table.list())
        order += route.destination.text() + " ";
    CHECK(order == "10.1.1.0/24 10.1.0.0/16 10.2.0.0/16 0.0.0.0/0 fd00::1/128 ::/0 ");
}

TEST_CASE("a path's MTU is remembered while it is fresh, and never more than the link's")
{
    PathMtus paths;
    const auto to = ip("fd00::1");
    CHECK(paths.lookup(to, 1500, 0s) == 1500);
    CHECK(paths.learn(to, 1400, 0s));
    CHECK(paths.lookup(to, 1500, 1s) == 1400);
    CHECK(paths.lookup(to, 1280, 1s) == 1280);
    CHECK(paths.lookup(ip("fd00::2"), 1500, 1s) == 1500);
    CHECK(!paths.learn(to, 1450, 1s));  // RFC 8201 §4: a message never raises it
    CHECK(paths.lookup(to, 1500, 1s) == 1400);
    CHECK(paths.learn(to, 1300, 1s));
    CHECK(paths.lookup(to, 1500, 600s) == 1300);
    CHECK(paths.lookup(to, 1500, 601s) == 1500);
    CHECK(paths.learn(to, 1450, 601s));
    CHECK(paths.lookup(to, 1500, 602s) == 1450);
    for (unsigned i = 0; i < 5000; ++i)  // more than it has room for: it forgets, it does not mistake
        paths.learn(Address::v4(10, 0, static_cast<std::uint8_t>(i >> 8), static_cast<std::uint8_t>(i)), 576 + i % 700,
                    700s);
    for (unsigned i = 0; i < 5000; ++i) {
        const auto mtu = paths.lookup(
            Address::v4(10, 0, static_cast<std::uint8_t>(i >> 8), static_cast<std::uint8_t>(i)), 1500, 701s);
        CHECK((mtu == 1500 || mtu == 576 + i % 700));
    }
}
