// SPDX-License-Identifier: BSD-2-Clause
// The choke layer at work between two hosts: what waits for an SA, what follows a change of policy in mid-stream, what
// is never put together, never sent and never delivered.
#include "support/lab.hpp"

#include <cerrno>
#include <doctest/doctest.h>
#include <set>

using namespace latchkey;
using namespace latchkey::sim;
using namespace std::chrono_literals;

namespace {

constexpr std::uint16_t port = 4444;
constexpr unsigned host_b = 1;

const char* const gcm = "-E aes-gcm-16 0x000102030405060708090a0b0c0d0e0f10111213";

// A and B on segment 0.
struct Pair : Lab {
    Endpoints v4{ip("10.0.0.1"), ip("10.0.0.2")}, v6{ip("fd00::1"), ip("fd00::2")};
    Instance *a, *b;

    explicit Pair(std::uint64_t seed = 1) : Lab(seed)
    {
        a = &add({{"10.0.0.1/24", "fd00::1/64"}}, {0});
        b = &add({{"10.0.0.2/24", "fd00::2/64"}}, {0});
        world.run(2s);
        forget();
    }
    const Endpoints& ends(bool six) const { return six ? v6 : v4; }

    static std::string sas(const Endpoints& e, std::string_view mode = "transport", std::string_view more = "")
    {
        const std::string tail = " -m " + std::string(mode) + " -r 64 " + std::string(more) + " " + gcm + ";\n";
        return "add " + e.a.text() + " " + e.b.text() + " esp 0x1001" + tail + "add " + e.b.text() + " " + e.a.text() +
               " esp 0x1002" + tail;
    }
    static std::string rules(const Endpoints& e, bool for_a, std::string_view requests = "esp/transport//require")
    {
        const std::string tail = " ipsec " + std::string(requests) + ";\n";
        return "spdadd " + e.a.text() + " " + e.b.text() + " any -P " + (for_a ? "out" : "in") + tail + "spdadd " +
               e.b.text() + " " + e.a.text() + " any -P " + (for_a ? "in" : "out") + tail;
    }
    void protect(const Endpoints& e)
    {
        script(*a, sas(e) + rules(e, true));
        script(*b, sas(e) + rules(e, false));
    }
    void both(std::string_view text)
    {
        script(*a, text);
        script(*b, text);
    }
    std::vector<Buffer> esp_frames() const
    {
        std::vector<Buffer> out;
        for (const auto& seen : frames)
            if (look(seen.frame).esp)
                out.push_back(seen.frame);
        return out;
    }
};

// A key manager's ear: a key socket that is registered for ESP.
struct KeyManager {
    World& world;
    Instance& host;
    KeySocketId socket;

    KeyManager(World& w, Instance& h) : world(w), host(h), socket(*h.key_open())
    {
        Message m;
        m.type = SADB_REGISTER;
        m.satype = SADB_SATYPE_ESP;
        m.seq = m.pid = 1;
        REQUIRE(key_exchange(world, host, socket, m).size() == 1);
    }
    ~KeyManager() { host.key_close(socket); }

    std::vector<Buffer> heard(std::uint8_t type)
    {
        std::vector<Buffer> out;
        for (auto& record : key_receive(world, host, socket))
            if (peek_header(record)->type == type)
                out.push_back(std::move(record));
        return out;
    }
    void refuse(std::uint32_t acquire)
    {
        Message m;
        m.type = SADB_ACQUIRE;
        m.satype = SADB_SATYPE_ESP;
        m.error = ETIMEDOUT;
        m.seq = acquire;
        m.pid = 1;
        REQUIRE(host.key_send(socket, m.bytes(), world.now()).has_value());
    }
};

// left(1) - gateway - segment 0 - B: the gateway tunnels to B each fragment by itself, under either of two SAs.
struct Fragments : Lab {
    Instance *gateway, *b;
    bool v6;
    Address source, destination;
    Buffer datagram;  // UDP

    explicit Fragments(bool six)
        : v6(six), source(ip(six ? "fd01::2" : "10.1.0.2")), destination(ip(six ? "fd00::2" : "10.0.0.2")),
          datagram(udp_bytes({source, port, 0}, {destination, port, 0}, marked(2000)))
    {
        gateway = &add({{"10.1.0.1/24", "fd01::1/64"}, {"10.0.0.1/24", "fd00::1/64"}}, {1, 0}, {}, true);
        b = &add({{"10.0.0.2/24", "fd00::2/64"}}, {0},
                 {{prefix("10.1.0.0/24"), ip("10.0.0.1"), ""}, {prefix("fd01::/64"), ip("fd00::1"), ""}});
        for (const char* reqid : {"1", "2"})
            for (auto* host : {gateway, b})
                script(*host, std::string("add 10.0.0.1 10.0.0.2 esp 0x100") + reqid + " -m tunnel -u " + reqid + " " +
                                  gcm + ";");
        script(*b, std::string("spdadd ") + (six ? "fd01::/64 fd00::2" : "10.1.0.0/24 10.0.0.2") +
                       " any -P in ipsec esp/tunnel/10.0.0.1-10.0.0.2/require;");
        world.run(2s);
    }

    Buffer piece(bool first) const
    {
        constexpr std::size_t cut = 1000;
        IpPacket p{source, destination};
        p.payload =
            first ? Buffer(datagram.begin(), datagram.begin() + cut) : Buffer(datagram.begin() + cut, datagram.end());
        p.offset = first ? 0 : cut;
        p.more = first;
        return bytes_of(p);
    }
    void protected_piece(bool first, const std::string& reqid)
    {
        script(*gateway, std::string("spdflush; spdadd ") + (v6 ? "fd01::/64 fd00::2" : "10.1.0.0/24 10.0.0.2") +
                             " any -P out ipsec esp/tunnel/10.0.0.1-10.0.0.2/unique:" + reqid + ";");
        world.inject(1, frame_to(mac(0, 0), piece(first)));
        world.run(10ms);
    }
    void clear_piece(bool first)
    {
        world.inject(0, frame_to(mac(host_b), piece(first)));
        world.run(10ms);
    }
};

}  // namespace

TEST_CASE("a datagram is never put together from protected and forged fragments")
{
    for (const bool v6 : {false, true})
        for (const bool forged_first : {false, true})  // which piece is forged
            for (const bool forged_comes_first : {false, true}) {
                CAPTURE(v6);
                CAPTURE(forged_first);
                CAPTURE(forged_comes_first);
                Fragments net(v6);
                const auto at_b = net.udp(*net.b, v6 ? Family::v6 : Family::v4, port);
                if (forged_comes_first)
                    net.clear_piece(forged_first);
                net.protected_piece(!forged_first, "1");
                if (!forged_comes_first)
                    net.clear_piece(forged_first);
                CHECK(net.waiting(*net.b, at_b) == 0);
                net.protected_piece(forged_first, "2");  // protected, but by another SA
                CHECK(net.waiting(*net.b, at_b) == 0);
                net.protected_piece(forged_first, "1");  // at last the rest of it
                CHECK(net.waiting(*net.b, at_b) == 1);
                net.clear_piece(!forged_first);  // the clear ones are a datagram of their own, in clear
                net.clear_piece(forged_first);
                CHECK(net.waiting(*net.b, at_b) == 0);
                CHECK(dropped(*net.b, "in_clear") == 1);
                CHECK(counter(*net.b, "in_protected") == 3);
            }
}

TEST_CASE("datagrams wait for an SA and go out in order when it comes; nothing is sent in clear")
{
    for (const bool v6 : {false, true}) {
        CAPTURE(v6);
        Pair net;
        const auto& ends = net.ends(v6);
        net.script(*net.a, Pair::rules(ends, true));
        net.script(*net.b, Pair::sas(ends) + Pair::rules(ends, false));
        KeyManager manager(net.world, *net.a);
        const auto family = v6 ? Family::v6 : Family::v4;
        const auto at_a = net.udp(*net.a, family, port), at_b = net.udp(*net.b, family, port);
        for (std::size_t size = 100; size <= 104; ++size)
            CHECK(net.send(*net.a, at_a, ends.b, port, marked(size)) == 0);
        net.world.run(1s);
        CHECK(net.on(0).clear + net.on(0).esp == 0);
        CHECK(counter(*net.a, "held") == 5);
        CHECK(counter(*net.a, "out_held") == 5);
        const auto acquires = manager.heard(SADB_ACQUIRE);
        REQUIRE(acquires.size() == 1);  // one question for five datagrams
        const auto acquire = Message::parse(acquires[0]);
        REQUIRE(acquire.has_value());
        CHECK(acquire->source->endpoint.address == ends.a);
        CHECK(acquire->destination->endpoint.address == ends.b);

        net.script(*net.a, Pair::sas(ends));
        net.world.run(1s);
        for (std::size_t size = 100; size <= 104; ++size)
            CHECK(net.arrives(*net.b, at_b, marked(size), 0s));
        CHECK(net.on(0).clear == 0);
        CHECK(net.on(0).marked == 0);
        CHECK(net.on(0).esp == 5);
        CHECK(counter(*net.a, "held") == 0);
    }
}

TEST_CASE("a connection starts as soon as its SA is there, not when TCP tries again")
{
    Pair net;
    net.script(*net.a, Pair::rules(net.v4, true));
    net.script(*net.b, Pair::sas(net.v4) + Pair::rules(net.v4, false));
    const auto listener = net.tcp(*net.b, Family::v4), client = net.tcp(*net.a, Family::v4);
    REQUIRE(net.b->bind(listener, {Address::any(Family::v4), port, 0}).has_value());
    REQUIRE(net.b->listen(listener, 1).has_value());
    (void)net.a->connect(client, {net.v4.b, port, 0});
    net.world.run(500ms);
    net.script(*net.a, Pair::sas(net.v4));
    CHECK(net.world.run_until([&] { return (net.a->take_events(client) & socket_event::connected) != 0; }, 100ms));
}

TEST_CASE("what waits is bounded, in datagrams and in bytes")
{
    Pair net;
    net.script(*net.a, "spdadd 10.0.0.1 10.0.0.0/24 any -P out ipsec esp/transport//require;");
    const auto at_a = net.udp(*net.a, Family::v4, port);
    int sent = 0, error = 0;
    while ((error = net.send(*net.a, at_a, net.v4.b, port, marked(100))) == 0)
        ++sent;
    CHECK(sent == 64);
    CHECK(error == ENOBUFS);
    CHECK(dropped(*net.a, "out_hold_full") == 1);

    std::size_t bytes = 0;
    for (std::uint8_t last = 3; last < 250; ++last)  // each address waits for an SA of its own
        for (int i = 0; i < 4 && net.send(*net.a, at_a, Address::v4(10, 0, 0, last), port, marked(50000)) == 0; ++i)
            bytes += 50000;
    CHECK(bytes > 3'000'000);
    CHECK(bytes <= 4 * 1024 * 1024);
    CHECK(net.a->buffers_in_use() < 16 * 1024 * 1024);  // other traffic still finds room
    net.world.run(100s);
    CHECK(counter(*net.a, "held") == 0);
    CHECK(net.a->buffers_in_use() == 0);
    CHECK(net.on(0).clear == 0);
}

TEST_CASE("when too many ACQUIREs are pending, datagrams for yet another SA are dropped and not kept")
{
    Lab net;
    auto& a = net.add({{"10.0.0.1/8"}}, {0});
    net.script(a, "spdadd 10.0.0.1 10.0.0.0/8 any -P out ipsec esp/transport//require;");
    const auto s = net.udp(a, Family::v4, port);
    const unsigned limit = EngineLimits{}.max_acquires;
    for (unsigned i = 0; i < limit + 6; ++i)
        CHECK(net.send(a, s, Address::v4(10, 1, static_cast<std::uint8_t>(i >> 8), static_cast<std::uint8_t>(i)), port,
                       marked(10)) == 0);
    CHECK(counter(a, "held") == limit);
    CHECK(dropped(a, "out_no_sa") == 6);
    net.world.run(30s);
    CHECK(counter(a, "held") == 0);
    CHECK(a.buffers_in_use() == 0);
}

TEST_CASE("a key manager that refuses is not asked again for the same datagrams")
{
    Pair net;
    net.script(*net.a, Pair::rules(net.v4, true));
    KeyManager manager(net.world, *net.a);
    const auto at_a = net.udp(*net.a, Family::v4, port);
    for (int i = 0; i < 3; ++i)
        CHECK(net.send(*net.a, at_a, net.v4.b, port, marked(100)) == 0);
    const auto acquires = manager.heard(SADB_ACQUIRE);
    REQUIRE(acquires.size() == 1);
    manager.refuse(peek_header(acquires[0])->seq);
    net.world.run(1s);
    CHECK(dropped(*net.a, "out_no_sa") == 3);
    CHECK(counter(*net.a, "held") == 0);
    CHECK(manager.heard(SADB_ACQUIRE).empty());
    CHECK(net.send(*net.a, at_a, net.v4.b, port, marked(100)) == 0);  // a new one asks anew
    CHECK(manager.heard(SADB_ACQUIRE).size() == 1);
    net.world.run(25s);  // nobody answers
    CHECK(dropped(*net.a, "out_no_sa") == 4);
    CHECK(net.on(0).clear + net.on(0).esp == 0);
}

TEST_CASE("level use: in clear as long as there is no SA, and nobody is asked for one")
{
    Pair net;
    net.script(*net.a, Pair::rules(net.v4, true, "esp/transport//use"));
    net.script(*net.b, Pair::rules(net.v4, false, "esp/transport//use"));
    KeyManager manager(net.world, *net.a);
    const auto at_a = net.udp(*net.a, Family::v4, port), at_b = net.udp(*net.b, Family::v4, port);
    CHECK(net.send(*net.a, at_a, net.v4.b, port, marked(100)) == 0);
    CHECK(net.arrives(*net.b, at_b, marked(100)));
    CHECK(net.on(0).clear == 1);
    CHECK(manager.heard(SADB_ACQUIRE).empty());
    net.both(Pair::sas(net.v4));
    CHECK(net.send(*net.a, at_a, net.v4.b, port, marked(100)) == 0);
    CHECK(net.arrives(*net.b, at_b, marked(100)));
    CHECK(net.on(0).clear == 1);
    CHECK(net.on(0).esp == 1);
}

TEST_CASE("TCP segments are cut to fit when protection comes and goes in mid-connection, and when the link changes")
{
    for (const bool v6 : {false, true}) {
        CAPTURE(v6);
        Pair net;
        const auto& ends = net.ends(v6);
        std::set<int> steps;
        const auto at = [&](int step, std::size_t got, std::size_t from) {
            return got >= from && steps.insert(step).second;
        };
        const auto progress = [&](std::size_t got) {
            if (at(1, got, 1'000'000)) {
                CHECK(net.on(0).largest == 1500);
                CHECK(net.on(0).fragments == 0);
                net.protect(ends);
                net.forget();  // what is queued already, and what was in flight and is sent again, is cut smaller too
            } else if (at(2, got, 3'000'000)) {
                CHECK(net.on(0).esp > 1000);
                CHECK(net.on(0).clear == 0);
                CHECK(net.on(0).fragments == 0);
                CHECK(net.on(0).largest > 1490);
                REQUIRE(net.a->link(1, "net0 mtu 1280").has_value());
                net.forget();
            } else if (at(3, got, 5'000'000)) {
                CHECK(net.on(0).fragments == 0);
                CHECK(net.on(0).largest <= 1280);
                CHECK(net.on(0).largest > 1270);
                REQUIRE(net.a->link(1, "net0 mtu 1500").has_value());
                net.both("spdflush;");
                net.forget();
            } else if (at(4, got, 7'000'000)) {
                CHECK(net.on(0).esp == 0);
                CHECK(net.on(0).largest == 1500);
            }
        };
        CHECK(net.transfer(*net.a, *net.b, ends.b, 8'000'000, 120s, progress));
        CHECK(steps.size() == 4);
    }
}

TEST_CASE("a rule takes effect with the next packet, in both directions")
{
    Pair net;
    const auto at_a = net.udp(*net.a, Family::v4, port), at_b = net.udp(*net.b, Family::v4, port);
    const auto exchange = [&] {
        net.forget();
        const bool there =
            net.send(*net.a, at_a, net.v4.b, port, marked(50)) == 0 && net.arrives(*net.b, at_b, marked(50), 1s);
        const bool back =
            net.send(*net.b, at_b, net.v4.a, port, marked(60)) == 0 && net.arrives(*net.a, at_a, marked(60), 1s);
        return std::pair(there, back);
    };
    CHECK(exchange() == std::pair(true, true));
    CHECK(net.on(0).clear == 2);
    net.protect(net.v4);
    CHECK(exchange() == std::pair(true, true));
    CHECK(net.on(0).clear == 0);
    CHECK(net.on(0).esp == 2);
    net.script(*net.a, "spdflush;");  // A sends in clear again, B does not take it
    CHECK(exchange() == std::pair(false, true));
    CHECK(net.on(0).clear == 1);
    CHECK(net.on(0).esp == 1);
    net.script(*net.b, "spddelete 10.0.0.1 10.0.0.2 any -P in;");
    net.script(*net.b, "spddelete 10.0.0.2 10.0.0.1 any -P out; spdadd 10.0.0.2 10.0.0.1 any -P out none;");
    CHECK(exchange() == std::pair(true, true));
    CHECK(net.on(0).clear == 2);
}

TEST_CASE("a host reaches itself under any policy but discard, and nothing of it is on the wire")
{
    Pair net;
    const char* const everything = "spdadd 0.0.0.0/0 0.0.0.0/0 any -P out ipsec esp/transport//require;"
                                   "spdadd 0.0.0.0/0 0.0.0.0/0 any -P in ipsec esp/transport//require;"
                                   "spdadd ::/0 ::/0 any -P out ipsec esp/transport//require;"
                                   "spdadd ::/0 ::/0 any -P in ipsec esp/transport//require;";
    net.script(*net.a, everything);
    const auto v4 = net.udp(*net.a, Family::v4, port), v6 = net.udp(*net.a, Family::v6, port);
    for (const char* to : {"127.0.0.1", "10.0.0.1", "::1", "fd00::1"}) {
        CAPTURE(to);
        const auto s = ip(to).is_v6() ? v6 : v4;
        for (const std::size_t size : {10u, 3000u, 60000u}) {
            CHECK(net.send(*net.a, s, ip(to), port, marked(size)) == 0);
            CHECK(net.arrives(*net.a, s, marked(size)));
        }
        CHECK(net.transfer(*net.a, *net.a, ip(to), 100'000, 30s));
    }
    CHECK(net.on(0).clear + net.on(0).esp == 0);

    net.script(
        *net.a,
        "spdflush; spdadd 127.0.0.0/8 127.0.0.0/8 any -P out discard; spdadd fd00::1 fd00::1 any -P in discard;");
    CHECK(net.send(*net.a, v4, ip("127.0.0.1"), port, marked(10)) == EPERM);
    CHECK(net.send(*net.a, v6, ip("fd00::1"), port, marked(10)) == 0);
    CHECK(net.send(*net.a, v6, ip("::1"), port, marked(11)) == 0);
    CHECK(net.arrives(*net.a, v6, marked(11)));
    CHECK(net.waiting(*net.a, v4) + net.waiting(*net.a, v6) == 0);
    CHECK(dropped(*net.a, "out_discard") == 1);
    CHECK(dropped(*net.a, "in_discard") == 1);
}

TEST_CASE("a tunnel whose far end is this host is opened here, and what was in it is not sent in clear")
{
    Pair net;
    net.script(*net.a, std::string("add 10.0.0.1 10.0.0.1 esp 0x3001 -m tunnel ") + gcm +
                           "; spdadd 10.0.0.1 10.0.0.2 any -P out ipsec esp/tunnel/10.0.0.1-10.0.0.1/require;");
    const auto at_a = net.udp(*net.a, Family::v4, port);
    CHECK(net.send(*net.a, at_a, net.v4.b, port, marked(100)) == 0);
    net.world.run(1s);
    CHECK(counter(*net.a, "out_protected") == 1);
    CHECK(counter(*net.a, "in_protected") == 1);
    CHECK(dropped(*net.a, "in_not_local") == 1);
    CHECK(net.on(0).clear + net.on(0).esp == 0);
}

TEST_CASE("transport in a tunnel: both are applied and both are asked for")
{
    for (const bool v6 : {false, true}) {
        CAPTURE(v6);
        Pair net;
        const auto& ends = net.ends(v6);
        const std::string a = ends.a.text(), b = ends.b.text();
        const std::string tunnels = "add " + a + " " + b + " esp 0x2001 -m tunnel -r 64 " + gcm + "; add " + b + " " +
                                    a + " esp 0x2002 -m tunnel -r 64 " + gcm + ";";
        const auto bundle = [&](bool for_a) {
            return "spdadd " + a + " " + b + " any -P " + (for_a ? "out" : "in") +
                   " ipsec esp/transport//require esp/tunnel/" + a + "-" + b + "/require; spdadd " + b + " " + a +
                   " any -P " + (for_a ? "in" : "out") + " ipsec esp/transport//require esp/tunnel/" + b + "-" + a +
                   "/require;";
        };
        net.script(*net.a, Pair::sas(ends) + tunnels + bundle(true));
        net.script(*net.b, Pair::sas(ends) + tunnels + bundle(false));
        const auto family = v6 ? Family::v6 : Family::v4;
        const auto at_a = net.udp(*net.a, family, port), at_b = net.udp(*net.b, family, port);
        for (const std::size_t size : {0u, 100u, 1400u, 5000u, 60000u}) {
            CHECK(net.send(*net.a, at_a, ends.b, port, marked(size)) == 0);
            CHECK(net.arrives(*net.b, at_b, marked(size)));
        }
        CHECK(counter(*net.b, "in_protected") == 10);
        const auto esp =
            net.packets(0, [](const Packet& p) { return p.protocol == ip_proto::esp && p.fragment_offset == 0; });
        REQUIRE(!esp.empty());
        for (const auto& packet : esp)
            CHECK(wire::field<std::uint32_t>(packet, parse_packet(packet)->payload) == 0x2001);
        net.forget();
        CHECK(net.transfer(*net.a, *net.b, ends.b, 500'000, 30s));
        CHECK(net.on(0).fragments == 0);
        CHECK(net.on(0).clear == 0);

        // One of the two alone is not enough.
        net.script(*net.a, "spdflush;" + Pair::rules(ends, true));
        CHECK(net.send(*net.a, at_a, ends.b, port, marked(100)) == 0);
        net.world.run(1s);
        CHECK(dropped(*net.b, "in_wrong_protection") == 1);
        net.script(*net.a,
                   "spdflush; spdadd " + a + " " + b + " any -P out ipsec esp/tunnel/" + a + "-" + b + "/require;");
        CHECK(net.send(*net.a, at_a, ends.b, port, marked(100)) == 0);
        net.world.run(1s);
        CHECK(dropped(*net.b, "in_wrong_protection") == 2);
        CHECK(net.waiting(*net.b, at_b) == 0);
    }
}

TEST_CASE("a datagram waits for every SA of its bundle, and uses up no sequence number before")
{
    Pair net;
    const std::string tunnel = std::string("add 10.0.0.1 10.0.0.2 esp 0x2001 -m tunnel ") + gcm + ";";
    net.script(
        *net.a,
        "spdadd 10.0.0.1 10.0.0.2 any -P out ipsec esp/transport//require esp/tunnel/10.0.0.1-10.0.0.2/require;");
    net.script(*net.b, Pair::sas(net.v4) + tunnel);
    KeyManager manager(net.world, *net.a);
    const auto at_a = net.udp(*net.a, Family::v4, port), at_b = net.udp(*net.b, Family::v4, port);
    CHECK(net.send(*net.a, at_a, net.v4.b, port, marked(100)) == 0);
    CHECK(manager.heard(SADB_ACQUIRE).size() == 1);
    net.script(*net.a, Pair::sas(net.v4));
    net.world.run(1s);
    CHECK(counter(*net.a, "held") == 1);
    CHECK(manager.heard(SADB_ACQUIRE).size() == 1);
    net.script(*net.a, tunnel);
    CHECK(net.arrives(*net.b, at_b, marked(100)));
    CHECK(net.on(0).clear == 0);
    CHECK(dropped(*net.a, "out_no_sa") == 0);
}

TEST_CASE("discard: send fails with EPERM and nothing is sent; the default policy can be discard")
{
    Pair net;
    const auto at_a = net.udp(*net.a, Family::v4, port), at_b = net.udp(*net.b, Family::v4, port);
    const auto six_a = net.udp(*net.a, Family::v6, port), six_b = net.udp(*net.b, Family::v6, port);
    net.script(*net.a, "spdadd 10.0.0.1 10.0.0.2 udp -P out discard;");
    CHECK(net.send(*net.a, at_a, net.v4.b, port, marked(10)) == EPERM);
    net.script(*net.a, "spdflush;");
    REQUIRE(net.a->set_tunable("net.inet.ipsec.def_policy", "0").has_value());
    CHECK(net.send(*net.a, at_a, net.v4.b, port, marked(10)) == EPERM);
    CHECK(net.send(*net.b, at_b, net.v4.a, port, marked(10)) == 0);
    net.world.run(1s);
    CHECK(dropped(*net.a, "out_discard") == 2);
    CHECK(dropped(*net.a, "in_discard") == 1);
    CHECK(net.waiting(*net.a, at_a) == 0);
    CHECK(net.send(*net.a, six_a, net.v6.b, port, marked(10)) == 0);  // the other family has a tunable of its own
    CHECK(net.arrives(*net.b, six_b, marked(10)));
    REQUIRE(net.a->set_tunable("net.inet6.ipsec6.def_policy", "0").has_value());
    CHECK(net.send(*net.a, six_a, net.v6.b, port, marked(10)) == EPERM);
    net.script(*net.a, "spdadd 10.0.0.1 10.0.0.2 any -P out none;");
    CHECK(net.send(*net.a, at_a, net.v4.b, port, marked(10)) == 0);
    CHECK(net.arrives(*net.b, at_b, marked(10)));
}

TEST_CASE("strict: protection that no rule asked for is refused")
{
    for (const bool v6 : {false, true}) {
        CAPTURE(v6);
        Pair net;
        const auto& ends = net.ends(v6);
        net.script(*net.a, Pair::sas(ends) + Pair::rules(ends, true));
        net.script(*net.b, Pair::sas(ends));
        const auto family = v6 ? Family::v6 : Family::v4;
        const auto at_a = net.udp(*net.a, family, port), at_b = net.udp(*net.b, family, port);
        CHECK(net.send(*net.a, at_a, ends.b, port, marked(10)) == 0);
        CHECK(net.arrives(*net.b, at_b, marked(10)));
        REQUIRE(net.b->set_tunable(v6 ? "net.inet6.ipsec6.strict" : "net.inet.ipsec.strict", "1").has_value());
        CHECK(net.send(*net.a, at_a, ends.b, port, marked(10)) == 0);
        net.world.run(1s);
        CHECK(net.waiting(*net.b, at_b) == 0);
        CHECK(dropped(*net.b, "in_wrong_protection") == 1);
        net.script(*net.b, Pair::rules(ends, false));
        CHECK(net.send(*net.a, at_a, ends.b, port, marked(10)) == 0);
        CHECK(net.arrives(*net.b, at_b, marked(10)));
    }
}

TEST_CASE("address resolution and group membership work under rules that want everything protected")
{
    for (const bool v6 : {false, true}) {
        CAPTURE(v6);
        Lab net;
        auto& a = net.add({{"10.0.0.1/24", "fd00::1/64"}}, {0});
        auto& b = net.add({{"10.0.0.2/24", "fd00::2/64"}}, {0});
        const Endpoints ends{ip(v6 ? "fd00::1" : "10.0.0.1"), ip(v6 ? "fd00::2" : "10.0.0.2")};
        const std::string all = v6 ? "::/0 ::/0" : "0.0.0.0/0 0.0.0.0/0";
        for (auto* host : {&a, &b})  // before the first frame
            net.script(*host, Pair::sas(ends) + "spdadd " + all + " any -P out ipsec esp/transport//require; spdadd " +
                                  all + " any -P in ipsec esp/transport//require;");
        net.world.run(3s);
        const auto family = v6 ? Family::v6 : Family::v4;
        const auto at_a = net.udp(a, family, port), at_b = net.udp(b, family, port);
        CHECK(net.send(a, at_a, ends.b, port, marked(100)) == 0);
        CHECK(net.arrives(b, at_b, marked(100)));
        CHECK(net.on(0).clear == 0);
        CHECK(net.on(0).esp == 1);
        std::size_t link_control = 0, arp = 0;
        for (const auto& seen : net.frames) {
            link_control += look(seen.frame).link_control ? 1 : 0;
            arp += wire::field<std::uint16_t>(seen.frame, 12) == 0x0806 ? 1 : 0;
        }
        CHECK((v6 ? link_control : arp) >= 2);
        CHECK(icmp_messages(net, 0, Family::v6, 131).size() >= 2);  // MLD reports
        // Forged from afar (RFC 4861 §7.1: hop limit 255 or it comes from beyond the link), it is a packet like any
        // other.
        if (v6) {
            net.world.inject(0, frame_to(mac(1), bytes_of({ends.a, ends.b, ip_proto::icmpv6,
                                                           Buffer{135, 0, 0, 0, 0, 0, 0, 0}, 64})));
            net.world.run(1s);
            CHECK(dropped(b, "in_clear") == 1);
        }
    }
}

TEST_CASE("a recorded packet is not taken a second time, nor under another SPI")
{
    Pair net;
    net.protect(net.v4);
    const auto at_a = net.udp(*net.a, Family::v4, port), at_b = net.udp(*net.b, Family::v4, port);
    CHECK(net.send(*net.a, at_a, net.v4.b, port, marked(100)) == 0);
    CHECK(net.arrives(*net.b, at_b, marked(100)));
    auto recorded = net.esp_frames();
    REQUIRE(recorded.size() == 1);
    net.world.inject(0, recorded[0]);
    net.world.run(1s);
    CHECK(dropped(*net.b, "in_replay") == 1);
    wire::set_field<std::uint32_t>(recorded[0], 14 + 20, 0x77777777);
    net.world.inject(0, recorded[0]);
    net.world.run(1s);
    CHECK(dropped(*net.b, "in_unknown_spi") == 1);
    CHECK(net.waiting(*net.b, at_b) == 0);
}

TEST_CASE("when an SA's bytes are used up, traffic stops and key managers hear of it")
{
    Pair net;
    net.script(*net.a, Pair::sas(net.v4, "transport", "-bs 500 -bh 1000") + Pair::rules(net.v4, true));
    net.script(*net.b, Pair::sas(net.v4) + Pair::rules(net.v4, false));
    KeyManager manager(net.world, *net.a);
    const auto at_a = net.udp(*net.a, Family::v4, port), at_b = net.udp(*net.b, Family::v4, port);
    for (int i = 0; i < 20; ++i)
        CHECK(net.send(*net.a, at_a, net.v4.b, port, marked(92)) == 0);  // 100 with the UDP header
    net.world.run(1s);
    CHECK(net.waiting(*net.b, at_b) == 10);
    CHECK(net.on(0).clear == 0);
    const auto expired = manager.heard(SADB_EXPIRE);
    REQUIRE(expired.size() == 2);
    CHECK(Message::parse(expired[0])->soft.has_value());
    CHECK(Message::parse(expired[1])->hard.has_value());
    CHECK(Message::parse(expired[1])->sa->spi == 0x1001);
    CHECK(counter(*net.a, "held") == 10);
}

TEST_CASE("an ICMP error about a protected packet is protected or not sent")
{
    for (const bool v6 : {false, true}) {
        CAPTURE(v6);
        Pair net;
        const auto& ends = net.ends(v6);
        const auto rules = [&](bool for_a) {
            return "spdadd " + ends.a.text() + "[any] " + ends.b.text() + "[4444] udp -P " + (for_a ? "out" : "in") +
                   " ipsec esp/transport//require;";
        };
        net.script(*net.a, Pair::sas(ends) + rules(true));
        net.script(*net.b, Pair::sas(ends) + rules(false));
        const auto at_a = net.udp(*net.a, v6 ? Family::v6 : Family::v4, port);
        CHECK(net.send(*net.a, at_a, ends.b, port, marked(100)) == 0);  // nobody listens there
        net.world.run(1s);
        CHECK(counter(*net.b, "in_protected") == 1);
        CHECK(net.on(0).clear == 0);
        CHECK(net.on(0).marked == 0);
        CHECK(net.send(*net.a, at_a, ends.b, 4445, marked(100)) == 0);  // about a clear one it is
        net.world.run(1s);
        CHECK(icmp_messages(net, 0, v6 ? Family::v6 : Family::v4, v6 ? 1 : 3).size() == 1);
        net.script(*net.b, "spdadd " + ends.b.text() + " " + ends.a.text() + (v6 ? " icmp6" : " icmp") +
                               " -P out ipsec esp/transport//require;");
        net.forget();
        CHECK(net.send(*net.a, at_a, ends.b, port, marked(100)) == 0);
        net.world.run(1s);
        CHECK(net.on(0).clear == 0);
        CHECK(net.on(0).esp == 2);
    }
}
