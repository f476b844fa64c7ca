// SPDX-License-Identifier: BSD-2-Clause
// ESP in UDP: its bytes, and two hosts with a translating router between them.
#include "stack/natt.hpp"

#include "support/napt.hpp"

#include <doctest/doctest.h>

using namespace latchkey;
using namespace latchkey::sim;
using namespace std::chrono_literals;

namespace {

constexpr std::uint16_t port = 4444, natt_port = 4500, outside_port = 41000;
constexpr std::uint8_t esp_in_udp = 2;   // <linux/udp.h>
constexpr unsigned outside = 0, inside = 1;   // segments
constexpr unsigned host_a = 0, host_b = 1;

const char* const gcm = "-E aes-gcm-16 0x000102030405060708090a0b0c0d0e0f10111213";
const char* const cbc =
    "-E aes-cbc 0x000102030405060708090a0b0c0d0e0f -A hmac-sha1 0x000102030405060708090a0b0c0d0e0f10111213";

// A (10.1.0.2) - inside - router (10.1.0.1, 192.0.2.9) - outside - B (192.0.2.2)
struct Net : Lab {
    Instance *a, *b;
    Napt nat;
    Address at_b = ip("192.0.2.2");
    Address at_a;   // as B knows A: in a tunnel by its own address

    explicit Net(bool tunnel, const char* algorithm = gcm, std::string_view original = "")
        : a(&add({{"10.1.0.2/24"}}, {inside}, {via("0.0.0.0/0", "10.1.0.1")})),
          b(&add({{"192.0.2.2/24"}}, {outside}, {via("0.0.0.0/0", "192.0.2.9")})),
          nat(*this, {inside, ip("10.1.0.1")}, {outside, ip("192.0.2.9")}), at_a(ip(tunnel ? "10.1.0.2" : "192.0.2.9"))
    {
        nat.learn(ip("10.1.0.2"), mac(host_a));
        nat.learn(ip("192.0.2.2"), mac(host_b));
        nat.forward_port(outside_port, {ip("10.1.0.2"), natt_port, 0});
        script(*a, sas("10.1.0.2[4500]", tunnel, algorithm, "") + rules(tunnel, true));
        script(*b, sas("192.0.2.9[" + std::to_string(outside_port) + "]", tunnel, algorithm, original) +
                       rules(tunnel, false));
        world.run(2s);
        forget();
    }
    static std::string sas(const std::string& peer, bool tunnel, std::string_view algorithm, std::string_view original)
    {
        const std::string kind = " esp-udp " + std::string(original) + " ";
        const std::string tail =
            std::string(tunnel ? " -m tunnel" : " -m transport") + " -r 64 " + std::string(algorithm) + ";\n";
        return "add " + peer + " 192.0.2.2[4500]" + kind + "0x1001" + tail + "add 192.0.2.2[4500] " + peer + kind +
               "0x1002" + tail;
    }
    std::string rules(bool tunnel, bool for_a) const
    {
        const std::string mine = for_a ? "10.1.0.2" : "192.0.2.9";
        const std::string peer = tunnel ? "10.1.0.2" : mine, far = at_b.text();
        const auto rule = [&](bool a_to_b) {
            const std::string path = !tunnel ? "" : a_to_b ? mine + "-192.0.2.2" : "192.0.2.2-" + mine;
            return "spdadd " + (a_to_b ? peer + " " + far : far + " " + peer) + " any -P " +
                   (a_to_b == for_a ? "out" : "in") + " ipsec esp/" + (tunnel ? "tunnel/" : "transport/") + path +
                   "/require;\n";
        };
        return rule(true) + rule(false);
    }
    // Both ways.
    bool udp_passes(SocketId from, SocketId to, std::size_t size)
    {
        return send(*a, from, at_b, port, marked(size)) == 0 && arrives(*b, to, marked(size)) &&
               send(*b, to, sender.address, sender.port, marked(size)) == 0 && arrives(*a, from, marked(size));
    }
    std::vector<Buffer> encapsulated(unsigned segment) const
    {
        return packets(segment, [](const Packet& p) { return p.protocol == ip_proto::udp; });
    }
};

struct Listener {
    World& world;
    Instance& host;
    KeySocketId socket;

    Listener(World& w, Instance& h) : world(w), host(h), socket(*h.key_open())
    {
        Message m;
        m.type = SADB_REGISTER;
        m.satype = SADB_SATYPE_ESP;
        m.seq = m.pid = 1;
        REQUIRE(!key_exchange(world, host, socket, m).empty());
    }
    ~Listener() { host.key_close(socket); }
    std::vector<Buffer> heard(std::uint8_t type)
    {
        std::vector<Buffer> out;
        for (auto& record : key_receive(world, host, socket))
            if (peek_header(record)->type == type)
                out.push_back(std::move(record));
        return out;
    }
    // UPDATE with other ports, as a key manager does it after X_NAT_T_NEW_MAPPING.
    void update(std::uint32_t spi, const Endpoint& source, const Endpoint& destination)
    {
        Message m;
        m.type = SADB_UPDATE;
        m.satype = SADB_SATYPE_ESP;
        m.seq = 2;
        m.pid = 1;
        m.sa = SaExt{spi, 64, SADB_SASTATE_MATURE, 0, SADB_X_EALG_AES_GCM_ICV16, 0};
        m.source = AddressExt{0, 32, {source.address, 0, 0}};
        m.destination = AddressExt{0, 32, {destination.address, 0, 0}};
        m.natt_type = esp_in_udp;
        m.natt_source_port = source.port;
        m.natt_destination_port = destination.port;
        const auto answers = key_exchange(world, host, socket, m);
        REQUIRE(!answers.empty());
        CHECK(peek_header(answers[0])->error == 0);
    }
};

Buffer bytes(std::initializer_list<unsigned> values)
{
    Buffer out;
    for (const auto value : values)
        out.push_back(static_cast<std::uint8_t>(value));
    return out;
}

}   // namespace

TEST_CASE("what a datagram to an encapsulation port is")
{
    const auto kind = [](const Buffer& payload) {
        Buffer udp(natt::udp_header);
        udp.insert(udp.end(), payload.begin(), payload.end());
        return natt::kind_of(udp);
    };
    CHECK(kind({}) == natt::Kind::other);
    CHECK(kind(bytes({0xff})) == natt::Kind::keepalive);
    CHECK(kind(bytes({0xff, 0xff})) == natt::Kind::esp);   // a keepalive is one byte (RFC 3948 §2.3)
    CHECK(kind(bytes({0})) == natt::Kind::other);
    CHECK(kind(bytes({0, 0, 0, 0, 1, 2, 3, 4})) == natt::Kind::other);   // §2.2: the non-ESP marker
    CHECK(kind(bytes({0, 0, 0, 1, 0, 0, 0, 1})) == natt::Kind::esp);
    CHECK(kind(bytes({1, 0, 0, 0})) == natt::Kind::esp);
}

TEST_CASE("a checksum that a NAT has made wrong is corrected with the original addresses, or made anew")
{
    const Endpoint before{ip("10.1.0.2"), 1000, 0}, server{ip("192.0.2.2"), 2000, 0};
    const auto translated = [&](bool corrupt) {   // the source as the NAT shows it, the checksum as it was made before
        auto packet =
            bytes_of({ip("192.0.2.9"), server.address, ip_proto::udp, udp_bytes(before, server, marked(101))});
        if (corrupt)
            packet.back() ^= 1;
        return packet;
    };
    const auto right = [](const Buffer& packet) {
        return upper_checksum(Bytes(packet).subspan(20), ip("192.0.2.9"), ip("192.0.2.2"), ip_proto::udp) == 0;
    };
    const auto repaired = [](Buffer packet, const NatTraversal& natt, bool trust) {
        natt::repair_checksum(packet, natt, trust);
        return packet;
    };
    NatTraversal unknown, known, as_responder, wrong;
    known.original = ip("10.1.0.2");
    as_responder.original_remote = ip("10.1.0.2");
    wrong.original = ip("10.77.0.1");
    CHECK(!right(translated(false)));
    CHECK(right(repaired(translated(false), unknown, false)));
    CHECK(right(repaired(translated(false), known, false)));
    CHECK(right(repaired(translated(false), as_responder, false)));
    CHECK(!right(repaired(translated(true), known, false)));   // broken before it was protected
    CHECK(right(repaired(translated(true), known, true)));
    CHECK(!right(repaired(translated(false), wrong, false)));
    CHECK(right(repaired(translated(false), wrong, true)));

    auto without = translated(false);   // RFC 768: sent without a checksum, stays so
    wire::set_field<std::uint16_t>(without, 26, 0);
    CHECK(repaired(without, unknown, false) == without);
    auto icmp = bytes_of({ip("192.0.2.9"), server.address, ip_proto::icmp, marked(40)});   // covers no addresses
    CHECK(repaired(icmp, unknown, false) == icmp);
    for (std::size_t size = 0; size < 20; ++size) {   // runts of TCP
        auto runt = bytes_of({ip("192.0.2.9"), server.address, ip_proto::tcp, marked(size)});
        (void)repaired(runt, unknown, true);
    }
}

TEST_CASE("transport and tunnel through a NAPT: ping, UDP and TCP, both ways")
{
    for (const bool tunnel : {false, true})
        for (const char* algorithm : {gcm, cbc}) {
            CAPTURE(tunnel);
            CAPTURE(algorithm);
            Net net(tunnel, algorithm);
            const auto from = net.udp(*net.a, Family::v4, port), to = net.udp(*net.b, Family::v4, port);
            CHECK(net.ping(*net.a, net.at_b, 56));
            CHECK(net.ping(*net.b, net.at_a, 1300));
            for (const std::size_t size : {0u, 1u, 100u, 1380u})
                CHECK(net.udp_passes(from, to, size));
            CHECK(net.sender.address == net.at_b);
            CHECK(net.transfer(*net.a, *net.b, net.at_b, 300'000, 60s));
            CHECK(net.transfer(*net.b, *net.a, net.at_a, 300'000, 60s));
            CHECK(net.nat.refused == 0);   // every segment left room for eight more bytes
            for (const unsigned segment : {inside, outside}) {
                CHECK(net.on(segment).marked == 0);
                CHECK(net.on(segment).fragments == 0);
                CHECK(net.on(segment).esp == 0);
                CHECK(net.on(segment).largest <= 1500);
            }
        }
}

TEST_CASE("the wire has the shape that RFC 3948 and a packet dump expect")
{
    Net net(false);
    const auto from = net.udp(*net.a, Family::v4, port), to = net.udp(*net.b, Family::v4, port);
    CHECK(net.udp_passes(from, to, 100));
    const auto left = net.encapsulated(inside), right = net.encapsulated(outside);
    REQUIRE(left.size() == 2);
    REQUIRE(right.size() == 2);
    const Bytes first = left[0], passed = right[0];
    CHECK(wire::field<std::uint16_t>(first, 20) == natt_port);
    CHECK(wire::field<std::uint16_t>(first, 22) == natt_port);
    CHECK(wire::field<std::uint16_t>(first, 24) == first.size() - 20);
    CHECK(wire::field<std::uint16_t>(first, 26) == 0);   // RFC 3948 §2.1
    CHECK(wire::field<std::uint32_t>(first, 28) == 0x1001);
    CHECK(wire::field<std::uint32_t>(first, 32) == 1);
    CHECK(first.size() == 20 + 8 + 8 + 8 + 8 + 100 + 4 + 16);   // IP, UDP, ESP, IV, inner UDP, data, trailer, ICV
    CHECK(wire::field<std::uint16_t>(passed, 20) == outside_port);
    CHECK(wire::field<std::uint16_t>(right[1], 22) == outside_port);
}

TEST_CASE("over IPv6 the UDP checksum is there")
{
    Lab net;
    auto &a = net.add({{"fd00::1/64", "10.0.0.1/24"}}, {0}), &b = net.add({{"fd00::2/64", "10.0.0.2/24"}}, {0});
    for (auto* host : {&a, &b})
        net.script(*host, std::string("add fd00::1[4500] fd00::2[4500] esp-udp 0x1001 -m transport ") + gcm + ";" +
                              "add fd00::2[4500] fd00::1[4500] esp-udp 0x1002 -m transport " + gcm + ";" +
                              "spdadd fd00::1 fd00::2 any -P " + (host == &a ? "out" : "in") +
                              " ipsec esp/transport//require; spdadd fd00::2 fd00::1 any -P " +
                              (host == &a ? "in" : "out") + " ipsec esp/transport//require;");
    net.world.run(2s);
    net.forget();
    CHECK(net.ping(a, ip("fd00::2"), 1000));
    CHECK(net.transfer(a, b, ip("fd00::2"), 200'000, 60s));
    CHECK(net.on(0).marked == 0);
    CHECK(net.on(0).fragments == 0);
    const auto seen = net.packets(0, [](const Packet& p) { return p.protocol == ip_proto::udp; });
    REQUIRE(seen.size() > 100);
    for (const auto& packet : seen) {
        const auto parsed = *parse_packet(packet);
        CHECK(wire::field<std::uint16_t>(packet, 46) != 0);
        CHECK(upper_checksum(Bytes(packet).subspan(40), parsed.source, parsed.destination, ip_proto::udp) == 0);
    }
    auto broken = seen.front();
    broken[46] ^= 1;
    net.world.inject(0, frame_to(mac(1), broken));
    net.world.run(50ms);
    CHECK(dropped(b, "in_malformed") == 1);
}

TEST_CASE("keepalives vanish, IKE reaches its socket with its marker, and another port is nobody's business")
{
    Net net(false);
    net.script(*net.b, "spdflush;");
    const auto ike = net.udp(*net.b, Family::v4, natt_port), other = net.udp(*net.b, Family::v4, 4501);
    const Endpoint peer{ip("192.0.2.7"), 9999, 0};
    const auto to_b = [&](std::uint16_t to, const Buffer& payload) {
        net.world.inject(outside, frame_to(mac(host_b), udp_packet(peer, {ip("192.0.2.2"), to, 0}, payload)));
        net.world.run(50ms);
    };
    to_b(natt_port, bytes({0xff}));
    CHECK(dropped(*net.b, "in_keepalive") == 1);
    CHECK(net.waiting(*net.b, ike) == 0);

    auto message = bytes({0, 0, 0, 0});
    const auto rest = marked(60);
    message.insert(message.end(), rest.begin(), rest.end());
    to_b(natt_port, message);
    CHECK(net.arrives(*net.b, ike, message, 0s));
    CHECK(net.sender == peer);

    to_b(natt_port, rest);   // an SPI that nobody has
    CHECK(dropped(*net.b, "in_unknown_spi") == 1);
    CHECK(net.waiting(*net.b, ike) == 0);
    to_b(natt_port, bytes({1, 2, 3}));
    CHECK(dropped(*net.b, "in_truncated") == 1);

    to_b(4501, bytes({0xff}));
    CHECK(net.arrives(*net.b, other, bytes({0xff}), 0s));
    net.script(*net.b, "flush;");   // no SA asks for it any more
    to_b(natt_port, bytes({0xff}));
    CHECK(net.arrives(*net.b, ike, bytes({0xff}), 0s));
}

TEST_CASE("an SA takes ESP in UDP or plain ESP, not the other")
{
    Net net(false);
    const auto from = net.udp(*net.a, Family::v4, port), to = net.udp(*net.b, Family::v4, port);
    CHECK(net.udp_passes(from, to, 100));
    const auto seen = net.encapsulated(outside);
    REQUIRE(!seen.empty());
    Buffer plain = seen[0];   // without its UDP header
    plain.erase(plain.begin() + 20, plain.begin() + 28);
    rewrite_header(plain, Family::v4, 9, ip_proto::esp, plain.size());
    net.world.inject(outside, frame_to(mac(host_b), plain));
    net.world.run(50ms);
    CHECK(dropped(*net.b, "in_encapsulation") == 1);

    net.script(*net.b, std::string("add 192.0.2.9 192.0.2.2 esp 0x1003 -m transport ") + gcm + ";");
    Buffer wrapped = seen[0];
    wire::set_field<std::uint32_t>(wrapped, 28, 0x1003);
    net.world.inject(outside, frame_to(mac(host_b), wrapped));
    net.world.run(50ms);
    CHECK(dropped(*net.b, "in_encapsulation") == 2);
    CHECK(net.waiting(*net.b, to) == 0);
}

TEST_CASE("the NAT takes another port: told once, updated, and traffic goes on")
{
    for (const bool tunnel : {false, true})
        for (const bool other_address : {false, true}) {
            if (!tunnel && other_address)
                continue;   // then the connections have another end, too
            CAPTURE(tunnel);
            CAPTURE(other_address);
            Net net(tunnel);
            const auto from = net.udp(*net.a, Family::v4, port), to = net.udp(*net.b, Family::v4, port);
            CHECK(net.udp_passes(from, to, 100));
            Listener key_manager(net.world, *net.b);

            const Address now_at = ip(other_address ? "192.0.2.10" : "192.0.2.9");
            net.nat.rebind(now_at);
            for (int i = 0; i < 3; ++i) {
                CHECK(net.send(*net.a, from, net.at_b, port, marked(200)) == 0);
                CHECK(net.arrives(*net.b, to, marked(200)));   // taken all the same
            }
            const auto told = key_manager.heard(SADB_X_NAT_T_NEW_MAPPING);
            REQUIRE(told.size() == 1);
            const auto mapping = Message::parse(told[0]);
            REQUIRE(mapping.has_value());
            const auto new_port = net.nat.mapped({ip("10.1.0.2"), natt_port, 0});
            REQUIRE(new_port != outside_port);
            CHECK(mapping->sa->spi == 0x1001);
            CHECK(mapping->source->endpoint.address == ip("192.0.2.9"));
            CHECK(mapping->natt_source_port == outside_port);
            CHECK(mapping->destination->endpoint.address == now_at);
            CHECK(mapping->natt_destination_port == new_port);

            // The old mapping is gone, so nothing reaches A until the key manager has spoken.
            CHECK(net.send(*net.b, to, net.sender.address, port, marked(201)) == 0);
            CHECK(!net.arrives(*net.a, from, marked(201), 1s));
            if (other_address)
                continue;
            key_manager.update(0x1001, {now_at, new_port, 0}, {ip("192.0.2.2"), natt_port, 0});
            key_manager.update(0x1002, {ip("192.0.2.2"), natt_port, 0}, {now_at, new_port, 0});
            CHECK(net.udp_passes(from, to, 300));
            CHECK(net.transfer(*net.a, *net.b, net.at_b, 100'000, 60s));
            CHECK(key_manager.heard(SADB_X_NAT_T_NEW_MAPPING).empty());
        }
}

TEST_CASE("a forged packet moves nobody")
{
    Net net(false);
    const auto from = net.udp(*net.a, Family::v4, port), to = net.udp(*net.b, Family::v4, port);
    CHECK(net.udp_passes(from, to, 100));
    Listener key_manager(net.world, *net.b);
    for (const bool fresh : {false, true}) {
        Buffer forged = net.encapsulated(outside)[0];
        wire::set_field<std::uint16_t>(forged, 20, 5);   // from another port: replayed, or with a new number
        if (fresh)
            wire::set_field<std::uint32_t>(forged, 32, 1000);
        net.world.inject(outside, frame_to(mac(host_b), forged));
        net.world.run(50ms);
    }
    CHECK(dropped(*net.b, "in_replay") == 1);
    CHECK(dropped(*net.b, "in_integrity") == 1);
    CHECK(key_manager.heard(SADB_X_NAT_T_NEW_MAPPING).empty());
    CHECK(net.waiting(*net.b, to) == 0);
}

TEST_CASE("a router's word about ESP in UDP counts if it knows the SPI")
{
    Net net(false);
    const auto from = net.udp(*net.a, Family::v4, port), to = net.udp(*net.b, Family::v4, port);
    CHECK(net.udp_passes(from, to, 100));
    const auto seen = net.encapsulated(inside);
    REQUIRE(!seen.empty());
    for (const bool known : {false, true}) {
        CAPTURE(known);
        auto message = bytes({3, 4, 0, 0, 0, 0, 1000 / 256, 1000 % 256});   // fragmentation needed, MTU 1000
        auto quoted = Buffer(seen[0].begin(), seen[0].begin() + 60);
        quoted[31] = static_cast<std::uint8_t>(quoted[31] ^ (known ? 0 : 1));   // the SPI
        message.insert(message.end(), quoted.begin(), quoted.end());
        wire::set_field<std::uint16_t>(message, 2, plain_checksum(message));
        net.world.inject(inside,
                         frame_to(mac(host_a), bytes_of({ip("10.1.0.1"), ip("10.1.0.2"), ip_proto::icmp, message})));
        net.world.run(50ms);
        net.forget();
        CHECK(net.send(*net.a, from, net.at_b, port, marked(1200)) == 0);
        net.world.run(50ms);
        CHECK((net.on(inside).largest <= 1000) == known);
        CHECK((net.on(inside).fragments == 2) == known);
    }
}

TEST_CASE("NAT_T_FRAG: what is bigger is cut before it is encapsulated")
{
    Net net(true);
    net.script(*net.a, "flush;");
    const auto key = *net.a->key_open();
    static constexpr std::array<std::uint8_t, 20> secret{0,  1,  2,  3,  4,  5,  6,  7,  8,  9,
                                                         10, 11, 12, 13, 14, 15, 16, 17, 18, 19};
    for (const bool out : {true, false}) {
        const AddressExt mine{0, 32, {ip("10.1.0.2"), 0, 0}}, peer{0, 32, {ip("192.0.2.2"), 0, 0}};
        Message m;
        m.type = SADB_ADD;
        m.satype = SADB_SATYPE_ESP;
        m.seq = m.pid = 1;
        m.sa = SaExt{out ? 0x1001u : 0x1002u, 64, SADB_SASTATE_MATURE, 0, SADB_X_EALG_AES_GCM_ICV16, 0};
        m.sa2 = Sa2Ext{IPSEC_MODE_TUNNEL, 0, 0};
        m.cipher_key = KeyExt{160, secret};
        m.source = out ? mine : peer;
        m.destination = out ? peer : mine;
        m.natt_type = esp_in_udp;
        m.natt_source_port = m.natt_destination_port = natt_port;
        m.natt_fragment = 600;
        const auto answers = key_exchange(net.world, *net.a, key, m);
        REQUIRE(!answers.empty());
        REQUIRE(peek_header(answers[0])->error == 0);
    }
    net.a->key_close(key);
    net.forget();
    const auto from = net.udp(*net.a, Family::v4, port), to = net.udp(*net.b, Family::v4, port);
    CHECK(net.send(*net.a, from, net.at_b, port, marked(1300)) == 0);
    CHECK(net.arrives(*net.b, to, marked(1300)));
    CHECK(net.encapsulated(inside).size() == 3);
    CHECK(net.on(inside).fragments == 0);
    CHECK(net.on(inside).largest <= 600 + 20 + 8 + 8 + 8 + 4 + 16);
    const auto before = net.nat.refused;
    CHECK(net.transfer(*net.a, *net.b, net.at_b, 50'000, 60s));   // TCP knows
    CHECK(net.nat.refused == before);
}
