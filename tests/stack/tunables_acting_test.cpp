// SPDX-License-Identifier: BSD-2-Clause
// Every tunable does what its help says: the table of demonstrations is checked against that of the tunables, so a new
// row without its effect does not compile.
#include "pfkey/tunables.hpp"

#include "support/lab.hpp"

#include <algorithm>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <set>

using namespace latchkey;
using namespace latchkey::sim;
using namespace std::chrono_literals;

namespace {

constexpr std::uint16_t port = 4444;
constexpr unsigned host_b = 1;

const std::string gcm = "-E aes-gcm-16 0x000102030405060708090a0b0c0d0e0f10111213";
const std::string cbc = "-E aes-cbc 0x000102030405060708090a0b0c0d0e0f "
                        "-A hmac-sha256 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const std::string sha256 = "-A hmac-sha256 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

std::string name_of(Tunable id)
{
    return std::string(tunables[static_cast<std::size_t>(id)].name);
}

// A and B; "from A to B" is what most rows are about.
struct Net : Lab {
    Instance *a, *b;
    bool v6;
    Tunable row;
    std::string ends;   // "A B" as setkey takes them
    Address at_a, at_b;
    SocketId from, to;
    std::vector<std::string> lines_a, lines_b;

    explicit Net(Tunable which, bool six = false)
        : v6(six), row(which), ends(six ? "fd00::1 fd00::2" : "10.0.0.1 10.0.0.2"),
          at_a(ip(six ? "fd00::1" : "10.0.0.1")), at_b(ip(six ? "fd00::2" : "10.0.0.2"))
    {
        a = &add({{"10.0.0.1/24", "fd00::1/64"}}, {0});
        b = &add({{"10.0.0.2/24", "fd00::2/64"}}, {0});
        a->on_log([this](std::string_view line) { lines_a.emplace_back(line); });
        b->on_log([this](std::string_view line) { lines_b.emplace_back(line); });
        from = udp(*a, six ? Family::v6 : Family::v4, port);
        to = udp(*b, six ? Family::v6 : Family::v4, port);
        world.run(2s);
        forget();
    }
    void set(std::int64_t value, bool at_sender = true, bool at_receiver = true)
    {
        for (auto* host : {at_sender ? a : nullptr, at_receiver ? b : nullptr})
            if (host != nullptr) {
                REQUIRE(host->set_tunable(name_of(row), std::to_string(value)).has_value());
                REQUIRE(host->tunable(row) == value);
            }
    }
    void both(const std::string& text)
    {
        script(*a, text);
        script(*b, text);
    }
    void out_rule(const std::string& requests) { script(*a, "spdadd " + ends + " any -P out ipsec " + requests + ";"); }
    std::string tunnel() const { return "tunnel/" + at_a.text() + "-" + at_b.text() + "/require"; }
    void protect(const std::string& mode = "transport", const std::string& keys = gcm,
                 const std::string& protocol = "esp")
    {
        both("add " + ends + " " + protocol + " 0x1001 -m " + mode + " -r 64 " + keys + ";");
        out_rule(protocol + "/" + (mode == "transport" ? "transport//require" : tunnel()));
    }
    // One datagram from A; did it come?
    bool passes(std::size_t size = 100)
    {
        forget();
        const bool sent = send(*a, from, at_b, port, marked(size)) == 0;
        world.run(100ms);
        return sent && waiting(*b, to) == 1;
    }
    // The IP packets of A's latest datagram.
    std::vector<Buffer> sent(std::uint8_t protocol)
    {
        return packets(0, [&](const Packet& p) { return p.protocol == protocol && p.destination == at_b; });
    }
    void inject(const Buffer& packet)
    {
        world.inject(0, frame_to(mac(host_b), packet));
        world.run(50ms);
    }
    bool said(const std::vector<std::string>& lines, std::string_view what) const
    {
        return std::ranges::any_of(lines, [&](const std::string& line) { return line.find(what) != line.npos; });
    }
};

struct Key {   // a key manager's socket on A
    Net& net;
    KeySocketId socket;
    explicit Key(Net& n) : net(n), socket(*n.a->key_open()) {}
    ~Key() { net.a->key_close(socket); }

    void enrol(std::uint8_t satype)
    {
        Message m;
        m.type = SADB_REGISTER;
        m.satype = satype;
        m.seq = m.pid = 1;
        REQUIRE(!key_exchange(net.world, *net.a, socket, m).empty());
    }
    std::vector<Buffer> heard(std::uint8_t type)
    {
        auto out = key_receive(net.world, *net.a, socket);
        std::erase_if(out, [&](const Buffer& record) { return peek_header(record)->type != type; });
        return out;
    }
    // 0: refused.
    std::uint32_t getspi(std::optional<SpiRangeExt> range = {})
    {
        Message m;
        m.type = SADB_GETSPI;
        m.satype = SADB_SATYPE_ESP;
        m.seq = m.pid = 1;
        m.source = AddressExt{0, 32, {net.at_b, 0, 0}};
        m.destination = AddressExt{0, 32, {net.at_a, 0, 0}};
        m.spi_range = range;
        const auto answers = key_exchange(net.world, *net.a, socket, m);
        REQUIRE(!answers.empty());
        const auto answer = Message::parse(answers[0]);
        REQUIRE(answer.has_value());
        return answer->error == 0 && answer->sa ? answer->sa->spi : 0;
    }
};

// ---- what a row does ------------------------------------------------------------------------------------------------

void preferred_oldsa(Tunable row)
{
    Net net(row);
    net.protect();
    net.both("add " + net.ends + " esp 0x2001 -m transport " + gcm + ";");
    for (const auto& [value, spi] : {std::pair(1, 0x1001u), {0, 0x2001u}}) {
        net.set(value);
        CHECK(net.passes());
        REQUIRE(net.sent(ip_proto::esp).size() == 1);
        CHECK(wire::field<std::uint32_t>(net.sent(ip_proto::esp)[0], 20) == spi);
    }
}

void spi_trycnt(Tunable row)
{
    Net net(row);
    Key key(net);
    const SpiRangeExt range{0x5000, 0x50ff};
    for (std::uint32_t i = 0; i < 255; ++i)   // as many attempts as SPIs: each free one is found
        REQUIRE(key.getspi(range) != 0);
    net.set(1);
    int given = 0;   // one attempt at one free SPI of 256
    for (int i = 0; i < 20; ++i)
        given += key.getspi(range) != 0 ? 1 : 0;
    CHECK(given <= 1);
    net.set(1000);
    if (given == 0)
        CHECK(key.getspi(range) != 0);
    CHECK(key.getspi(range) == 0);   // now it is full
}

void spi_limit(Tunable row)
{
    Net net(row);
    Key key(net);
    const bool lowest = row == Tunable::key_spi_minval;
    net.set(lowest ? 0x0fff'fff0 : 0x110);
    std::set<std::uint32_t> given;
    for (int i = 0; i < 16; ++i) {
        const auto spi = key.getspi();
        CHECK((lowest ? spi >= 0x0fff'fff0 : spi <= 0x110));
        given.insert(spi);
    }
    CHECK(given.size() == 16);
}

void larval_lifetime(Tunable row)
{
    for (const int seconds : {30, 5}) {
        Net net(row);
        net.set(seconds);
        Key key(net);
        const auto spi = key.getspi();
        const auto there = [&] { return counter(*net.a, "sas") == 1; };
        net.world.run(std::chrono::seconds(seconds) - 1s);
        CHECK(there());
        net.world.run(2s);
        CHECK(!there());
        CHECK(spi != 0);
    }
}

void blockacq_count(Tunable row)
{
    for (const int packets : {10, 3}) {
        Net net(row);
        net.set(packets);
        Key key(net);
        key.enrol(SADB_SATYPE_ESP);
        net.out_rule("esp/transport//require");
        for (int i = 0; i < 1 + packets; ++i)
            (void)net.passes();
        CHECK(key.heard(SADB_ACQUIRE).size() == 1);
        (void)net.passes();
        CHECK(key.heard(SADB_ACQUIRE).size() == 1);
    }
}

void blockacq_lifetime(Tunable row)
{
    for (const int seconds : {20, 4}) {
        Net net(row);
        net.set(seconds);
        net.out_rule("esp/transport//require");
        (void)net.passes();
        net.world.run(std::chrono::seconds(seconds) - 1s);
        CHECK(counter(*net.a, "held") == 1);
        net.world.run(2s);
        CHECK(counter(*net.a, "held") == 0);
        CHECK(dropped(*net.a, "out_no_sa") == 1);
    }
}

std::vector<Combination> proposals(Net& net, std::uint8_t satype)
{
    Key key(net);
    key.enrol(satype);
    (void)net.passes();
    const auto heard = key.heard(SADB_ACQUIRE);
    REQUIRE(heard.size() == 1);
    const auto message = Message::parse(heard[0]);
    REQUIRE((message && message->proposal));
    return message->proposal->combinations;
}

void shortest_key(Tunable row)
{
    const bool ah = row == Tunable::key_ah_keymin;
    std::vector<Combination> before, after;
    for (const int bits : {128, ah ? 250 : 192}) {
        Net net(row);
        net.set(bits);
        net.out_rule(ah ? "ah/transport//require" : "esp/transport//require");
        auto& into = bits == 128 ? before : after;
        into = proposals(net, ah ? SADB_SATYPE_AH : SADB_SATYPE_ESP);
        for (const auto& c : into) {
            const auto* algorithm =
                ah ? algorithm_by_id(AlgorithmKind::auth, c.auth) : algorithm_by_id(AlgorithmKind::cipher, c.encrypt);
            REQUIRE(algorithm != nullptr);
            const auto shortest = ah ? c.auth_min : c.encrypt_min;
            const unsigned longest = algorithm->key_max - algorithm->salt * 8u;
            CHECK(shortest - algorithm->salt * 8u >= (ah ? unsigned(bits) : std::min(unsigned(bits), longest)));
        }
    }
    CHECK(before != after);
}

void esp_auth(Tunable row)
{
    for (const int value : {0, 1}) {
        Net net(row);
        net.set(value);
        net.out_rule("esp/transport//require");
        const auto all = proposals(net, SADB_SATYPE_ESP);
        const auto bare = [](const Combination& c) {
            return c.auth == SADB_AALG_NONE &&
                   algorithm_by_id(AlgorithmKind::cipher, c.encrypt)->kind == AlgorithmKind::cipher;
        };
        CHECK(std::ranges::any_of(all, bare) == (value == 0));
        CHECK(std::ranges::any_of(all, [&](const Combination& c) { return !bare(c); }));
    }
}

void key_debug(Tunable row)
{
    Net net(row);
    const auto refused = [&] { return setkey(net.world, *net.a, "delete 10.0.0.1 10.0.0.2 esp 0x77;"); };
    CHECK(refused() != "");
    CHECK(net.lines_a.empty());
    net.set(1);
    CHECK(refused() != "");
    REQUIRE(net.lines_a.size() == 1);
    CHECK(net.said(net.lines_a, "DELETE refused: "));
    net.set(0);
    CHECK(refused() != "");
    CHECK(net.lines_a.size() == 1);
}

void kept_for_scripts(Tunable row)
{
    Net net(row);
    net.set(61);
    CHECK(net.passes());
}

void cache_entries(Tunable row)
{
    Net net(row);
    const auto hits = [&] {
        const auto before = counter(*net.a, "flow_hits");
        for (int i = 0; i < 5; ++i)
            CHECK(net.passes());
        return counter(*net.a, "flow_hits") - before;
    };
    CHECK(hits() >= 4);
    net.set(0);
    CHECK(hits() == 0);
    net.set(3);   // two
    CHECK(hits() >= 4);
    net.protect();
    net.set(0);
    CHECK(hits() == 0);
    CHECK(net.sent(ip_proto::esp).size() == 1);
}

void cache_threshold(Tunable row)
{
    Net net(row);
    net.protect();
    net.set(2);
    const auto hits = [&] {
        const auto before = counter(*net.a, "flow_hits");
        for (int i = 0; i < 5; ++i)
            CHECK(net.passes());
        return counter(*net.a, "flow_hits") - before;
    };
    CHECK(hits() == 0);
    net.script(*net.a, "spdadd 10.77.0.1 10.77.0.2 any -P out none;");
    CHECK(hits() >= 4);
}

template <bool v6> void def_policy(Tunable row)
{
    Net net(row, v6);
    CHECK(net.passes());
    net.set(0, true, false);
    CHECK(!net.passes());
    CHECK(dropped(*net.a, "out_discard") == 1);
    net.set(1, true, false);
    net.set(0, false, true);
    CHECK(!net.passes());
    CHECK(dropped(*net.b, "in_discard") == 1);
    net.script(*net.b, "spdadd " + net.ends + " any -P in none;");
    CHECK(net.passes());
    Net other(row, !v6);   // the other family is not touched
    other.set(0);
    CHECK(other.passes());
}

template <bool v6, bool ah, bool tunnel> void default_level(Tunable row)
{
    const std::string protocol = ah ? "ah/" : "esp/";
    for (const int level : {1, 2}) {   // use, require
        Net net(row, v6);
        const std::string path = tunnel ? "tunnel/" + net.at_a.text() + "-" + net.at_b.text() : "transport/";
        net.set(level);
        net.out_rule(protocol + path + "/default");   // no SA
        CHECK(net.passes() == (level == 1));
        CHECK(counter(*net.a, "held") == (level == 1 ? 0 : 1));
        net.script(*net.a, "spdflush;");
        net.script(*net.b, "spdadd " + net.ends + " any -P in ipsec " + protocol + path + "/default;");
        CHECK(net.passes() == (level == 1));
        CHECK(dropped(*net.b, "in_clear") == (level == 1 ? 0 : 1));
        // The other protocol, mode and family have their own.
        net.script(*net.b, "spdflush;");
        net.out_rule((ah ? "esp/" : "ah/") + path + "/default");
        CHECK(net.passes());
    }
}

// The AH packet of a datagram that was lost, changed on the way, and delivered.
bool changed_ah_passes(Net& net, std::size_t at, std::uint8_t bits)
{
    net.world.faults.loss = 1;
    (void)net.passes();
    net.world.faults.loss = 0;
    auto seen = net.sent(ip_proto::ah);
    REQUIRE(seen.size() == 1);
    seen[0][at] ^= bits;
    set_ipv4_checksum(MutableBytes(seen[0]).first(20));
    net.inject(seen[0]);
    return net.waiting(*net.b, net.to) == 1;
}

void ah_cleartos(Tunable row)
{
    Net net(row);
    net.protect("transport", sha256, "ah");
    CHECK(net.passes());
    CHECK(changed_ah_passes(net, 1, 0x10));
    net.set(0);
    CHECK(net.passes());
    CHECK(!changed_ah_passes(net, 1, 0x10));
    net.set(1, true, false);
    CHECK(net.passes());   // the TOS is 0 anyway
}

void ah_offsetmask(Tunable row)
{
    Net net(row);
    net.protect("transport", sha256, "ah");
    CHECK(net.passes());
    CHECK(changed_ah_passes(net, 6, 0x40));   // DF
    net.set(0x4000);
    CHECK(net.passes());
    CHECK(!changed_ah_passes(net, 6, 0x40));
    net.set(0x8000);
    CHECK(changed_ah_passes(net, 6, 0x40));
}

void dfbit(Tunable row)
{
    // A gateway's packets, so that the inner DF is known: A forwards for 10.8.0.2 (segment 1).
    for (const int value : {0, 1, 2})
        for (const bool inner : {false, true}) {
            Lab lab;
            auto& a = lab.add({{"10.0.0.1/24"}, {"10.8.0.1/24"}}, {0, 1}, {}, true);
            lab.add({{"10.0.0.2/24"}}, {0});
            REQUIRE(a.set_tunable(name_of(row), std::to_string(value)).has_value());
            lab.script(a, "add 10.0.0.1 10.0.0.2 esp 0x1001 -m tunnel " + gcm +
                              "; spdadd 10.8.0.0/24 10.0.0.2 any -P out ipsec esp/tunnel/10.0.0.1-10.0.0.2/require;");
            lab.world.run(1s);
            const Endpoint from{ip("10.8.0.2"), port, 0}, to{ip("10.0.0.2"), port, 0};
            lab.world.inject(1, frame_to(mac(0, 1), bytes_of({from.address, to.address, ip_proto::udp,
                                                              udp_bytes(from, to, marked(50)), 64, 0, inner})));
            lab.world.run(1s);
            const auto seen = lab.packets(0, [](const Packet& p) { return p.protocol == ip_proto::esp; });
            REQUIRE(seen.size() == 1);
            CHECK(parse_packet(seen[0])->dont_fragment == (value == 1 || (value == 2 && inner)));
        }
}

// Both directions of RFC 3168 §9: what A's tunnel shows of the inner codepoint, and what B makes of a mark on the way.
template <bool v6> void ecn(Tunable row)
{
    struct Expected {
        int value;
        std::uint8_t inner, outer;
        enum Marked { as_sent, congested, lost } marked;
    };
    for (const auto& e : {Expected{-1, 2, 2, Expected::as_sent},
                          {-1, 3, 3, Expected::as_sent},
                          {0, 2, 0, Expected::as_sent},
                          {0, 3, 0, Expected::as_sent},
                          {1, 2, 2, Expected::congested},
                          {1, 3, 2, Expected::congested},
                          {1, 0, 0, Expected::lost}}) {
        CAPTURE(e.value);
        CAPTURE(int{e.inner});
        Lab lab;
        const std::string near = v6 ? "fd08::/64" : "10.8.0.0/24", far = v6 ? "fd09::/64" : "10.9.0.0/24",
                          ga = v6 ? "fd00::1" : "10.0.0.1", gb = v6 ? "fd00::2" : "10.0.0.2", bits = v6 ? "/64" : "/24";
        auto& a =
            lab.add({{ga + bits}, {v6 ? "fd08::1/64" : "10.8.0.1/24"}}, {0, 1}, {{prefix(far), ip(gb), ""}}, true);
        auto& b = lab.add({{gb + bits}, {v6 ? "fd09::1/64" : "10.9.0.1/24"}}, {0, 2}, {}, true);
        lab.add({{v6 ? "fd09::2/64" : "10.9.0.2/24"}}, {2});
        for (auto* host : {&a, &b}) {
            REQUIRE(host->set_tunable(name_of(row), std::to_string(e.value)).has_value());
            lab.script(*host, "add " + ga + " " + gb + " esp 0x1001 -m tunnel " + gcm + ";");
        }
        lab.script(a, "spdadd " + near + " " + far + " any -P out ipsec esp/tunnel/" + ga + "-" + gb + "/require;");
        lab.world.run(2s);
        const Endpoint from{ip(v6 ? "fd08::2" : "10.8.0.2"), port, 0}, to{ip(v6 ? "fd09::2" : "10.9.0.2"), port, 0};
        const auto send = [&] {
            lab.forget();
            lab.world.inject(1, frame_to(mac(0, 1), bytes_of({from.address, to.address, ip_proto::udp,
                                                              udp_bytes(from, to, marked(50)), 64,
                                                              static_cast<std::uint8_t>(0x20 | e.inner)})));
            lab.world.run(2s);
        };
        const auto is_esp = [](const Packet& p) { return p.protocol == ip_proto::esp; };
        const auto is_udp = [](const Packet& p) { return p.protocol == ip_proto::udp; };
        send();
        auto outer = lab.packets(0, is_esp);
        REQUIRE(outer.size() == 1);
        CHECK(parse_packet(outer[0])->traffic_class == (0x20 | e.outer));
        const auto unmarked = lab.packets(2, is_udp);
        REQUIRE(unmarked.size() == 1);
        CHECK(parse_packet(unmarked[0])->traffic_class == (0x20 | e.inner));

        // The next one is marked "congestion experienced" by a router between the gateways.
        lab.world.faults.loss = 1;
        send();
        lab.world.faults.loss = 0;
        outer = lab.packets(0, is_esp);
        REQUIRE(outer.size() == 1);
        auto& packet = outer[0];
        if (v6) {
            packet[1] |= 0x30;
        } else {
            packet[1] |= 3;
            set_ipv4_checksum(MutableBytes(packet).first(20));
        }
        lab.forget();
        lab.world.inject(0, frame_to(mac(1, 0), packet));
        lab.world.run(2s);
        const auto inner = lab.packets(2, is_udp);
        REQUIRE(inner.size() == (e.marked == Expected::lost ? 0 : 1));
        if (!inner.empty())
            CHECK(parse_packet(inner[0])->traffic_class == (e.marked == Expected::congested ? 0x23 : 0x20 | e.inner));
    }
}

template <bool v6> void debug(Tunable row)
{
    Net net(row, v6);
    net.script(*net.b, "spdadd " + net.ends + " any -P in discard;");
    CHECK(!net.passes());
    CHECK(net.lines_b.empty());
    net.set(1);
    CHECK(!net.passes());
    REQUIRE(net.lines_b.size() == 1);
    const auto& line = net.lines_b[0];
    CHECK(line.find("in_discard") != line.npos);
    CHECK(line.find(Endpoint{net.at_a, port, 0}.text() + " > " + Endpoint{net.at_b, port, 0}.text()) != line.npos);
    // A flood is cut, and says so.
    for (int i = 0; i < 500; ++i)
        (void)net.send(*net.a, net.from, net.at_b, port, marked(10));
    net.world.run(5s);
    CHECK(net.lines_b.size() < 100);
    (void)net.passes();
    CHECK(net.said(net.lines_b, "left out"));
    const auto lines = net.lines_b.size();
    net.set(0);
    net.world.run(5s);
    CHECK(!net.passes());
    CHECK(net.lines_b.size() == lines);

    Net other(row, !v6);
    other.script(*other.b, "spdadd " + other.ends + " any -P in discard;");
    other.set(1);
    CHECK(!other.passes());
    CHECK(other.lines_b.empty());
}

template <bool v6> void randpad(Tunable row)
{
    for (const auto& keys : {gcm, cbc}) {
        Net net(row, v6);
        net.protect("transport", keys);
        const auto sizes = [&] {
            std::set<std::size_t> out;
            for (int i = 0; i < 60; ++i) {
                CHECK(net.passes(100));
                REQUIRE(net.sent(ip_proto::esp).size() == 1);
                out.insert(net.sent(ip_proto::esp)[0].size());
            }
            return out;
        };
        const auto plain = sizes();
        REQUIRE(plain.size() == 1);
        net.set(64);
        const auto padded = sizes();
        CHECK(padded.size() >= 3);
        CHECK(*padded.begin() >= *plain.begin());
        CHECK(*padded.rbegin() <= *plain.begin() + 64);
        net.forget();
        const auto& target = net.at_b;
        net.script(*net.b, "add " + target.text() + " " + net.at_a.text() + " esp 0x1002 -m transport " + keys + ";");
        CHECK(net.transfer(*net.a, *net.b, target, 100'000, 60s));   // and TCP leaves room for it
        CHECK(net.on(0).fragments == 0);
        CHECK(net.on(0).largest <= 1500);
        net.set(0);
        CHECK(sizes() == plain);
    }
}

template <bool v6> void enabled(Tunable row)
{
    Net net(row, v6);
    net.protect();
    net.script(*net.b, "spdadd " + net.ends + " any -P in ipsec esp/transport//require;");
    CHECK(net.passes());
    CHECK(net.sent(ip_proto::esp).size() == 1);
    net.set(0, true, false);
    CHECK(!net.passes());   // A sends in clear, B still checks
    CHECK(net.sent(ip_proto::udp).size() == 1);
    net.set(0, false, true);
    CHECK(net.passes());
    net.set(1, true, false);
    CHECK(!net.passes());   // and now B takes no ESP
    CHECK(dropped(*net.b, "in_disabled") == 1);
    net.script(*net.a, "spdflush; spdadd " + net.ends + " any -P out discard;");
    CHECK(!net.passes());
    net.set(0, true, false);
    CHECK(net.passes());
}

void used(Tunable row)
{
    Net net(row);
    CHECK(net.a->tunable(row) == 0);
    net.script(*net.a, "add 10.0.0.1 10.0.0.2 esp 9876 " + gcm + ";");   // an SA alone does not count
    CHECK(net.a->tunable(row) == 0);
    net.script(*net.a, "spdadd 10.0.0.1 10.0.0.2 any -P out ipsec esp/transport//use;");
    CHECK(net.a->tunable(row) == 1);
    CHECK(!net.a->set_tunable(name_of(row), "0").has_value());
    net.script(*net.a, "spdflush;");
    CHECK(net.a->tunable(row) == 0);

    for (const auto& [kind, value] : {std::pair(IPSEC_POLICY_BYPASS, 1), {IPSEC_POLICY_ENTRUST, 0}}) {   // on a socket
        const PolicyExt policy{static_cast<std::uint16_t>(kind), IPSEC_DIR_OUTBOUND, 0, 0, {}};
        Buffer option(policy_size(policy));
        wire::Writer w(option, wire::Order::host);
        emit_policy(w, policy);
        REQUIRE(net.a->set_option(net.from, IPPROTO_IP, IP_IPSEC_POLICY, option).has_value());
        CHECK(net.a->tunable(row) == value);
    }
}

void crypto_support(Tunable row)
{
    Net net(row);
    const auto all = std::ranges::count_if(algorithms, [](const Algorithm& a) { return a.offered(); });
    CHECK(net.a->tunable(row) >= 15);
    CHECK(net.a->tunable(row) <= all);
    CHECK(!net.a->set_tunable(name_of(row), "1").has_value());
}

void fixed(Tunable id)
{
    const auto& row = tunables[static_cast<std::size_t>(id)];
    CHECK(row.min == row.max);
    Net net(id);
    CHECK(net.a->set_tunable(row.name, std::to_string(row.standard)).has_value());
    CHECK(!net.a->set_tunable(row.name, std::to_string(row.standard + 1)).has_value());
    CHECK(!net.a->set_tunable(row.name, std::to_string(row.standard - 1)).has_value());
    CHECK(net.a->tunable(id) == row.standard);
}

void natt_cksum_policy(Tunable row)
{
    // A gateway in A's place protects a datagram whose checksum is that of an address which B was never told.
    const Endpoint told{ip("10.55.0.1"), port, 0}, other{ip("10.66.0.1"), port, 0}, b_end{ip("10.0.0.2"), port, 0};
    for (const int value : {0, 1}) {
        Lab lab;
        auto& gateway = lab.add({{"10.0.0.9/24"}, {"10.0.1.9/24"}}, {0, 1}, {}, true);
        auto& b = lab.add({{"10.0.0.2/24"}}, {0});
        REQUIRE(b.set_tunable(name_of(row), std::to_string(value)).has_value());
        lab.script(gateway, "add 10.0.0.1[4500] 10.0.0.2[4500] esp-udp 0x1001 -m transport " + gcm +
                                "; spdadd 10.0.0.1 10.0.0.2 any -P out ipsec esp/transport//require;");
        lab.script(b, "add 10.0.0.1[4500] 10.0.0.2[4500] esp-udp 10.55.0.1 0x1001 -m transport " + gcm + ";");
        const auto at_b = lab.udp(b, Family::v4, port);
        for (const auto& made_for : {told, other}) {
            const auto udp = udp_bytes(made_for, b_end, marked(60));
            lab.world.inject(1, frame_to(mac(0, 1), bytes_of({ip("10.0.0.1"), b_end.address, ip_proto::udp, udp})));
            lab.world.run(1s);
            CHECK(lab.waiting(b, at_b) == (made_for == told || value == 1 ? 1 : 0));
        }
        CHECK(counter(b, "in_protected") == 2);
    }
}

template <bool v6> void test_replay(Tunable row)
{
    Net net(row, v6);
    net.protect("transport", cbc);
    CHECK(net.passes());
    net.set(1);
    CHECK(!net.passes());
    CHECK(dropped(*net.b, "in_replay") == 1);
    net.set(0);
    CHECK(net.passes());
    // Not with a counter mode, whose key it would give away.
    Net counter_mode(row, v6);
    counter_mode.protect();
    counter_mode.set(1);
    CHECK(counter_mode.passes());
    CHECK(counter_mode.passes());
}

template <bool v6> void test_integrity(Tunable row)
{
    for (const bool ah : {false, true}) {
        Net net(row, v6);
        net.protect("transport", ah ? sha256 : gcm, ah ? "ah" : "esp");
        CHECK(net.passes());
        net.set(1);
        CHECK(!net.passes());
        CHECK(dropped(*net.b, "in_integrity") == 1);
        net.set(0);
        CHECK(net.passes());
    }
}

template <bool v6> void strict(Tunable row)
{
    Net net(row, v6);
    net.protect();
    CHECK(net.passes());   // KAME takes what nobody asked to protect
    net.set(1);
    CHECK(!net.passes());
    CHECK(dropped(*net.b, "in_wrong_protection") == 1);
    net.script(*net.b, "spdadd " + net.ends + " any -P in ipsec esp/transport//use;");
    CHECK(net.passes());
}

template <int which> void protocol_enable(Tunable row)
{
    static constexpr std::array protocols{"esp", "ah", "ipcomp"};
    for (const bool v6 : {false, true})
        for (int other = 0; other < 3; ++other) {
            Net net(row, v6);
            const auto* protocol = protocols[static_cast<std::size_t>(other)];
            const std::string keys = other == 0 ? gcm : other == 1 ? sha256 : "-C deflate";
            net.both("add " + net.ends + " " + protocol + " 0x1001 -m transport " + keys + ";");
            net.out_rule(std::string(protocol) + "/transport//require");
            CHECK(net.passes(1000));
            net.set(0, false, true);
            CHECK(net.passes(1000) == (other != which));
            CHECK(dropped(*net.b, "in_disabled") == (other == which ? 1 : 0));
        }
}

struct Demonstration {
    Tunable row;
    void (*show)(Tunable row);
};

constexpr Demonstration demonstrations[] = {
    {Tunable::key_preferred_oldsa, preferred_oldsa},
    {Tunable::key_spi_trycnt, spi_trycnt},
    {Tunable::key_spi_minval, spi_limit},
    {Tunable::key_spi_maxval, spi_limit},
    {Tunable::key_larval_lifetime, larval_lifetime},
    {Tunable::key_blockacq_count, blockacq_count},
    {Tunable::key_blockacq_lifetime, blockacq_lifetime},
    {Tunable::key_esp_keymin, shortest_key},
    {Tunable::key_esp_auth, esp_auth},
    {Tunable::key_ah_keymin, shortest_key},
    {Tunable::key_debug, key_debug},
    {Tunable::key_int_random, kept_for_scripts},
    {Tunable::spdcache_maxentries, cache_entries},
    {Tunable::spdcache_threshold, cache_threshold},
    {Tunable::v4_def_policy, def_policy<false>},
    {Tunable::v4_esp_trans_deflev, default_level<false, false, false>},
    {Tunable::v4_esp_net_deflev, default_level<false, false, true>},
    {Tunable::v4_ah_trans_deflev, default_level<false, true, false>},
    {Tunable::v4_ah_net_deflev, default_level<false, true, true>},
    {Tunable::v4_ah_cleartos, ah_cleartos},
    {Tunable::v4_ah_offsetmask, ah_offsetmask},
    {Tunable::v4_dfbit, dfbit},
    {Tunable::v4_ecn, ecn<false>},
    {Tunable::v4_debug, debug<false>},
    {Tunable::v4_esp_randpad, randpad<false>},
    {Tunable::v4_enabled, enabled<false>},
    {Tunable::v4_used, used},
    {Tunable::v4_filtertunnel, fixed},
    {Tunable::v4_check_policy_history, fixed},
    {Tunable::v4_natt_cksum_policy, natt_cksum_policy},
    {Tunable::v4_crypto_support, crypto_support},
    {Tunable::v4_async_crypto, fixed},
    {Tunable::v4_test_replay, test_replay<false>},
    {Tunable::v4_test_integrity, test_integrity<false>},
    {Tunable::v4_strict, strict<false>},
    {Tunable::esp_enable, protocol_enable<0>},
    {Tunable::ah_enable, protocol_enable<1>},
    {Tunable::ipcomp_enable, protocol_enable<2>},
    {Tunable::esp_ctr_compatibility, fixed},
    {Tunable::v6_def_policy, def_policy<true>},
    {Tunable::v6_esp_trans_deflev, default_level<true, false, false>},
    {Tunable::v6_esp_net_deflev, default_level<true, false, true>},
    {Tunable::v6_ah_trans_deflev, default_level<true, true, false>},
    {Tunable::v6_ah_net_deflev, default_level<true, true, true>},
    {Tunable::v6_ecn, ecn<true>},
    {Tunable::v6_debug, debug<true>},
    {Tunable::v6_esp_randpad, randpad<true>},
    {Tunable::v6_enabled, enabled<true>},
    {Tunable::v6_used, used},
    {Tunable::v6_filtertunnel, fixed},
    {Tunable::v6_test_replay, test_replay<true>},
    {Tunable::v6_test_integrity, test_integrity<true>},
    {Tunable::v6_strict, strict<true>},
};

consteval bool every_row_is_shown()
{
    if (std::size(demonstrations) != std::size(tunables))
        return false;
    for (std::size_t i = 0; i < std::size(demonstrations); ++i)
        if (demonstrations[i].row != tunables[i].id)
            return false;
    return true;
}
static_assert(every_row_is_shown(), "each row of tunables[] needs its demonstration, in the same order");

}   // namespace

TEST_CASE("every tunable does what its help says")
{
    for (const auto& demonstration : demonstrations) {
        const auto name = name_of(demonstration.row);
        CAPTURE(name);
        demonstration.show(demonstration.row);
    }
}

TEST_CASE("a value outside its range is refused and changes nothing")
{
    Net net(Tunable::v4_dfbit);
    for (const auto& row : tunables) {
        CAPTURE(row.name);
        const auto before = net.a->tunable(row.id);
        CHECK(!net.a->set_tunable(row.name, std::to_string(row.max + 1)).has_value());
        CHECK(!net.a->set_tunable(row.name, std::to_string(row.min - 1)).has_value());
        CHECK(!net.a->set_tunable(row.name, "1x").has_value());
        CHECK(net.a->tunable(row.id) == before);
    }
    CHECK(net.a->set_tunable("net.inet.nonsense", "1").error().number() == ENOENT);
}
