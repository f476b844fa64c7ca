// SPDX-License-Identifier: BSD-2-Clause
// A host on its links: what it takes from a wire, addresses, routes and links that change at run time, and that a seed
// decides everything.
#include "support/lab.hpp"

#include <cerrno>
#include <doctest/doctest.h>
#include <netinet/in.h>

using namespace latchkey;
using namespace latchkey::sim;
using namespace std::chrono_literals;

namespace {

constexpr std::uint16_t port = 4444;
constexpr MacAddress everybody{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

struct Pair : Lab {
    Instance *a, *b;
    explicit Pair(std::uint64_t seed = 1) : Lab(seed)
    {
        a = &add({{"10.0.0.1/24", "fd00::1/64"}}, {0});
        b = &add({{"10.0.0.2/24", "fd00::2/64"}}, {0});
        world.run(2s);
        forget();
    }
};

template <class T> SysResult<> set(Instance& host, SocketId socket, int level, int name, const T& value)
{
    std::array<std::uint8_t, sizeof(value)> raw{};
    std::memcpy(raw.data(), &value, sizeof(value));
    return host.set_option(socket, level, name, raw);
}

std::uint64_t wire_hash(const Lab& lab)
{
    std::uint64_t h = 0;
    for (const auto& seen : lab.frames) {
        h = mix(h ^ static_cast<std::uint64_t>(seen.at.count()) ^ seen.segment);
        for (const auto byte : seen.frame)
            h = mix(h + byte + 1);
    }
    return h;
}

}  // namespace

TEST_CASE("only frames for this host and its groups are looked at")
{
    Pair net;
    const auto at_a = net.udp(*net.a, Family::v4, port);
    const auto packet = udp_packet({ip("10.0.0.9"), port, 0}, {ip("10.0.0.1"), port, 0}, marked(20));
    net.world.inject(0, frame_to({0x02, 0, 0, 0, 0, 0x55}, packet));
    net.world.run(1s);
    CHECK(net.waiting(*net.a, at_a) == 0);
    net.world.inject(0, frame_to(mac(0), packet));
    net.world.run(1s);
    CHECK(net.waiting(*net.a, at_a) == 1);
    for (std::size_t cut = 0; cut < 14 + 28; ++cut)  // runts of every length do no harm
        net.world.inject(0, Bytes(frame_to(mac(0), packet)).first(cut));
    auto arp = frame_to(everybody, packet);
    wire::set_field<std::uint16_t>(arp, 12, 0x0806);
    for (std::size_t cut = 14; cut <= 42; ++cut)
        net.world.inject(0, Bytes(arp).first(cut));
    net.world.run(1s);
    CHECK(net.waiting(*net.a, at_a) == 0);
}

TEST_CASE("addresses that cannot come from a wire are refused")
{
    Pair net;
    const auto v4 = net.udp(*net.a, Family::v4, port), v6 = net.udp(*net.a, Family::v6, port);
    const std::pair<const char*, const char*> martians[] = {
        {"127.0.0.1", "10.0.0.1"}, {"224.0.0.1", "10.0.0.1"}, {"255.255.255.255", "10.0.0.1"},
        {"10.0.0.9", "127.0.0.1"}, {"::1", "fd00::1"},        {"ff02::1", "fd00::1"},
        {"fd00::9", "::1"},
    };
    std::uint64_t count = 0;
    for (const auto& [from, to] : martians) {
        CAPTURE(from);
        net.world.inject(0, frame_to(mac(0), udp_packet({ip(from), port, 0}, {ip(to), port, 0}, marked(20))));
        net.world.run(100ms);
        CHECK(dropped(*net.a, "in_malformed") == ++count);
    }
    auto broken = udp_packet({ip("10.0.0.9"), port, 0}, {ip("10.0.0.1"), port, 0}, marked(20));
    broken[10] ^= 1;
    net.world.inject(0, frame_to(mac(0), broken));
    net.world.run(100ms);
    CHECK(dropped(*net.a, "in_malformed") == ++count);
    CHECK(net.waiting(*net.a, v4) + net.waiting(*net.a, v6) == 0);
}

TEST_CASE("broadcast and multicast UDP in clear")
{
    Pair net;
    const auto at_a = net.udp(*net.a, Family::v4, port), at_b = net.udp(*net.b, Family::v4, port);
    const auto six_a = net.udp(*net.a, Family::v6, port), six_b = net.udp(*net.b, Family::v6, port);
    CHECK(net.send(*net.a, at_a, ip("10.0.0.255"), port, marked(30)) == EACCES);
    REQUIRE(set(*net.a, at_a, SOL_SOCKET, SO_BROADCAST, 1).has_value());
    for (const char* to : {"10.0.0.255", "255.255.255.255"}) {
        CAPTURE(to);
        net.forget();
        CHECK(net.send(*net.a, at_a, ip(to), port, marked(30)) == 0);
        CHECK(net.arrives(*net.b, at_b, marked(30)));
        REQUIRE(net.on(0).clear == 1);
        for (const auto& seen : net.frames)
            if (look(seen.frame).ip)
                CHECK(std::equal(everybody.begin(), everybody.end(), seen.frame.begin()));
    }
    struct {
        std::array<std::uint8_t, 4> group{239, 1, 2, 3}, interface {
            10, 0, 0, 2
        };
    } membership;
    REQUIRE(set(*net.b, at_b, IPPROTO_IP, IP_ADD_MEMBERSHIP, membership).has_value());
    CHECK(net.send(*net.a, at_a, ip("239.1.2.3"), port, marked(31)) == 0);
    CHECK(net.arrives(*net.b, at_b, marked(31)));
    CHECK(net.send(*net.a, at_a, ip("239.1.2.4"), port, marked(31)) == 0);  // a group that nobody is in
    CHECK(!net.arrives(*net.b, at_b, marked(31), 1s));

    REQUIRE(net.a->send_datagram(six_a, {ip("ff02::1"), port, 2}, marked(32)).has_value());
    CHECK(net.arrives(*net.b, six_b, marked(32)));
    REQUIRE(net.a->send_datagram(six_a, {ip("ff02::1"), port, 2}, marked(5000))
                .has_value());  // cut, and to the group's MAC
    CHECK(net.arrives(*net.b, six_b, marked(5000)));
}

TEST_CASE("a second IPv4 address answers ARP and carries traffic until it is deleted")
{
    Pair net;
    const auto at_a = net.udp(*net.a, Family::v4, port), at_b = net.udp(*net.b, Family::v4, port);
    for (const char* text : {"10.0.0.77/24", "10.7.0.1/24"}) {
        CAPTURE(text);
        const auto second = prefix(text).address;
        const bool same_prefix = prefix("10.0.0.0/24").contains(second);
        if (!same_prefix)
            REQUIRE(net.b->route(1, "10.7.0.0/24 dev net0").has_value());
        const auto routes = *net.a->route(0, ""), addresses = *net.a->address(0, "");
        CHECK(net.send(*net.b, at_b, second, port, marked(40)) == 0);
        CHECK(!net.arrives(*net.a, at_a, marked(40), 3s));

        REQUIRE(net.a->address(1, std::string(text) + " dev net0").has_value());
        CHECK(!net.a->address(1, text).has_value());
        CHECK(net.a->address(0, "")->find(text) != std::string::npos);
        CHECK(net.send(*net.b, at_b, second, port, marked(41)) == 0);
        CHECK(net.arrives(*net.a, at_a, marked(41)));
        CHECK(net.ping(*net.b, second, 2000));
        CHECK(net.transfer(*net.b, *net.a, second, 100'000, 30s));

        REQUIRE(net.a->address(2, text).has_value());
        CHECK(!net.a->address(2, text).has_value());
        CHECK(*net.a->address(0, "") == addresses);
        CHECK(*net.a->route(0, "") == routes);  // exactly what was there before
        net.forget();
        CHECK(net.send(*net.b, at_b, second, port, marked(42)) == 0);
        CHECK(!net.arrives(*net.a, at_a, marked(42), 1s));
        CHECK(dropped(*net.a, "in_not_local") >= 1);  // B still has its MAC
        CHECK(net.ping(*net.b, ip("10.0.0.1"), 100));
    }
}

TEST_CASE("the first IPv4 address and IPv6 addresses come and go")
{
    Pair net;
    const auto at_a = net.udp(*net.a, Family::v4, port);
    REQUIRE(net.a->address(1, "10.0.0.77/24").has_value());
    REQUIRE(net.a->address(2, "10.0.0.1").has_value());
    CHECK(net.ping(*net.b, ip("10.0.0.77"), 100));
    CHECK(!net.ping(*net.b, ip("10.0.0.1"), 100, 2s));
    CHECK(net.send(*net.a, at_a, ip("10.0.0.2"), port, marked(10)) == 0);  // the prefix is still on link
    net.world.run(1s);
    REQUIRE(net.a->address(2, "10.0.0.77").has_value());
    CHECK(net.send(*net.a, at_a, ip("10.0.0.2"), port, marked(10)) == ENETUNREACH);
    REQUIRE(net.a->address(1, "10.0.0.1/24").has_value());
    CHECK(net.ping(*net.b, ip("10.0.0.1"), 100));

    REQUIRE(net.a->address(1, "fd00::77/64").has_value());
    CHECK(net.ping(*net.b, ip("fd00::77"), 2000));
    REQUIRE(net.a->address(2, "fd00::77").has_value());
    CHECK(!net.ping(*net.b, ip("fd00::77"), 100, 2s));
    CHECK(net.ping(*net.b, ip("fd00::1"), 100));
    CHECK(net.a->route(0, "")->find("fe80") == std::string::npos);
    for (const char* wrong : {"224.0.0.1/4", "0.0.0.0/0", "ff02::5/64", "10.0.0.1/33", "10.0.0.x/24", ""})
        CHECK(!net.a->address(1, wrong).has_value());
}

TEST_CASE("routes added and deleted at run time are followed at once")
{
    Lab net;
    auto& a = net.add({{"10.0.0.1/24", "fd00::1/64"}}, {0});
    auto& first = net.add({{"10.0.0.2/24", "fd00::2/64"}, {"10.9.0.1/24", "fd09::1/64"}}, {0, 1}, {}, true);
    auto& second = net.add({{"10.0.0.3/24", "fd00::3/64"}, {"10.9.0.2/24", "fd09::2/64"}}, {0, 1}, {}, true);
    auto& far = net.add({{"10.9.0.9/24", "fd09::9/64"}}, {1},
                        {{prefix("10.0.0.0/24"), ip("10.9.0.1"), ""}, {prefix("fd00::/64"), ip("fd09::1"), ""}});
    for (const bool v6 : {false, true}) {
        CAPTURE(v6);
        const std::string net9 = v6 ? "fd09::/64" : "10.9.0.0/24", gateway = v6 ? "fd00::" : "10.0.0.";
        const auto target = ip(v6 ? "fd09::9" : "10.9.0.9");
        const auto s = net.udp(a, v6 ? Family::v6 : Family::v4, port),
                   at_far = net.udp(far, v6 ? Family::v6 : Family::v4, port);
        const auto through = [&](Instance& router) {
            const auto before = counter(router, "forwarded");
            const bool came = net.send(a, s, target, port, marked(50)) == 0 && net.arrives(far, at_far, marked(50));
            return came && counter(router, "forwarded") == before + 1;
        };
        CHECK(net.send(a, s, target, port, marked(50)) == ENETUNREACH);
        REQUIRE(a.route(1, net9 + " via " + gateway + "2").has_value());
        CHECK(through(first));
        REQUIRE(a.route(1, (v6 ? "fd09::9 via " : "10.9.0.9 via ") + gateway + "3").has_value());  // a longer prefix
        CHECK(through(second));
        REQUIRE(a.route(2, v6 ? "fd09::9" : "10.9.0.9").has_value());
        CHECK(through(first));
        CHECK(net.ping(a, target, 4000));
        REQUIRE(a.route(2, net9).has_value());
        CHECK(net.send(a, s, target, port, marked(50)) == ENETUNREACH);
        REQUIRE(a.route(1, std::string(v6 ? "default6" : "default") + " via " + gateway + "3").has_value());
        CHECK(through(second));
        CHECK(!a.route(1, net9 + " via " + (v6 ? "fd77::1" : "10.77.0.1")).has_value());  // a gateway out of reach
    }
}

TEST_CASE("a link that is down neither sends nor takes, and comes back")
{
    Pair net;
    REQUIRE(net.a->address(1, "10.0.0.77/24").has_value());
    CHECK(net.ping(*net.b, ip("10.0.0.1"), 100));
    REQUIRE(net.a->link(1, "net0 down").has_value());
    CHECK(net.a->link(0, "")->find("net0 down") != std::string::npos);
    net.forget();
    const auto at_a = net.udp(*net.a, Family::v4, port), six = net.udp(*net.a, Family::v6, port);
    CHECK(net.send(*net.a, at_a, ip("10.0.0.2"), port, marked(10)) != 0);
    CHECK(net.send(*net.a, six, ip("fd00::2"), port, marked(10)) != 0);
    for (const char* to : {"10.0.0.1", "10.0.0.77", "fd00::1"})
        CHECK(!net.ping(*net.b, ip(to), 100, 2s));
    for (const auto& seen : net.frames)
        CHECK(seen.frame[11] != mac(0)[5]);  // no frame of A
    REQUIRE(net.a->link(1, "net0 up").has_value());
    for (const char* to : {"10.0.0.1", "10.0.0.77", "fd00::1"})
        CHECK(net.ping(*net.b, ip(to), 100));
    for (const char* wrong :
         {"net0", "net7 up", "net0 sideways", "net0 mtu 100", "net0 mtu 1279", "net0 mtu x", "lo mtu 1500"})
        CHECK(!net.a->link(1, wrong).has_value());
}

TEST_CASE("a seed decides every frame and its time, and another seed decides otherwise")
{
    const auto run = [](std::uint64_t seed) {
        Pair net(seed);
        Protection p;
        p.inner = {ip("fd00::1"), ip("fd00::2")};
        p.outer = {ip("10.0.0.1"), ip("10.0.0.2")};
        p.tunnel = true;
        p.algorithm =
            "-E aes-cbc 0x000102030405060708090a0b0c0d0e0f -A hmac-sha1 0x000102030405060708090a0b0c0d0e0f10111213";
        net.script(*net.a, pair_script(p, true));
        net.script(*net.b, pair_script(p, false));
        net.world.faults.loss = 0.02;
        net.world.faults.reorder = 0.05;
        net.world.faults.duplicate = 0.01;
        CHECK(net.transfer(*net.a, *net.b, p.inner.b, 200'000, 600s));
        CHECK(net.frames.size() > 200);
        return std::pair(wire_hash(net), net.world.now());
    };
    const auto first = run(11);
    CHECK(run(11) == first);
    CHECK(run(12) != first);
}
