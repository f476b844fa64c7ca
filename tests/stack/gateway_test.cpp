// SPDX-License-Identifier: BSD-2-Clause
// Security gateways: what passes between two nets is checked once and protected once, nothing readable is on the wire
// between them, and senders learn what went wrong with a packet.
#include "support/lab.hpp"

#include <doctest/doctest.h>

using namespace latchkey;
using namespace latchkey::sim;
using namespace std::chrono_literals;

namespace {

constexpr std::uint16_t port = 4444, open_port = 5000;
constexpr unsigned middle = 0, left = 1, right = 2;  // segments
constexpr unsigned host_a = 0, host_g1 = 1, host_g2 = 2;

const char* const gcm = "-E aes-gcm-16 0x000102030405060708090a0b0c0d0e0f10111213";

struct Tunnel {
    bool v6 = false;  // the nets
    bool outer_v6 = false;  // the gateways
    std::string upper = "any";
    std::string a_port = "", b_port = "";  // "[4444]"
    bool fwd_copies = true;
};

// A -(left)- G1 -(middle)- G2 -(right)- B
struct Gateways : Lab {
    Instance *a, *g1, *g2, *b;

    explicit Gateways(std::size_t middle_mtu = 1500)
    {
        a = &add({{"10.1.0.2/24", "fd01::2/64"}}, {left}, {via("0.0.0.0/0", "10.1.0.1"), via("::/0", "fd01::1")});
        g1 = &add({{"10.1.0.1/24", "fd01::1/64"}, {"192.0.2.1/24", "fd0f::1/64"}}, {left, middle},
                  {via("10.2.0.0/24", "192.0.2.2"), via("fd02::/64", "fd0f::2")}, true);
        g2 = &add({{"192.0.2.2/24", "fd0f::2/64"}, {"10.2.0.1/24", "fd02::1/64"}}, {middle, right},
                  {via("10.1.0.0/24", "192.0.2.1"), via("fd01::/64", "fd0f::1")}, true);
        b = &add({{"10.2.0.2/24", "fd02::2/64"}}, {right}, {via("0.0.0.0/0", "10.2.0.1"), via("::/0", "fd02::1")});
        if (middle_mtu != 1500) {
            REQUIRE(g1->link(1, "net1 mtu " + std::to_string(middle_mtu)).has_value());
            REQUIRE(g2->link(1, "net0 mtu " + std::to_string(middle_mtu)).has_value());
        }
        world.run(2s);
        forget();
    }

    void protect(const Tunnel& t)
    {
        for (auto* gateway : {g1, g2})
            script(*gateway, tunnel_script(t, gateway == g1));
        world.run(1s);
        forget();
    }

    static std::string tunnel_script(const Tunnel& t, bool first)
    {
        const std::string g = t.outer_v6 ? "fd0f::" : "192.0.2.", one = g + "1", two = g + "2";
        const std::string left_net = (t.v6 ? "fd01::/64" : "10.1.0.0/24") + t.a_port;
        const std::string right_net = (t.v6 ? "fd02::/64" : "10.2.0.0/24") + t.b_port;
        const auto rule = [&](bool to_right) {
            const std::string nets = to_right ? left_net + " " + right_net : right_net + " " + left_net;
            const std::string path = to_right ? one + "-" + two : two + "-" + one;
            return "spdadd " + nets + " " + t.upper + " -P " + (to_right == first ? "out" : "in") +
                   " ipsec esp/tunnel/" + path + "/require;\n";
        };
        return "add " + one + " " + two + " esp 0x1001 -m tunnel " + gcm + ";\n" + "add " + two + " " + one +
               " esp 0x1002 -m tunnel " + gcm + ";\n" + rule(true) + rule(false);
    }

    Address address_a(bool v6) const { return ip(v6 ? "fd01::2" : "10.1.0.2"); }
    Address address_b(bool v6) const { return ip(v6 ? "fd02::2" : "10.2.0.2"); }
    void inject_left(Bytes packet) { world.inject(left, frame_to(mac(host_g1, 0), packet)); }
    void inject_middle_to_g2(Bytes packet) { world.inject(middle, frame_to(mac(host_g2, 0), packet)); }

    Buffer from_a(bool v6, std::size_t size, bool dont_fragment = false, std::uint8_t hop_limit = 64,
                  std::uint16_t to_port = port) const
    {
        const Endpoint from{address_a(v6), port, 0}, to{address_b(v6), to_port, 0};
        IpPacket packet{from.address, to.address, ip_proto::udp, udp_bytes(from, to, marked(size))};
        packet.hop_limit = hop_limit;
        packet.dont_fragment = dont_fragment;
        return bytes_of(packet);
    }
};

// Is the inner packet IPv6, is the outer?
const std::pair<bool, bool> family_pairs[] = {{false, false}, {true, true}, {false, true}, {true, false}};

}  // namespace

TEST_CASE("UDP of every size, ICMP and TCP cross the tunnel; between the gateways only ESP is seen")
{
    for (const auto& [v6, outer_v6] : family_pairs) {
        CAPTURE(v6);
        CAPTURE(outer_v6);
        Gateways net;
        net.protect({.v6 = v6, .outer_v6 = outer_v6});
        const auto family = v6 ? Family::v6 : Family::v4;
        const auto at_a = net.udp(*net.a, family, port), at_b = net.udp(*net.b, family, port);
        std::vector<std::size_t> sizes{0, 1, 8, 100, 1300, 2000, 4000, 9000, 30000, 65000};
        for (std::size_t near = 1360; near <= 1480; near += 4)
            sizes.push_back(near);
        for (const auto size : sizes) {
            CAPTURE(size);
            const auto data = marked(size);
            REQUIRE(net.send(*net.a, at_a, net.address_b(v6), port, data) == 0);
            CHECK(net.arrives(*net.b, at_b, data));
            CHECK(net.sender.address == net.address_a(v6));
            REQUIRE(net.send(*net.b, at_b, net.address_a(v6), port, data) == 0);
            CHECK(net.arrives(*net.a, at_a, data));
        }
        for (const std::size_t size : {56u, 1400u, 4000u})
            CHECK(net.ping(*net.a, net.address_b(v6), size));
        CHECK(net.transfer(*net.a, *net.b, net.address_b(v6), 1'000'000, 60s));
        CHECK(net.on(middle).esp > 100);
        CHECK(net.on(middle).clear == 0);
        CHECK(net.on(middle).marked == 0);
        CHECK(net.on(middle).largest <= 1500);
        CHECK(net.on(left).marked > 100);
        CHECK(net.on(left).esp == 0);
        CHECK(net.on(right).esp == 0);
    }
}

TEST_CASE("a transit packet is checked once and protected once")
{
    Gateways net;
    net.protect({});
    const auto at_b = net.udp(*net.b, Family::v4, port);
    const int count = 20;
    for (int i = 0; i < count; ++i)
        net.inject_left(net.from_a(false, 500));
    net.world.run(1s);
    CHECK(net.waiting(*net.b, at_b) == count);
    CHECK(net.on(middle).esp == count);
    CHECK(counter(*net.g1, "out_protected") == count);
    CHECK(counter(*net.g1, "in_protected") == 0);
    CHECK(counter(*net.g1, "forwarded") == count);
    CHECK(counter(*net.g2, "in_protected") == count);
    CHECK(counter(*net.g2, "out_protected") == 0);
    CHECK(counter(*net.g2, "forwarded") == count);
    // RFC 4303 §2.2: sequence numbers begin with 1 and count packets.
    const auto esp = net.packets(middle, [](const Packet& p) { return p.protocol == ip_proto::esp; });
    REQUIRE(esp.size() == count);
    for (std::size_t i = 0; i < esp.size(); ++i) {
        CHECK(wire::field<std::uint32_t>(esp[i], 20) == 0x1001);
        CHECK(wire::field<std::uint32_t>(esp[i], 24) == i + 1);
    }
    // The hop limit goes down once per gateway, and not inside the tunnel.
    const auto arrived = net.packets(right, [](const Packet& p) { return p.protocol == ip_proto::udp; });
    REQUIRE(arrived.size() == count);
    CHECK(arrived[0][8] == 62);
}

TEST_CASE("under a port rule fragmented transit datagrams are protected whole, and other ports stay clear")
{
    for (const bool v6 : {false, true}) {
        CAPTURE(v6);
        Gateways net;
        net.protect({.v6 = v6, .outer_v6 = v6, .upper = "udp", .a_port = "[any]", .b_port = "[4444]"});
        const auto family = v6 ? Family::v6 : Family::v4;
        const auto at_a = net.udp(*net.a, family, port);
        const auto secret = net.udp(*net.b, family, port), other = net.udp(*net.b, family, open_port);
        for (const std::size_t size : {100u, 1440u, 4000u, 20000u}) {
            CAPTURE(size);
            net.forget();
            const auto data = marked(size);
            REQUIRE(net.send(*net.a, at_a, net.address_b(v6), port, data) == 0);
            CHECK(net.arrives(*net.b, secret, data));
            CHECK(net.on(middle).clear == 0);
            CHECK(net.on(middle).marked == 0);
            CHECK(net.on(middle).esp > 0);

            net.forget();
            REQUIRE(net.send(*net.a, at_a, net.address_b(v6), open_port, data) == 0);
            CHECK(net.arrives(*net.b, other, data));
            CHECK(net.on(middle).esp == 0);
            CHECK(net.on(middle).marked > 0);
            // Cut again no bigger than the sender cut it, and with the sender's id (RFC 8200 §4.5: unique per sender).
            CHECK(net.on(middle).largest <= net.on(left).largest);
            const auto is_fragment = [](const Packet& p) { return p.is_fragment; };
            const auto before = net.packets(left, is_fragment), after = net.packets(middle, is_fragment);
            REQUIRE(before.size() == after.size());
            for (std::size_t i = 0; i < before.size(); ++i)
                CHECK(parse_packet(before[i])->fragment_id == parse_packet(after[i])->fragment_id);
        }
        // IPv4 travels whole, one ESP packet per datagram. IPv6 must not be cut behind the tunnel, so its fragments (3
        // of 4,000 bytes, 14 of 20,000) go one by one.
        CHECK(counter(*net.g2, "in_protected") == (v6 ? 1u + 1u + 3u + 14u : 4u));
    }
}

TEST_CASE("a transit fragment whose ports cannot be known is dropped where a port rule could apply")
{
    Gateways net;
    net.protect({.upper = "udp", .a_port = "[any]", .b_port = "[4444]"});
    const auto a = net.address_a(false), b = net.address_b(false);
    // Ports that are cut off: a whole UDP packet of two bytes.
    net.inject_left(bytes_of({a, b, ip_proto::udp, Buffer{0x11, 0x5c}}));
    net.world.run(1s);
    CHECK(dropped(*net.g1, "fwd_port_fragment") == 1);
    // A later fragment alone is never forwarded, whatever its ports may be.
    net.inject_left(bytes_of({a, b, ip_proto::udp, marked(64), 64, 0, false, 9, 1480, false}));
    net.world.run(61s);
    CHECK(dropped(*net.g1, "frag_timeout") == 1);
    CHECK(net.on(middle).clear + net.on(middle).esp == 0);
}

TEST_CASE("clear and wrongly protected transit packets are refused where policy requires a tunnel")
{
    for (const bool copies : {true, false}) {  // setkey -k: an `in` rule covers transit as well
        CAPTURE(copies);
        Gateways net;
        net.protect({});
        if (!copies)
            net.script(*net.g2, "spddelete 10.1.0.0/24 10.2.0.0/24 any -P fwd;");
        const auto at_b = net.udp(*net.b, Family::v4, port);
        net.inject_middle_to_g2(net.from_a(false, 100));
        net.world.run(1s);
        CHECK(dropped(*net.g2, "fwd_clear") == 1);
        CHECK(net.waiting(*net.b, at_b) == 0);

        // A good SA of these hosts, but not the tunnel that the rule asks for: another reqid.
        const std::string rule = "ipsec esp/tunnel/192.0.2.1-192.0.2.2/unique:7;";
        net.script(*net.g2, "spdflush; spdadd 10.1.0.0/24 10.2.0.0/24 any -P in " + rule);
        net.script(*net.g2, "spddelete 10.1.0.0/24 10.2.0.0/24 any -P fwd;");
        if (copies)  // the copy that setkey makes asks for `require`: it cannot know the reqid
            net.script(*net.g2, "spdadd 10.1.0.0/24 10.2.0.0/24 any -P fwd " + rule);
        net.inject_left(net.from_a(false, 100));
        net.world.run(1s);
        CHECK(dropped(*net.g2, "fwd_wrong_protection") == 1);
        CHECK(net.waiting(*net.b, at_b) == 0);
    }
}

TEST_CASE("a discard rule stops transit, without an answer")
{
    for (const char* direction : {"fwd", "in", "out"}) {
        CAPTURE(direction);
        Gateways net;
        net.script(*net.g1, std::string("spdadd 10.1.0.0/24 10.2.0.0/24 any -P ") + direction + " discard;");
        net.inject_left(net.from_a(false, 100));
        net.inject_left(net.from_a(false, 100, false, 1));  // not even a time exceeded: it is a black hole
        net.world.run(1s);
        CHECK(dropped(*net.g1, std::string(direction) == "out" ? "out_discard" : "fwd_discard") >= 1);
        CHECK(net.on(middle).clear == 0);
        if (std::string(direction) != "out")
            CHECK(icmp_messages(net, left, Family::v4, 11).empty());
    }
}

TEST_CASE("a packet whose hop limit runs out is answered with time exceeded")
{
    for (const bool v6 : {false, true}) {
        CAPTURE(v6);
        Gateways net;
        for (const std::uint8_t hops : {std::uint8_t{0}, std::uint8_t{1}, std::uint8_t{2}})
            net.inject_left(net.from_a(v6, 100, false, hops));
        net.world.run(1s);
        CHECK(dropped(*net.g1, "fwd_ttl") == 2);
        CHECK(dropped(*net.g2, "fwd_ttl") == 1);
        const auto answers = icmp_messages(net, left, v6 ? Family::v6 : Family::v4, v6 ? 3 : 11);
        REQUIRE(answers.size() == 3);
        const auto packet = *parse_packet(answers[0]);
        CHECK(packet.source == ip(v6 ? "fd01::1" : "10.1.0.1"));
        CHECK(packet.destination == net.address_a(v6));
        // RFC 792, RFC 4443 §3.3: four unused bytes, then the offending packet as it came.
        const auto quoted = Bytes(answers[0]).subspan(packet.payload + 8);
        const auto offending = net.from_a(v6, 100, false, 0);
        CHECK(std::ranges::equal(quoted, Bytes(offending)));
        CHECK(parse_packet(answers[2])->source == ip(v6 ? "fd0f::2" : "192.0.2.2"));
    }
}

TEST_CASE("too big a packet that must not be cut is answered with the next link's MTU")
{
    SUBCASE("IPv4 with DF, in clear")
    {
        Gateways net(1280);
        net.inject_left(net.from_a(false, 1400, true));
        net.world.run(1s);
        CHECK(dropped(*net.g1, "fwd_too_big") == 1);
        const auto answers = icmp_messages(net, left, Family::v4, 3);
        REQUIRE(answers.size() == 1);
        CHECK(answers[0][21] == 4);
        CHECK(wire::field<std::uint32_t>(answers[0], 24) == 1280);  // RFC 1191 §4
        CHECK(answers[0].size() <= 576);  // RFC 1812 §4.3.2.3
        CHECK(net.on(middle).clear == 0);
        net.inject_left(net.from_a(false, 1400, false));
        net.world.run(1s);
        CHECK(net.on(middle).fragments == 2);
    }
    SUBCASE("IPv6, in clear: the sender cuts smaller from then on")
    {
        Gateways net(1280);
        const auto at_a = net.udp(*net.a, Family::v6, port), at_b = net.udp(*net.b, Family::v6, port);
        const auto data = marked(1400);
        REQUIRE(net.send(*net.a, at_a, net.address_b(true), port, data) == 0);
        CHECK(!net.arrives(*net.b, at_b, data, 1s));
        CHECK(dropped(*net.g1, "fwd_too_big") == 1);
        const auto answers = icmp_messages(net, left, Family::v6, 2);
        REQUIRE(answers.size() == 1);
        CHECK(wire::field<std::uint32_t>(answers[0], 44) == 1280);
        CHECK(answers[0].size() <= 1280);  // RFC 4443 §2.4 (c)
        REQUIRE(net.send(*net.a, at_a, net.address_b(true), port, data) == 0);
        CHECK(net.arrives(*net.b, at_b, data));
        net.world.run(601s);  // RFC 8201 §4: and tries again later
        REQUIRE(net.send(*net.a, at_a, net.address_b(true), port, data) == 0);
        net.world.run(1s);
        CHECK(dropped(*net.g1, "fwd_too_big") == 2);
    }
    SUBCASE("a forged one is not believed below what every link carries")
    {
        Gateways net;
        const auto told = [&](const Address& quoted_from, std::uint32_t mtu) {
            Buffer message{2, 0, 0, 0, 0, 0, static_cast<std::uint8_t>(mtu >> 8), static_cast<std::uint8_t>(mtu)};
            const auto quoted = udp_packet({quoted_from, port, 0}, {net.address_b(true), port, 0}, marked(1400));
            message.insert(message.end(), quoted.begin(), quoted.begin() + 48);
            const auto from = ip("fd01::1"), to = net.address_a(true);
            wire::set_field<std::uint16_t>(message, 2, icmpv6_checksum(from, to, message));
            net.world.inject(left, frame_to(mac(host_a), bytes_of({from, to, ip_proto::icmpv6, message})));
            net.world.run(100ms);
        };
        const auto largest_of_1400 = [&] {
            const auto s = net.udp(*net.a, Family::v6, 0);
            net.forget();
            REQUIRE(net.send(*net.a, s, net.address_b(true), port, marked(1400)) == 0);
            net.world.run(100ms);
            return net.on(left).largest;
        };
        told(ip("fd01::77"), 1300);  // not this host's packet
        CHECK(largest_of_1400() == 1448);
        told(net.address_a(true), 1300);
        CHECK(largest_of_1400() > 1280);
        CHECK(largest_of_1400() <= 1300);
        told(net.address_a(true), 600);
        CHECK(largest_of_1400() > 1200);
        CHECK(largest_of_1400() <= 1280);
    }
    SUBCASE("IPv6 fragments put together for a port rule are not cut smaller than the sender did")
    {
        Gateways net(1280);
        net.script(*net.g1, "spdadd ::/0 ::/0[9] udp -P out none;");
        const auto at_a = net.udp(*net.a, Family::v6, port);
        REQUIRE(net.send(*net.a, at_a, net.address_b(true), port, marked(3000)) == 0);
        net.world.run(1s);
        CHECK(net.on(middle).clear == 0);
        CHECK(icmp_messages(net, left, Family::v6, 2).size() == 1);
        CHECK(dropped(*net.g1, "fwd_too_big") == 1);
    }
    SUBCASE("into a tunnel that copies DF: what is left inside")
    {
        for (const bool v6 : {false, true}) {
            CAPTURE(v6);
            Gateways net;
            net.protect({.v6 = v6});
            REQUIRE(net.g1->set_tunable("net.inet.ipsec.dfbit", "2").has_value());
            (void)net.udp(*net.b, v6 ? Family::v6 : Family::v4, port);
            net.inject_left(net.from_a(v6, 1420, true));
            net.world.run(1s);
            CHECK(dropped(*net.g1, "fwd_too_big") == 1);
            CHECK(net.on(middle).esp == 0);
            const auto answers = icmp_messages(net, left, v6 ? Family::v6 : Family::v4, v6 ? 2 : 3);
            REQUIRE(answers.size() == 1);
            // AES-GCM in 1500 bytes of IPv4: 20 outer header, 8 SPI and sequence, 8 IV, 16 ICV, 2 trailer.
            CHECK(wire::field<std::uint32_t>(answers[0], v6 ? 44 : 24) == 1500 - 20 - 8 - 8 - 16 - 2);
            // What fits by that number passes, whole.
            net.inject_left(net.from_a(v6, 1446 - (v6 ? 48u : 28u), true));
            net.world.run(1s);
            CHECK(net.on(middle).esp == 1);
            CHECK(net.on(middle).fragments == 0);
            CHECK(net.on(right).marked == 1);
        }
    }
    SUBCASE("an IPv6 packet of 1280 bytes passes any tunnel")
    {
        Gateways net(1280);  // RFC 8200 §5: nobody may be told of less than 1280; then the outer packet is cut
        net.protect({.v6 = true});
        REQUIRE(net.g1->set_tunable("net.inet.ipsec.dfbit", "2").has_value());
        (void)net.udp(*net.b, Family::v6, port);
        net.inject_left(net.from_a(true, 1280 - 48));
        net.world.run(1s);
        CHECK(net.on(right).marked == 1);
        CHECK(icmp_messages(net, left, Family::v6, 2).empty());
    }
}

TEST_CASE("a host behind a tunnel of its own learns what the link behind the far gateway carries")
{
    Lab net;
    auto& a = net.add({{"fd0f::1/64"}}, {middle}, {via("fd02::/64", "fd0f::2")});
    auto& g2 = net.add({{"fd0f::2/64"}, {"fd02::1/64"}}, {middle, right}, {}, true);
    auto& b = net.add({{"fd02::2/64"}}, {right}, {via("::/0", "fd02::1")});
    REQUIRE(g2.link(1, "net1 mtu 1280").has_value());
    REQUIRE(b.link(1, "net0 mtu 1280").has_value());
    const std::string sas = std::string("add fd0f::1 fd0f::2 esp 0x1001 -m tunnel ") + gcm +
                            "; add fd0f::2 fd0f::1 esp 0x1002 -m tunnel " + gcm + ";";
    const auto rule = [](bool out, bool forth) {
        const std::string nets = forth ? "fd0f::1 fd02::/64" : "fd02::/64 fd0f::1";
        return "spdadd " + nets + " any -P " + (out ? "out" : "in") + " ipsec esp/tunnel/" +
               (forth ? "fd0f::1-fd0f::2" : "fd0f::2-fd0f::1") + "/require;";
    };
    net.script(a, sas + rule(true, true) + rule(false, false));
    net.script(g2, sas + rule(false, true) + rule(true, false) +
                       "spdadd fd02::1 fd0f::1 any -P out ipsec esp/tunnel/fd0f::2-fd0f::1/require;");
    net.world.run(2s);
    net.forget();
    const auto at_a = net.udp(a, Family::v6, port), at_b = net.udp(b, Family::v6, port);
    const auto data = marked(4000);
    REQUIRE(net.send(a, at_a, ip("fd02::2"), port, data) == 0);
    CHECK(!net.arrives(b, at_b, data, 1s));
    CHECK(dropped(g2, "fwd_too_big") == 1);
    REQUIRE(net.send(a, at_a, ip("fd02::2"), port, data) == 0);
    CHECK(net.arrives(b, at_b, data));
    CHECK(net.transfer(a, b, ip("fd02::2"), 200'000, 60s));
    CHECK(net.on(middle).clear == 0);
    CHECK(dropped(g2, "fwd_too_big") == 1);
}

TEST_CASE("DF, traffic class and ECN of the outer header are what the tunables say")
{
    for (const bool v6 : {false, true}) {
        CAPTURE(v6);
        Gateways net;
        net.protect({.v6 = v6, .outer_v6 = v6});
        // What the outer packet looks like for an inner one with this DF and this traffic class.
        const auto outer = [&](bool df, std::uint8_t traffic_class) {
            net.forget();
            IpPacket packet{net.address_a(v6), net.address_b(v6), ip_proto::udp, marked(32)};
            packet.dont_fragment = df;
            packet.traffic_class = traffic_class;
            net.inject_left(bytes_of(packet));
            net.world.run(50ms);
            const auto esp = net.packets(middle, [](const Packet& p) { return p.protocol == ip_proto::esp; });
            REQUIRE(!esp.empty());
            CHECK((esp[0][0] >> 4) == (v6 ? 6 : 4));
            return *parse_packet(esp[0]);
        };
        const auto set = [&](const std::string& name, int value) {
            const std::string where = v6 ? "net.inet6.ipsec6." : "net.inet.ipsec.";
            REQUIRE(net.g1->set_tunable(name == "dfbit" ? "net.inet.ipsec.dfbit" : where + name, std::to_string(value))
                        .has_value());
        };
        if (!v6)
            for (const int dfbit : {0, 1, 2})
                for (const bool df : {false, true}) {
                    CAPTURE(dfbit);
                    set("dfbit", dfbit);
                    CHECK(outer(df, 0).dont_fragment == (dfbit == 1 || (dfbit == 2 && df)));
                }
        constexpr std::uint8_t dscp = 0xb8, not_ect = 0, ect1 = 1, ect0 = 2, ce = 3;
        for (const int ecn : {-1, 0, 1})
            for (const std::uint8_t inner : {not_ect, ect1, ect0, ce}) {
                CAPTURE(ecn);
                CAPTURE(inner);
                set("ecn", ecn);
                const auto expected = ecn == 0 ? not_ect : ecn == 1 && inner == ce ? ect0 : inner;
                CHECK(outer(false, static_cast<std::uint8_t>(dscp | inner)).traffic_class == (dscp | expected));
            }
        CHECK(outer(false, 0).hop_limit == 64);  // the tunnel is one hop, and its ends are not seen inside
    }
}

TEST_CASE("congestion that a tunnel met reaches the inner packet when ECN is allowed")
{
    for (const bool v6 : {false, true})
        for (const bool allowed : {false, true})
            for (const std::uint8_t inner : {std::uint8_t{0}, std::uint8_t{1}, std::uint8_t{2}}) {
                CAPTURE(v6);
                CAPTURE(allowed);
                CAPTURE(inner);
                Gateways net;
                net.protect({.v6 = v6});
                REQUIRE(net.g2->set_tunable("net.inet.ipsec.ecn", allowed ? "1" : "0").has_value());
                IpPacket packet{net.address_a(v6), net.address_b(v6), ip_proto::udp, marked(32)};
                packet.traffic_class = inner;
                net.inject_left(bytes_of(packet));
                net.world.run(1s);
                auto esp = net.packets(middle, [](const Packet& p) { return p.protocol == ip_proto::esp; });
                REQUIRE(!esp.empty());
                net.forget();
                esp[0][1] = 3;  // it comes again, marked by a router (these SAs have no replay window)
                set_ipv4_checksum(MutableBytes(esp[0]).first(20));
                net.inject_middle_to_g2(esp[0]);
                net.world.run(1s);
                const auto arrived = net.packets(right, [](const Packet& p) { return p.protocol == ip_proto::udp; });
                if (allowed && inner == 0) {  // RFC 6040 §4.2: it could not have been marked
                    CHECK(arrived.empty());
                    continue;
                }
                REQUIRE(arrived.size() == 1);
                CHECK(parse_packet(arrived[0])->traffic_class == (allowed ? 3 : inner));
            }
}

TEST_CASE("no route: unreachable")
{
    for (const bool v6 : {false, true}) {
        CAPTURE(v6);
        Gateways net;
        const Endpoint from{net.address_a(v6), port, 0}, to{ip(v6 ? "fdff::1" : "203.0.113.1"), port, 0};
        net.inject_left(udp_packet(from, to, marked(100)));
        net.world.run(1s);
        CHECK(dropped(*net.g1, "fwd_no_route") == 1);
        const auto answers = icmp_messages(net, left, v6 ? Family::v6 : Family::v4, v6 ? 1 : 3);
        REQUIRE(answers.size() == 1);
        CHECK(parse_packet(answers[0])->flow.destination_port == 0);  // net unreachable, no route
    }
}

TEST_CASE("ICMP errors are never about ICMP errors, fragments after the first or groups, and their rate is limited")
{
    Gateways net;
    const auto a = net.address_a(false), b = net.address_b(false);
    net.inject_left(bytes_of({a, b, ip_proto::icmp, Buffer{3, 1, 0, 0, 0, 0, 0, 0}, 1}));
    net.inject_left(bytes_of({a, b, ip_proto::udp, marked(64), 1, 0, false, 9, 1480, false}));
    net.inject_left(bytes_of({Address::any(Family::v4), b, ip_proto::udp, marked(64), 1}));
    net.world.run(1s);
    CHECK(icmp_messages(net, left, Family::v4, 11).empty());

    net.inject_left(bytes_of({a, b, ip_proto::icmp, Buffer{8, 0, 0xf7, 0xfe, 0, 0, 0, 1}, 1}));  // echo is no error
    net.world.run(1s);
    CHECK(icmp_messages(net, left, Family::v4, 11).size() == 1);

    net.world.run(2s);
    net.forget();
    for (int i = 0; i < 1000; ++i)
        net.inject_left(net.from_a(false, 10, false, 1));
    net.world.run(100ms);
    CHECK(icmp_messages(net, left, Family::v4, 11).size() == 100);
    net.world.run(2s);
    net.inject_left(net.from_a(false, 10, false, 1));
    net.world.run(1s);
    CHECK(icmp_messages(net, left, Family::v4, 11).size() == 101);  // and comes back
}

TEST_CASE("an ICMP error about a packet that came through a tunnel goes back through it, or not at all")
{
    for (const bool v6 : {false, true}) {
        CAPTURE(v6);
        Gateways net;
        net.protect({.v6 = v6});
        net.inject_left(net.from_a(v6, 100, false, 2));  // runs out behind the tunnel
        net.world.run(1s);
        CHECK(dropped(*net.g2, "fwd_ttl") == 1);
        CHECK(net.on(middle).esp == 2);
        CHECK(net.on(middle).clear == 0);
        CHECK(net.on(middle).marked == 0);
        CHECK(icmp_messages(net, left, v6 ? Family::v6 : Family::v4, v6 ? 3 : 11).size() == 1);
        // The way back is not protected any more: then nobody is told.
        net.forget();
        const std::string back = v6 ? "fd02::/64 fd01::/64" : "10.2.0.0/24 10.1.0.0/24";
        net.script(*net.g2, "spddelete " + back + " any -P out;");
        net.inject_left(net.from_a(v6, 100, false, 2));
        net.world.run(1s);
        CHECK(dropped(*net.g2, "fwd_ttl") == 2);
        CHECK(net.on(middle).clear == 0);
        CHECK(net.on(middle).marked == 0);
    }
}

TEST_CASE("a one-armed gateway sends out of the interface that the packet came in by")
{
    Lab net;
    auto& a = net.add({{"10.1.0.2/24"}}, {0}, {via("10.2.0.0/24", "10.1.0.1")});
    auto& gateway = net.add({{"10.1.0.1/24", "10.2.0.1/24"}}, {0}, {}, true);
    auto& b = net.add({{"10.2.0.2/24"}}, {0}, {via("10.1.0.0/24", "10.2.0.1")});
    const auto at_a = net.udp(a, Family::v4, port), at_b = net.udp(b, Family::v4, port);
    const auto data = marked(3000);
    REQUIRE(net.send(a, at_a, ip("10.2.0.2"), port, data) == 0);
    CHECK(net.arrives(b, at_b, data));
    REQUIRE(net.send(b, at_b, ip("10.1.0.2"), port, data) == 0);
    CHECK(net.arrives(a, at_a, data));
    CHECK(net.transfer(a, b, ip("10.2.0.2"), 200'000, 60s));
    CHECK(counter(gateway, "forwarded") > 100);
}

TEST_CASE("forwarding off: transit packets are dropped; link-local and group packets are never forwarded")
{
    Lab net;
    auto& host = net.add({{"10.1.0.1/24", "fd01::1/64"}, {"10.2.0.1/24", "fd02::1/64"}}, {left, right});
    const auto to_host = [&](Bytes packet) { net.world.inject(left, frame_to(mac(0, 0), packet)); };
    net.world.run(2s);
    net.forget();
    to_host(udp_packet({ip("10.1.0.2"), port, 0}, {ip("10.2.0.2"), port, 0}, marked(10)));
    net.world.run(1s);
    CHECK(dropped(host, "in_not_local") == 1);

    auto& gateway = net.add({{"10.1.0.3/24", "fd01::3/64"}, {"10.2.0.3/24", "fd02::3/64"}}, {left, right}, {}, true);
    net.world.run(2s);
    net.forget();
    const auto to_gateway = [&](Bytes packet) { net.world.inject(left, frame_to(mac(1, 0), packet)); };
    to_gateway(udp_packet({ip("fe80::99"), port, 0}, {ip("fd02::2"), port, 0}, marked(10)));
    to_gateway(udp_packet({ip("10.1.0.2"), port, 0}, {ip("169.254.1.1"), port, 0}, marked(10)));
    to_gateway(udp_packet({ip("10.1.0.2"), port, 0}, {ip("224.0.0.99"), port, 0}, marked(10)));
    net.world.inject(left, frame_to({0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
                                    udp_packet({ip("10.1.0.2"), port, 0}, {ip("10.2.0.2"), port, 0}, marked(10))));
    net.world.run(1s);
    CHECK(net.on(right).clear == 0);
    CHECK(dropped(gateway, "in_not_local") == 3);
}

TEST_CASE("IPv6 through an IPv4 tunnel over a link of 576 bytes: only the ESP packet is fragmented")
{
    Gateways net;
    for (auto& [gateway, device] : {std::pair{net.g1, std::string("net1")}, std::pair{net.g2, std::string("net0")}}) {
        const auto listed = *gateway->address(0, "");
        for (std::size_t at = 0; at < listed.size();) {   // no IPv6 on so small a link (RFC 8200 §5)
            const auto line = listed.substr(at, listed.find('\n', at) - at);
            at += line.size() + 1;
            const auto address = line.substr(0, line.find(' '));
            if (line.ends_with(" dev " + device) && address.find(':') != std::string::npos)
                REQUIRE(gateway->address(2, address + " dev " + device).has_value());
        }
        REQUIRE(gateway->link(1, device + " mtu 576").has_value());
    }
    Tunnel t;
    t.v6 = true;
    t.outer_v6 = false;
    net.protect(t);
    const auto at_a = net.udp(*net.a, Family::v6, port), at_b = net.udp(*net.b, Family::v6, port);
    for (const std::size_t size : {1u, 400u, 1232u, 1400u, 4000u, 20000u}) {
        CAPTURE(size);
        REQUIRE(net.send(*net.a, at_a, net.address_b(true), port, marked(size)) == 0);
        CHECK(net.arrives(*net.b, at_b, marked(size)));
    }
    CHECK(net.transfer(*net.a, *net.b, net.address_b(true), 200'000, 60s));
    CHECK(net.on(middle).clear == 0);
    CHECK(net.on(middle).marked == 0);
    CHECK(net.on(middle).fragments > 100);
    CHECK(net.on(middle).largest <= 576);
    CHECK(net.on(left).largest <= 1500);
}
