// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/spd.hpp"
#include "pfkey/tuple_space.hpp"

#include <doctest/doctest.h>

using namespace latchkey;

namespace {

Policy rule(std::string_view source, std::string_view destination, std::uint32_t priority = 0,
            Direction direction = Direction::out)
{
    static std::uint32_t last_id = 0;
    Policy policy;
    policy.id = ++last_id;
    policy.direction = direction;
    policy.priority = priority;
    policy.selector.source = *Prefix::parse(source);
    policy.selector.destination = *Prefix::parse(destination);
    return policy;
}

Flow packet(std::string_view source, std::string_view destination, std::uint16_t source_port = 1000,
            std::uint16_t destination_port = 80, std::uint8_t protocol = ip_proto::tcp)
{
    return {*Address::parse(source), *Address::parse(destination), source_port, destination_port, protocol, true};
}

std::uint32_t hit(const Spd& spd, const Flow& flow, Direction direction = Direction::out)
{
    const Policy* policy = spd.lookup(direction, flow);
    return policy == nullptr ? 0 : policy->id;
}

}  // namespace

TEST_CASE("equal priority: the first inserted wins, not the longest prefix (KAME)")
{
    Spd spd;
    const auto wide = spd.insert(rule("10.0.0.0/8", "0.0.0.0/0")).id;
    const auto narrow = spd.insert(rule("10.0.0.1", "10.0.0.2")).id;
    CHECK(hit(spd, packet("10.0.0.1", "10.0.0.2")) == wide);
    spd.erase(*spd.find(wide));
    CHECK(hit(spd, packet("10.0.0.1", "10.0.0.2")) == narrow);
    CHECK(hit(spd, packet("10.0.0.2", "10.0.0.1")) == 0);
}

TEST_CASE("the lower priority number wins, the whole 32 bits count")
{
    Spd spd;
    spd.insert(rule("10.0.0.1", "10.0.0.2", 0xffffffff));
    const auto middle = spd.insert(rule("10.0.0.0/24", "10.0.0.0/24", 0x80000000)).id;
    CHECK(hit(spd, packet("10.0.0.1", "10.0.0.2")) == middle);
    const auto first = spd.insert(rule("0.0.0.0/0", "0.0.0.0/0", 0)).id;
    CHECK(hit(spd, packet("10.0.0.1", "10.0.0.2")) == first);
}

TEST_CASE("directions and families are apart")
{
    Spd spd;
    spd.insert(rule("0.0.0.0/0", "0.0.0.0/0", 0, Direction::in));
    const auto v6 = spd.insert(rule("::/0", "::/0")).id;
    CHECK(hit(spd, packet("10.0.0.1", "10.0.0.2")) == 0);
    CHECK(hit(spd, packet("fd00::1", "fd00::2")) == v6);
    CHECK(hit(spd, packet("fd00::1", "fd00::2"), Direction::in) == 0);
    CHECK(hit(spd, packet("10.0.0.1", "10.0.0.2"), Direction::fwd) == 0);
    CHECK(spd.size() == 2);
    CHECK(spd.size(Direction::out) == 1);
}

TEST_CASE("IPv6 prefixes of every length around the word boundary")
{
    for (const int length : {0, 1, 63, 64, 65, 127, 128}) {
        CAPTURE(length);
        Spd spd;
        Policy policy = rule("fd00::/0", "::/0");
        policy.selector.source.length = static_cast<std::uint8_t>(length);
        policy.selector.source.address =
            Address::parse("fd00:1:2:3:8000::1")->masked(static_cast<unsigned>(length));
        spd.insert(policy);
        CHECK(hit(spd, packet("fd00:1:2:3:8000::1", "::1")) != 0);
        CHECK((hit(spd, packet("fd00:1:2:3:8000::", "::1")) != 0) == (length < 128));
        CHECK((hit(spd, packet("fd00:1:2:3::1", "::1")) != 0) == (length < 65));
        CHECK((hit(spd, packet("fd00:1:2:2:8000::1", "::1")) != 0) == (length < 64));
        CHECK((hit(spd, packet("2000::", "::1")) != 0) == (length < 1));
    }
}

TEST_CASE("a rule with ports takes no packet without them")
{
    Spd spd;
    Policy policy = rule("0.0.0.0/0", "0.0.0.0/0");
    policy.selector.destination_port = {80, 80};
    const auto& published = spd.insert(policy);
    CHECK(spd.selects_by_port(Direction::out));
    CHECK(!spd.selects_by_port(Direction::in));
    Flow flow = packet("10.0.0.1", "10.0.0.2");
    CHECK(hit(spd, flow) == policy.id);
    flow.has_ports = false;
    CHECK(hit(spd, flow) == 0);
    spd.erase(published);
    CHECK(!spd.selects_by_port(Direction::out));
}

TEST_CASE("port ranges select exactly their ports")
{
    const PortRange ranges[] = {{0, 0}, {1, 65535}, {0, 32767}, {1024, 65535}, {999, 1001}, {1, 65534}, {65535, 65535}};
    for (const PortRange range : ranges) {
        CAPTURE(range.low);
        CAPTURE(range.high);
        Spd spd;
        Policy policy = rule("0.0.0.0/0", "0.0.0.0/0");
        policy.selector.source_port = range;
        spd.insert(policy);
        for (std::uint32_t port = 0; port <= 0xffff; ++port) {
            const bool selected = hit(spd, packet("1.1.1.1", "2.2.2.2", static_cast<std::uint16_t>(port))) != 0;
            REQUIRE(selected == range.contains(static_cast<std::uint16_t>(port)));
        }
    }
}

TEST_CASE("ranges by ranges select the product, few or many pieces")
{
    for (const PortRange wide : {PortRange{1000, 2047}, PortRange{1, 65534}}) {
        Spd spd;
        Policy policy = rule("0.0.0.0/0", "0.0.0.0/0");
        policy.selector.source_port = {1, 65534};
        policy.selector.destination_port = wide;
        const Policy& published = spd.insert(policy);
        const auto fallback = spd.insert(rule("0.0.0.0/0", "0.0.0.0/0", 7)).id;
        for (const std::uint16_t source : std::initializer_list<std::uint16_t>{0, 1, 2, 1000, 32768, 65534, 65535})
            for (const std::uint16_t destination :
                 std::initializer_list<std::uint16_t>{0, 1, 999, 1000, 1024, 2047, 2048, 65534, 65535}) {
                const bool inside = source >= 1 && source <= 65534 && wide.contains(destination);
                CHECK(hit(spd, packet("1.1.1.1", "2.2.2.2", source, destination)) == (inside ? policy.id : fallback));
            }
        CHECK(spd.find(Direction::out, published.selector) == &published);
        spd.erase(published);
        CHECK(hit(spd, packet("1.1.1.1", "2.2.2.2", 1000, 1000)) == fallback);
        CHECK(spd.find(Direction::out, policy.selector) == nullptr);
    }
}

TEST_CASE("a rule becomes at most 64 entries")
{
    const auto entries_of = [](PortRange source, PortRange destination) {
        TupleSpace space;
        Policy policy = rule("10.0.0.0/8", "10.0.0.0/8");
        policy.selector.source_port = source;
        policy.selector.destination_port = destination;
        space.insert(policy);
        return space.entries();
    };
    CHECK(entries_of({}, {}) == 1);
    CHECK(entries_of({80, 80}, {443, 443}) == 1);
    CHECK(entries_of({1, 65534}, {}) == 30);
    CHECK(entries_of({1, 6}, {1, 65534}) <= 30);     // 4 x 30: too many
    CHECK(entries_of({4, 7}, {1, 65534}) == 30);
    CHECK(entries_of({1, 6}, {1, 14}) == 4 * 6);
    CHECK(entries_of({1, 65534}, {1, 65534}) == 30);
}

TEST_CASE("rules of one selector stand in one queue by rank; erasing any leaves the others")
{
    Spd spd;
    std::vector<const Policy*> rules;
    for (const std::uint32_t priority : {5u, 3u, 9u, 3u, 1u})
        rules.push_back(&spd.insert(rule("10.0.0.1", "10.0.0.2", priority)));
    const Flow flow = packet("10.0.0.1", "10.0.0.2");
    for (const std::size_t expected : {4u, 1u, 3u, 0u, 2u}) {
        CHECK(spd.lookup(Direction::out, flow) == rules[expected]);
        spd.erase(*rules[expected]);
    }
    CHECK(spd.lookup(Direction::out, flow) == nullptr);
    CHECK(spd.size() == 0);
}

TEST_CASE("replace() keeps the place if the priority stays, and moves it otherwise")
{
    Spd spd;
    const Policy& first = spd.insert(rule("10.0.0.0/8", "0.0.0.0/0", 5));
    const Policy& second = spd.insert(rule("0.0.0.0/0", "0.0.0.0/0", 5));
    const Flow flow = packet("10.0.0.1", "10.0.0.2");
    Policy changed = first;
    changed.action = Action::discard;
    const Policy& again = spd.replace(first, changed);
    CHECK(spd.lookup(Direction::out, flow) == &again);
    CHECK(again.action == Action::discard);
    changed.priority = 6;
    spd.replace(again, changed);
    CHECK(spd.lookup(Direction::out, flow) == &second);
    CHECK(spd.size() == 2);
}

TEST_CASE("adding and deleting for ever leaves nothing behind")
{
    Spd spd;
    spd.insert(rule("10.0.0.1", "10.0.0.2", 0));   // stays the best of its table
    for (int i = 0; i < 10'000; ++i) {
        const Policy& other = spd.insert(rule("10.0.0.3", "10.0.0.4", 1));
        const Policy& same_place = spd.replace(other, other);
        spd.erase(same_place);
    }
    CHECK(spd.size() == 1);
    CHECK(hit(spd, packet("10.0.0.1", "10.0.0.2")) != 0);
    CHECK(hit(spd, packet("10.0.0.3", "10.0.0.4")) == 0);
    spd.clear();
    CHECK(spd.size() == 0);
    CHECK(hit(spd, packet("10.0.0.1", "10.0.0.2")) == 0);
    CHECK(spd.last_order() > 10'000);
}

TEST_CASE("a cursor sees in, out and fwd in order, and survives changes")
{
    Spd spd;
    const auto f = spd.insert(rule("10.0.0.1", "10.0.0.2", 0, Direction::fwd)).id;
    const auto late = spd.insert(rule("10.0.0.1", "10.0.0.2", 9)).id;
    const auto early = spd.insert(rule("10.0.0.3", "10.0.0.2", 1)).id;
    const auto in = spd.insert(rule("10.0.0.1", "10.0.0.2", 9, Direction::in)).id;
    Spd::Cursor cursor;
    CHECK(spd.next(cursor)->id == in);
    spd.erase(*spd.find(in));
    CHECK(spd.next(cursor)->id == early);
    const auto between = spd.insert(rule("10.0.0.4", "10.0.0.2", 5)).id;
    spd.insert(rule("10.0.0.5", "10.0.0.2", 0));   // behind the cursor
    CHECK(spd.next(cursor)->id == between);
    CHECK(spd.next(cursor)->id == late);
    CHECK(spd.next(cursor)->id == f);
    CHECK(spd.next(cursor) == nullptr);
}
