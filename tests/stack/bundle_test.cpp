// SPDX-License-Identifier: BSD-2-Clause
// AH, IPComp, ESP and bundles of them between two whole hosts: what policy asks for is on the wire, outermost first,
// and everything arrives; what was not asked for, or not by this peer, does not count.
#include "support/lab.hpp"

#include <doctest/doctest.h>
#include <map>

using namespace latchkey;
using namespace latchkey::sim;
using namespace std::chrono_literals;

namespace {

constexpr std::uint16_t port = 4444;
constexpr unsigned host_b = 1, host_c = 2;

const std::string gcm = "-E aes-gcm-16 0x000102030405060708090a0b0c0d0e0f10111213";
const std::string sha256 = "-A hmac-sha256 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const std::string cbc = "-E aes-cbc 0x000102030405060708090a0b0c0d0e0f " + sha256;
const std::string sha1 = "-A hmac-sha1 0x000102030405060708090a0b0c0d0e0f10111213";
const std::string chacha =
    "-E chacha20-poly1305 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223";
const std::string deflate = "-C deflate", agreed = "-C deflate -R";

struct Part {   // one request and its SAs
    std::string protocol, mode, algorithm;
    std::string more = "";
    std::string level = "require";
};

struct Case {
    const char* name;
    bool v6, outer_v6;
    std::vector<Part> parts;   // innermost first, as in a policy
    std::uint8_t on_wire;   // protocol of the outermost header
    bool hides = true;   // is the marker unreadable?
};

// clang-format off
const Case cases[] = {
    {"ah transport v4", false, false, {{"ah", "transport", sha256}}, ip_proto::ah, false},
    {"ah transport v6", true, true, {{"ah", "transport", sha1}}, ip_proto::ah, false},
    {"ah tunnel v4", false, false, {{"ah", "tunnel", sha256}}, ip_proto::ah, false},
    {"ah tunnel v6 in v4", true, false, {{"ah", "tunnel", sha256}}, ip_proto::ah, false},
    {"ah tunnel v4 in v6", false, true, {{"ah", "tunnel", sha1}}, ip_proto::ah, false},
    {"ah with 64-bit sequence numbers", false, false, {{"ah", "transport", sha256, "-f esn"}}, ip_proto::ah, false},
    {"esp chacha20 with 64-bit sequence numbers", true, true, {{"esp", "transport", chacha, "-f esn"}}, ip_proto::esp},
    {"esp aes-cbc with 64-bit sequence numbers", false, false, {{"esp", "tunnel", cbc, "-f esn"}}, ip_proto::esp},
    {"esp + ah transport v4", false, false, {{"esp", "transport", gcm}, {"ah", "transport", sha256}}, ip_proto::ah},
    {"esp + ah transport v6", true, true, {{"esp", "transport", gcm}, {"ah", "transport", sha256}}, ip_proto::ah},
    {"esp tunnel + ah transport", false, false, {{"esp", "tunnel", gcm}, {"ah", "transport", sha256}}, ip_proto::ah},
    {"esp transport + ah tunnel v6", true, true, {{"esp", "transport", gcm}, {"ah", "tunnel", sha256}}, ip_proto::ah},
    {"ipcomp transport, well-known", false, false, {{"ipcomp", "transport", deflate}}, ip_proto::ipcomp, false},
    {"ipcomp transport, agreed", true, true, {{"ipcomp", "transport", agreed}}, ip_proto::ipcomp, false},
    {"ipcomp tunnel", false, false, {{"ipcomp", "tunnel", deflate}}, ip_proto::ipcomp, false},
    {"ipcomp tunnel v4 in v6", false, true, {{"ipcomp", "tunnel", agreed}}, ip_proto::ipcomp, false},
    {"ipcomp + esp", false, false, {{"ipcomp", "transport", deflate}, {"esp", "transport", gcm}}, ip_proto::esp},
    {"ipcomp + esp + ah v6", true, true,
     {{"ipcomp", "transport", deflate}, {"esp", "transport", gcm}, {"ah", "transport", sha1}}, ip_proto::ah},
    {"ipcomp tunnel + esp transport", false, false,
     {{"ipcomp", "tunnel", deflate}, {"esp", "transport", gcm}}, ip_proto::esp},
    {"ipcomp tunnel + esp transport, v6 in v4", true, false,
     {{"ipcomp", "tunnel", agreed}, {"esp", "transport", chacha}}, ip_proto::esp},
    {"ipcomp transport + esp tunnel", false, true,
     {{"ipcomp", "transport", deflate}, {"esp", "tunnel", gcm}}, ip_proto::esp},
};
// clang-format on

struct Ends {
    std::string a, b;
};

// Two hosts, the same SPI for every part (an ESP and an AH SA may share one).
struct Pair : Lab {
    Ends v4{"10.0.0.1", "10.0.0.2"}, v6{"fd00::1", "fd00::2"};
    Instance *a, *b;
    const Case& c;

    explicit Pair(const Case& which, std::uint64_t seed = 1) : Lab(seed), c(which)
    {
        a = &add({{"10.0.0.1/24", "fd00::1/64"}}, {0});
        b = &add({{"10.0.0.2/24", "fd00::2/64"}}, {0});
        for (auto* host : {a, b})
            script(*host, sas() + rule(true, host == a) + rule(false, host == a));
        world.run(2s);
        forget();
    }
    const Ends& inner() const { return c.v6 ? v6 : v4; }
    const Ends& outer() const { return c.outer_v6 ? v6 : v4; }
    Address at_b() const { return ip(inner().b); }
    Family family() const { return c.v6 ? Family::v6 : Family::v4; }

    std::string sas() const
    {
        std::string out;
        const Ends* ends = &inner();
        for (const auto& part : c.parts) {
            if (part.mode == "tunnel")
                ends = &outer();
            const auto sa = [&](const std::string& from, const std::string& to, const char* spi) {
                out += "add " + from + " " + to + " " + part.protocol + " " + spi + " -m " + part.mode +
                       (part.protocol == "ipcomp" ? "" : " -r 64") + " " + part.more + " " + part.algorithm + ";\n";
            };
            sa(ends->a, ends->b, "0x1001");
            sa(ends->b, ends->a, "0x1002");
        }
        return out;
    }
    std::string rule(bool a_to_b, bool at_a) const
    {
        const auto& e = inner();
        std::string out = "spdadd " + (a_to_b ? e.a + " " + e.b : e.b + " " + e.a) + " any -P " +
                          (a_to_b == at_a ? "out" : "in") + " ipsec";
        for (const auto& part : c.parts)
            out += " " + part.protocol + "/" + part.mode + "/" +
                   (part.mode == "transport" ? ""
                    : a_to_b                 ? outer().a + "-" + outer().b
                                             : outer().b + "-" + outer().a) +
                   "/" + part.level;
        return out + ";\n";
    }
    // Outermost protocols since the last forget().
    std::map<std::uint8_t, std::size_t> seen() const
    {
        std::map<std::uint8_t, std::size_t> out;
        for (const auto& packet : packets(0, [](const Packet& p) {
                 return p.protocol != ip_proto::icmpv6 || !p.flow.has_ports || p.flow.source_port < 130;
             }))
            ++out[parse_packet(packet)->protocol];
        return out;
    }
};

Buffer noise(std::size_t size)
{
    Buffer out(size);
    std::uint64_t state = size;
    for (auto& byte : out)
        byte = static_cast<std::uint8_t>(mix(++state));
    return out;
}

}   // namespace

TEST_CASE("every transform and bundle: ping, UDP of every size, TCP both ways")
{
    for (const auto& c : cases) {
        CAPTURE(c.name);
        Pair net(c);
        const bool compresses = c.parts[0].protocol == "ipcomp";
        const auto from = net.udp(*net.a, net.family(), port), to = net.udp(*net.b, net.family(), port);
        for (const std::size_t size : {2000u, 200u})
            CHECK(net.ping(*net.a, net.at_b(), size));
        const auto seen = net.seen();
        CHECK(seen.size() == 1);
        CHECK(seen.contains(c.on_wire));
        for (const std::size_t size :
             {0u, 1u, 7u, 40u, 89u, 90u, 500u, 1300u, 1372u, 1400u, 1452u, 1472u, 4000u, 30000u}) {
            CAPTURE(size);
            for (const auto& data : {marked(size), noise(size)}) {
                CHECK(net.send(*net.a, from, net.at_b(), port, data) == 0);
                CHECK(net.arrives(*net.b, to, data));
            }
        }
        if (!compresses)
            CHECK(net.seen().size() == 1);
        net.forget();
        CHECK(net.transfer(*net.a, *net.b, net.at_b(), 200'000, 60s));
        CHECK(net.transfer(*net.b, *net.a, ip(net.inner().a), 200'000, 60s));
        CHECK(net.on(0).fragments == 0);
        CHECK(net.on(0).largest <= 1500);
        if (c.hides)
            CHECK(net.on(0).marked == 0);
        for (auto* host : {net.a, net.b})
            for (const auto& row : drops)
                if (row.id != Drop::none)
                    CHECK_MESSAGE(dropped(*host, row.name) == 0, row.name);
    }
}

TEST_CASE("IPComp leaves alone what it cannot make smaller, and policy accepts that")
{
    for (const auto& c : cases) {
        if (c.parts[0].protocol != "ipcomp")
            continue;
        CAPTURE(c.name);
        Pair net(c);
        const bool tunnel = c.parts[0].mode == "tunnel", alone = c.parts.size() == 1;
        const std::uint8_t plain = !alone   ? c.on_wire
                                   : tunnel ? (c.v6 ? ip_proto::ipv6 : ip_proto::ipv4)
                                            : ip_proto::udp;
        const auto from = net.udp(*net.a, net.family(), port), to = net.udp(*net.b, net.family(), port);
        for (const auto& data : {marked(20), noise(800)}) {   // too small, and random
            net.forget();
            CHECK(net.send(*net.a, from, net.at_b(), port, data) == 0);
            CHECK(net.arrives(*net.b, to, data));
            const auto seen = net.seen();
            CHECK(seen.size() == 1);
            CHECK(seen.contains(plain));
        }
        net.forget();
        CHECK(net.send(*net.a, from, net.at_b(), port, marked(1400)) == 0);
        CHECK(net.arrives(*net.b, to, marked(1400)));
        CHECK(net.seen().contains(c.on_wire));
        CHECK(net.on(0).largest < 300);
    }
}

TEST_CASE("the CPI on the wire: the algorithm's number, or the SPI that was agreed on")
{
    for (const bool raw : {false, true}) {
        const Case c{"", false, false, {{"ipcomp", "transport", raw ? agreed : deflate}}, ip_proto::ipcomp};
        Pair net(c);
        CHECK(net.ping(*net.a, net.at_b(), 500));
        const auto seen = net.packets(0, [](const Packet& p) { return p.protocol == ip_proto::ipcomp; });
        REQUIRE(!seen.empty());
        CHECK(wire::field<std::uint8_t>(seen[0], 20) == ip_proto::icmp);
        CHECK(wire::field<std::uint8_t>(seen[0], 21) == 0);
        CHECK(wire::field<std::uint16_t>(seen[0], 22) == (raw ? 0x1001 : SADB_X_CALG_DEFLATE));

        auto strange = seen[0];   // no SA has this one
        wire::set_field<std::uint16_t>(strange, 22, 0x1777);
        net.world.inject(0, frame_to(mac(host_b), strange));
        auto lzs = seen[0];
        wire::set_field<std::uint16_t>(lzs, 22, SADB_X_CALG_LZS);
        net.world.inject(0, frame_to(mac(host_b), lzs));
        net.world.run(50ms);
        CHECK(dropped(*net.b, "in_unknown_spi") == 2);
    }
}

TEST_CASE("IP in IP is taken off between the ends of an IPComp tunnel, and only there")
{
    const Case c{"", false, false, {{"ipcomp", "tunnel", deflate}}, ip_proto::ipcomp};
    Pair net(c);
    const auto to = net.udp(*net.b, Family::v4, port);
    const auto inner = udp_packet({ip("10.0.0.1"), port, 0}, {ip("10.0.0.2"), port, 0}, marked(10));
    for (const bool right : {false, true}) {
        net.world.inject(0, frame_to(mac(host_b), bytes_of({ip(right ? "10.0.0.1" : "10.0.0.7"), ip("10.0.0.2"),
                                                            ip_proto::ipv4, inner})));
        net.world.run(50ms);
        CHECK(net.waiting(*net.b, to) == (right ? 1 : 0));
    }
}

TEST_CASE("an AH tunnel meets a policy of level require or use; nothing else does")
{
    // The first form has to be in the packet's past, not in its present header.
    for (const char* level : {"require", "use", "unique:7"}) {
        CAPTURE(level);
        const Case c{"", false, false, {{"ah", "tunnel", sha256, "-u 7", level}}, ip_proto::ah, false};
        Pair net(c);
        CHECK(net.ping(*net.a, net.at_b(), 100));
        CHECK(dropped(*net.b, "in_wrong_protection") == 0);
    }
    const Case c{"", false, false, {{"ah", "tunnel", sha256}}, ip_proto::ah, false};
    Pair net(c);
    net.script(*net.a, "spdflush;");
    const auto from = net.udp(*net.a, Family::v4, port), to = net.udp(*net.b, Family::v4, port);
    CHECK(net.send(*net.a, from, net.at_b(), port, marked(10)) == 0);
    CHECK(!net.arrives(*net.b, to, marked(10), 1s));
    CHECK(dropped(*net.b, "in_clear") == 1);
}

TEST_CASE("AH covers what does not change on the way, and nothing else")
{
    const Case c{"", false, false, {{"ah", "transport", sha256}}, ip_proto::ah, false};
    struct Change {
        const char* name;
        std::size_t at;
        bool harmless;
    };
    for (const auto& change : {Change{"TOS", 1, true}, {"id", 5, false}, {"TTL", 8, true}, {"payload", 70, false}}) {
        CAPTURE(change.name);
        Pair net(c);
        const auto from = net.udp(*net.a, Family::v4, port), to = net.udp(*net.b, Family::v4, port);
        CHECK(net.ping(*net.a, net.at_b(), 10));
        net.forget();
        net.world.faults.loss = 1;   // from here on only what is injected arrives
        CHECK(net.send(*net.a, from, net.at_b(), port, marked(30)) == 0);
        net.world.run(50ms);
        auto seen = net.packets(0, [](const Packet& p) { return p.protocol == ip_proto::ah; });
        REQUIRE(seen.size() == 1);
        auto& packet = seen[0];
        packet[change.at] ^= 4;
        set_ipv4_checksum(MutableBytes(packet).first(20));
        net.world.inject(0, frame_to(mac(host_b), packet));
        net.world.run(50ms);
        CHECK(net.waiting(*net.b, to) == (change.harmless ? 1 : 0));
        CHECK(dropped(*net.b, "in_integrity") == (change.harmless ? 0 : 1));
    }
}

TEST_CASE("loss, duplicates and reordering: a bundle delivers what it should and nothing twice")
{
    for (const auto& c : {cases[8], cases[17]}) {
        CAPTURE(c.name);
        Pair net(c, 5);
        net.world.faults.loss = 0.02;
        net.world.faults.duplicate = 0.05;
        net.world.faults.reorder = 0.05;
        CHECK(net.transfer(*net.a, *net.b, net.at_b(), 200'000, 3600s));
        CHECK(net.on(0).marked == 0);
        CHECK(dropped(*net.b, "in_replay") > 0);
    }
}

TEST_CASE("another host's SA does not speak for the two ends of a policy")
{
    // C has a transport and a tunnel SA with B and sends a packet of A's address inside both.
    Lab net;
    auto& a = net.add({{"10.0.0.1/24"}}, {0});
    auto& b = net.add({{"10.0.0.2/24"}}, {0});
    auto& c = net.add({{"10.0.0.3/24"}, {"10.3.0.1/24"}}, {0, 1}, {}, true);
    const std::string sas = "add 10.0.0.3 10.0.0.2 esp 0x3001 -m transport " + gcm + ";" +
                            "add 10.0.0.3 10.0.0.2 esp 0x3002 -m tunnel " + gcm + ";";
    const std::string own = "add 10.0.0.1 10.0.0.2 esp 0x1001 -m transport " + gcm + ";";
    const std::string rule = "spdadd 10.0.0.1 10.0.0.2 any -P ";
    net.script(b, sas + own + rule + "in ipsec esp/transport//require;");
    net.script(a, own + rule + "out ipsec esp/transport//require;");
    net.script(c, sas + rule + "out ipsec esp/tunnel/10.0.0.3-10.0.0.2/require esp/transport//require;");
    const auto from = net.udp(a, Family::v4, port), to = net.udp(b, Family::v4, port);
    CHECK(net.send(a, from, ip("10.0.0.2"), port, marked(20)) == 0);
    CHECK(net.arrives(b, to, marked(20)));
    const auto forged = udp_packet({ip("10.0.0.1"), port, 0}, {ip("10.0.0.2"), port, 0}, marked(30));
    net.world.inject(1, frame_to(mac(host_c, 1), forged));
    net.world.run(1s);
    CHECK(counter(b, "in_protected") == 3);   // one of A, two around the forged one
    CHECK(dropped(b, "in_wrong_protection") == 1);
    CHECK(net.waiting(b, to) == 0);
}
