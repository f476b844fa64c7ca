// SPDX-License-Identifier: BSD-2-Clause
// Every row of stack/drops.hpp can happen: here is how. The table of provocations is checked against that of the drops,
// so a new row without a test does not compile.
#include "stack/walk.hpp"

#include "support/lab.hpp"

#include <doctest/doctest.h>
#include <openssl/evp.h>

using namespace latchkey;
using namespace latchkey::sim;
using namespace std::chrono_literals;

namespace {

constexpr std::uint16_t port = 4444;

const char* const gcm = "-E aes-gcm-16 0x000102030405060708090a0b0c0d0e0f10111213";
const Buffer hmac_key{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19};
const char* const no_cipher = "-E null -A hmac-sha1 0x000102030405060708090a0b0c0d0e0f10111213";

// A (10.0.0.1) and B (10.0.0.2) on segment 0; B is also a router to 10.2.0.0/24 on segment 1.
struct Net : Lab {
    Instance *a, *b;
    SocketId at_a, at_b;

    explicit Net(std::size_t packet_bytes_of_b = 1 << 26)
    {
        a = &add({{"10.0.0.1/24"}}, {0}, {{prefix("10.2.0.0/24"), ip("10.0.0.2"), ""}});
        HostConfig config;
        config.packet_bytes = packet_bytes_of_b;
        config.forwarding = true;
        config.interfaces.resize(2);
        config.interfaces[0].addresses = {prefix("10.0.0.2/24")};
        config.interfaces[1].addresses = {prefix("10.2.0.2/24"), prefix("fd02::2/64")};
        b = &world.add(config, {0, 1});
        at_a = udp(*a, Family::v4, port);
        at_b = udp(*b, Family::v4, port);
        world.run(1s);
        forget();
    }
    void both(const std::string& text)
    {
        script(*a, text);
        script(*b, text);
    }
    void sas(std::string_view more = "", std::string_view algorithm = gcm)
    {
        const std::string tail = " -m transport -r 64 " + std::string(more) + " " + std::string(algorithm) + ";";
        both("add 10.0.0.1 10.0.0.2 esp 0x1001" + tail + "add 10.0.0.2 10.0.0.1 esp 0x1002" + tail);
    }
    void out_rule(std::string_view rule)
    {
        script(*a, "spdadd 10.0.0.1 10.0.0.2 any -P out " + std::string(rule) + ";");
    }
    void in_rule(std::string_view rule) { script(*b, "spdadd 10.0.0.1 10.0.0.2 any -P in " + std::string(rule) + ";"); }
    int send(std::size_t size = 100)
    {
        const int error = Lab::send(*a, at_a, ip("10.0.0.2"), port, marked(size));
        world.run(50ms);
        return error;
    }
    void to_b(Bytes packet)
    {
        world.inject(0, frame_to(mac(1), packet));
        world.run(50ms);
    }
    // A protected datagram as it was on the wire, IP packet only.
    Buffer recorded(const std::string& rule = "ipsec esp/transport//require")
    {
        sas();
        out_rule(rule);
        (void)send();
        const auto esp = packets(0, [](const Packet& p) { return p.protocol == ip_proto::esp; });
        REQUIRE(!esp.empty());
        return esp.back();
    }
    void fragment(std::size_t offset, std::size_t size, bool more, std::uint32_t id = 7)
    {
        to_b(bytes_of({ip("10.0.0.1"), ip("10.0.0.2"), ip_proto::udp, marked(size), 64, 0, false, id, offset, more}));
    }
    void transit(std::uint8_t hops = 64, std::string_view to = "10.2.0.9", bool dont_fragment = false,
                 std::size_t size = 100)
    {
        const Endpoint from{ip("10.0.0.1"), port, 0}, target{ip(to), port, 0};
        to_b(bytes_of({from.address, target.address, ip_proto::udp, udp_bytes(from, target, marked(size)), hops, 0,
                       dont_fragment}));
    }
};

// ESP by hand (RFC 4303 §2) with NULL encryption and HMAC-SHA-1-96: what follows the sequence number is given whole.
Buffer esp_by_hand(std::uint32_t sequence, Bytes rest)
{
    Buffer esp(8 + rest.size() + 12);
    wire::Writer w(esp);
    w.put<std::uint32_t>(0x1001);
    w.put<std::uint32_t>(sequence);
    w.put(rest);
    std::array<std::uint8_t, 20> mac{};
    std::size_t length = 0;
    REQUIRE(EVP_Q_mac(nullptr, "HMAC", nullptr, "SHA1", nullptr, hmac_key.data(), hmac_key.size(), esp.data(),
                      esp.size() - 12, mac.data(), mac.size(), &length) != nullptr);
    w.put(Bytes(mac).first(12));
    return bytes_of({ip("10.0.0.1"), ip("10.0.0.2"), ip_proto::esp, esp});
}

class PlainRng : public Rng {
public:
    void fill(MutableBytes out) override { std::fill(out.begin(), out.end(), std::uint8_t{5}); }
};

// The walk without a host, with an SA and a rule from 10.0.0.1 to 10.0.0.2: one outbound datagram's fate.
std::uint64_t drops_of_walk(Drop row, std::uint64_t last_sequence, bool broken)
{
    struct Broken : CipherBackend {
        void seal(std::span<SealJob> jobs) override { jobs[0].result = Drop::out_crypto; }
        void open(std::span<OpenJob> jobs) override { jobs[0].result = Drop::in_integrity; }
        void seal(std::span<AhSealJob> jobs) override { jobs[0].result = Drop::out_crypto; }
        void open(std::span<AhOpenJob> jobs) override { jobs[0].result = Drop::in_integrity; }
        Engine::AlgorithmSet available() const override { return {}; }
    };
    PlainRng rng;
    Engine engine(rng, 0);
    const auto cipher = broken ? std::unique_ptr<CipherBackend>(std::make_unique<Broken>()) : make_openssl_backend(rng);
    PacketPool pool;
    Walk walk(engine, *cipher, pool, rng);
    auto sa = std::make_unique<Sa>();
    sa->spi = 0x1001;
    sa->mode = Mode::transport;
    sa->state = SaState::mature;
    sa->source = ip("10.0.0.1");
    sa->destination = ip("10.0.0.2");
    sa->cipher = algorithm_by_name(AlgorithmKind::aead, "aes-gcm-16");
    REQUIRE(sa->cipher != nullptr);
    sa->cipher_key = SecretBytes(hmac_key);
    sa->sequence = last_sequence;
    REQUIRE(engine.sad().insert(std::move(sa)).has_value());
    Policy policy;
    policy.direction = Direction::out;
    policy.action = Action::ipsec;
    policy.selector = {prefix("10.0.0.1/32"), prefix("10.0.0.2/32"), {}, {}, ip_proto::any};
    policy.requests.push_back({.level = Level::require, .tunnel_source = {}, .tunnel_destination = {}});
    engine.spd().insert(std::move(policy));
    const auto packet = udp_packet({ip("10.0.0.1"), port, 0}, {ip("10.0.0.2"), port, 0}, marked(100));
    return walk.outbound(packet, *parse_packet(packet), 0, 1000s).drop == row ? 1 : 0;
}

using Count = std::uint64_t;

struct Provocation {
    Drop row;
    Count (*provoke)(const std::string& row);  // how often the row was counted; at least once
};

// clang-format off
constexpr Provocation provocations[] = {
    {Drop::out_discard, [](const std::string& row) -> Count {
        Net net;
        net.out_rule("discard");
        (void)net.send();
        return dropped(*net.a, row);
    }},
    {Drop::out_no_sa, [](const std::string& row) -> Count {   // nobody answers the ACQUIRE
        Net net;
        net.out_rule("ipsec esp/transport//require");
        (void)net.send();
        net.world.run(30s);
        return dropped(*net.a, row);
    }},
    {Drop::out_hold_full, [](const std::string& row) -> Count {
        Net net;
        net.out_rule("ipsec esp/transport//require");
        for (int i = 0; i < 100; ++i)
            (void)net.send();
        return dropped(*net.a, row);
    }},
    {Drop::out_too_big, [](const std::string& row) -> Count {
        Net net;
        net.sas();
        net.out_rule("ipsec esp/transport//require");
        (void)net.send(65500);
        return dropped(*net.a, row);
    }},
    {Drop::out_sequence_exhausted, [](const std::string&) -> Count {
        return drops_of_walk(Drop::out_sequence_exhausted, 0xffffffff, false);
    }},
    {Drop::out_crypto, [](const std::string&) -> Count { return drops_of_walk(Drop::out_crypto, 0, true); }},
    {Drop::out_no_route, [](const std::string& row) -> Count {   // to the far end of a tunnel
        Net net;
        net.script(*net.a, std::string("add 10.0.0.1 203.0.113.1 esp 0x2001 -m tunnel ") + gcm + ";");
        net.out_rule("ipsec esp/tunnel/10.0.0.1-203.0.113.1/require");
        (void)net.send();
        return dropped(*net.a, row);
    }},
    {Drop::out_no_buffer, [](const std::string& row) -> Count {
        Net net(1);
        (void)net.Lab::send(*net.b, net.at_b, ip("10.0.0.2"), port, marked(10));   // the way to itself needs one
        return dropped(*net.b, row);
    }},
    {Drop::out_lifetime, [](const std::string& row) -> Count {
        Net net;
        net.sas("-bh 50");
        net.out_rule("ipsec esp/transport//require");
        (void)net.send(100);
        return dropped(*net.a, row);
    }},
    {Drop::out_nested, [](const std::string& row) -> Count {
        Net net;
        net.sas();
        std::string nine = "ipsec";
        for (int i = 0; i < 9; ++i)
            nine += " esp/transport//require";
        net.out_rule(nine);
        (void)net.send();
        return dropped(*net.a, row);
    }},
    {Drop::in_discard, [](const std::string& row) -> Count {
        Net net;
        net.in_rule("discard");
        (void)net.send();
        return dropped(*net.b, row);
    }},
    {Drop::in_clear, [](const std::string& row) -> Count {
        Net net;
        net.in_rule("ipsec esp/transport//require");
        (void)net.send();
        return dropped(*net.b, row);
    }},
    {Drop::in_wrong_protection, [](const std::string& row) -> Count {
        Net net;
        net.in_rule("ipsec esp/tunnel/10.0.0.1-10.0.0.2/require");
        (void)net.recorded();
        return dropped(*net.b, row);
    }},
    {Drop::in_selector_mismatch, [](const std::string& row) -> Count {   // a transport SA's packet from elsewhere
        Net net;
        auto packet = net.recorded();
        packet[15] = 77;
        set_ipv4_checksum(MutableBytes(packet).first(20));
        net.to_b(packet);
        return dropped(*net.b, row);
    }},
    {Drop::in_unknown_spi, [](const std::string& row) -> Count {
        Net net;
        auto packet = net.recorded();
        packet[20] ^= 1;
        net.to_b(packet);
        return dropped(*net.b, row);
    }},
    {Drop::in_sa_state, [](const std::string& row) -> Count {   // only its SPI is reserved
        Net net;
        auto packet = net.recorded();
        const auto socket = *net.b->key_open();
        Message m;
        m.type = SADB_GETSPI;
        m.satype = SADB_SATYPE_ESP;
        m.seq = m.pid = 1;
        m.source = AddressExt{0, 32, {ip("10.0.0.1"), 0, 0}};
        m.destination = AddressExt{0, 32, {ip("10.0.0.2"), 0, 0}};
        m.spi_range = SpiRangeExt{0x7000, 0x7000};
        const auto answers = key_exchange(net.world, *net.b, socket, m);
        net.b->key_close(socket);
        REQUIRE(!answers.empty());
        REQUIRE(peek_header(answers[0])->error == 0);
        wire::set_field<std::uint32_t>(packet, 20, 0x7000);
        net.to_b(packet);
        return dropped(*net.b, row);
    }},
    {Drop::in_replay, [](const std::string& row) -> Count {
        Net net;
        net.to_b(net.recorded());
        return dropped(*net.b, row);
    }},
    {Drop::in_integrity, [](const std::string& row) -> Count {
        Net net;
        auto packet = net.recorded();
        wire::set_field<std::uint32_t>(packet, 24, 2);
        net.to_b(packet);
        return dropped(*net.b, row);
    }},
    {Drop::in_decompress, [](const std::string& row) -> Count {
        Net net;
        net.script(*net.b, "add 10.0.0.1 10.0.0.2 ipcomp 0x1001 -m transport -C deflate;");
        const Buffer ipcomp{ip_proto::udp, 0, 0, 2, 0xff, 0xff, 0xff, 0xff};   // a reserved kind of block (RFC 1951)
        net.to_b(bytes_of({ip("10.0.0.1"), ip("10.0.0.2"), ip_proto::ipcomp, ipcomp}));
        return dropped(*net.b, row);
    }},
    {Drop::in_disabled, [](const std::string& row) -> Count {
        Net net;
        REQUIRE(net.b->set_tunable("net.inet.esp.esp_enable", "0").has_value());
        (void)net.recorded();
        return dropped(*net.b, row);
    }},
    {Drop::in_encapsulation, [](const std::string& row) -> Count {   // to B it is ESP in UDP, to A it is not
        Net net;
        net.script(*net.b, std::string("add 10.0.0.1[4500] 10.0.0.2[4500] esp-udp 0x1001 -m transport ") + gcm + ";");
        net.script(*net.a, std::string("add 10.0.0.1 10.0.0.2 esp 0x1001 -m transport ") + gcm + ";");
        net.out_rule("ipsec esp/transport//require");
        (void)net.send();
        return dropped(*net.b, row);
    }},
    {Drop::in_keepalive, [](const std::string& row) -> Count {
        Net net;
        net.script(*net.b, std::string("add 10.0.0.1[4500] 10.0.0.2[4500] esp-udp 0x1001 -m transport ") + gcm + ";");
        net.to_b(udp_packet({ip("10.0.0.1"), 4500, 0}, {ip("10.0.0.2"), 4500, 0}, Buffer{0xff}));
        return dropped(*net.b, row);
    }},
    {Drop::in_padding, [](const std::string& row) -> Count {
        Net net;
        net.sas("", no_cipher);
        net.to_b(esp_by_hand(1, Buffer{'p', 'a', 'y', 'l', 'o', 'a', 'd', '8', 1, 7, 2, ip_proto::udp}));
        return dropped(*net.b, row);
    }},
    {Drop::in_truncated, [](const std::string& row) -> Count {
        Net net;
        net.sas();
        net.to_b(bytes_of({ip("10.0.0.1"), ip("10.0.0.2"), ip_proto::esp, Buffer{0, 0, 0x10, 1, 0, 0, 0}}));
        return dropped(*net.b, row);
    }},
    {Drop::in_dummy, [](const std::string& row) -> Count {
        Net net;
        net.sas("", no_cipher);
        net.to_b(esp_by_hand(1, Buffer{'d', 'u', 'm', 'm', 'y', '!', 0, ip_proto::no_next}));
        return dropped(*net.b, row);
    }},
    {Drop::in_lifetime, [](const std::string& row) -> Count {
        Net net;
        net.script(*net.b, std::string("add 10.0.0.1 10.0.0.2 esp 0x1001 -m transport -bh 50 ") + gcm + ";");
        net.script(*net.a, std::string("add 10.0.0.1 10.0.0.2 esp 0x1001 -m transport ") + gcm + ";");
        net.out_rule("ipsec esp/transport//require");
        (void)net.send(100);
        return dropped(*net.b, row);
    }},
    {Drop::in_wrong_mode, [](const std::string& row) -> Count {
        Net net;
        net.script(*net.b, std::string("add 10.0.0.1 10.0.0.2 esp 0x1001 -m tunnel ") + gcm + ";");
        net.script(*net.a, std::string("add 10.0.0.1 10.0.0.2 esp 0x1001 -m transport ") + gcm + ";");
        net.out_rule("ipsec esp/transport//require");
        (void)net.send();
        return dropped(*net.b, row);
    }},
    {Drop::in_tunnel_endpoint, [](const std::string& row) -> Count {
        Net net;
        net.script(*net.b, std::string("add 10.0.0.77 10.0.0.2 esp 0x1001 -m tunnel ") + gcm + ";");
        net.script(*net.a, std::string("add 10.0.0.1 10.0.0.2 esp 0x1001 -m tunnel ") + gcm + ";");
        net.out_rule("ipsec esp/tunnel/10.0.0.1-10.0.0.2/require");
        (void)net.send();
        return dropped(*net.b, row);
    }},
    {Drop::in_no_buffer, [](const std::string& row) -> Count {
        Net net(1);
        net.to_b(udp_packet({ip("10.0.0.1"), port, 0}, {ip("10.0.0.2"), port, 0}, marked(10)));
        return dropped(*net.b, row);
    }},
    {Drop::in_queue_full, [](const std::string& row) -> Count {   // thousands of datagrams between two steps of B
        Net net;
        net.sas();
        net.out_rule("ipsec esp/transport//require");
        (void)net.send();
        for (int i = 0; i < 4200; ++i)
            REQUIRE(net.Lab::send(*net.a, net.at_a, ip("10.0.0.2"), port, marked(10)) == 0);
        net.world.run(1s);
        return dropped(*net.b, row);
    }},
    {Drop::in_nested, [](const std::string& row) -> Count {
        Net net;
        (void)net.recorded("ipsec esp/transport//require esp/transport//require esp/transport//require "
                           "esp/transport//require esp/transport//require");
        return dropped(*net.b, row);
    }},
    {Drop::in_malformed, [](const std::string& row) -> Count {
        Net net;
        auto packet = udp_packet({ip("10.0.0.1"), port, 0}, {ip("10.0.0.2"), port, 0}, marked(10));
        packet[10] ^= 1;   // the header's checksum
        net.to_b(packet);
        return dropped(*net.b, row);
    }},
    {Drop::in_not_local, [](const std::string& row) -> Count {   // A does not forward
        Net net;
        const auto stray = udp_packet({ip("10.0.0.2"), port, 0}, {ip("10.0.0.9"), port, 0}, marked(10));
        net.world.inject(0, frame_to(mac(0), stray));
        net.world.run(50ms);
        return dropped(*net.a, row);
    }},
    {Drop::fwd_discard, [](const std::string& row) -> Count {
        Net net;
        net.script(*net.b, "spdadd 10.0.0.0/24 10.2.0.0/24 any -P fwd discard;");
        net.transit();
        return dropped(*net.b, row);
    }},
    {Drop::fwd_clear, [](const std::string& row) -> Count {
        Net net;
        net.script(*net.b, "spdadd 10.0.0.0/24 10.2.0.0/24 any -P fwd ipsec esp/tunnel/10.0.0.1-10.0.0.2/require;");
        net.transit();
        return dropped(*net.b, row);
    }},
    {Drop::fwd_wrong_protection, [](const std::string& row) -> Count {
        Net net;
        net.both(std::string("add 10.0.0.1 10.0.0.2 esp 0x1001 -m tunnel -u 5 ") + gcm + ";");
        net.script(*net.a, "spdadd 10.0.0.1 10.2.0.0/24 any -P out ipsec esp/tunnel/10.0.0.1-10.0.0.2/require;");
        net.script(*net.b, "spdadd 10.0.0.1 10.2.0.0/24 any -P fwd ipsec esp/tunnel/10.0.0.1-10.0.0.2/unique:6;");
        (void)net.Lab::send(*net.a, net.at_a, ip("10.2.0.9"), port, marked(10));
        net.world.run(1s);
        return dropped(*net.b, row);
    }},
    {Drop::fwd_port_fragment, [](const std::string& row) -> Count {
        Net net;
        net.script(*net.b, "spdadd 10.0.0.0/24 10.2.0.0/24[9] udp -P fwd discard;");
        net.to_b(bytes_of({ip("10.0.0.1"), ip("10.2.0.9"), ip_proto::udp, Buffer{0x11, 0x5c}}));
        return dropped(*net.b, row);
    }},
    {Drop::fwd_no_route, [](const std::string& row) -> Count {
        Net net;
        net.transit(64, "203.0.113.1");
        return dropped(*net.b, row);
    }},
    {Drop::fwd_ttl, [](const std::string& row) -> Count {
        Net net;
        net.transit(1);
        return dropped(*net.b, row);
    }},
    {Drop::fwd_too_big, [](const std::string& row) -> Count {
        Net net;
        REQUIRE(net.b->link(1, "net1 mtu 1280").has_value());
        net.transit(64, "10.2.0.9", true, 1400);
        return dropped(*net.b, row);
    }},
    {Drop::frag_malformed, [](const std::string& row) -> Count {   // more to come, but not a multiple of 8
        Net net;
        net.fragment(0, 20, true);
        return dropped(*net.b, row);
    }},
    {Drop::frag_overlap, [](const std::string& row) -> Count {
        Net net;
        net.fragment(0, 64, true);
        net.fragment(32, 64, true);
        return dropped(*net.b, row);
    }},
    {Drop::frag_too_big, [](const std::string& row) -> Count {
        Net net;
        net.fragment(65528, 64, false);
        return dropped(*net.b, row);
    }},
    {Drop::frag_limit, [](const std::string& row) -> Count {
        Net net;
        for (std::uint32_t id = 0; id < 600; ++id)
            net.fragment(0, 64, true, id);
        return dropped(*net.b, row);
    }},
    {Drop::frag_timeout, [](const std::string& row) -> Count {
        Net net;
        net.fragment(0, 64, true);
        net.world.run(31s);
        return dropped(*net.b, row);
    }},
};
// clang-format on

consteval bool every_row_is_provoked()
{
    if (std::size(provocations) + 1 != std::size(drops))  // all but `none`
        return false;
    for (std::size_t i = 0; i < std::size(provocations); ++i)
        if (provocations[i].row != drops[i + 1].id)
            return false;
    return true;
}
static_assert(every_row_is_provoked(), "each row of drops[] needs its provocation, in the same order");

}  // namespace

TEST_CASE("every reason to drop a packet can be brought about, and is counted under its name")
{
    for (const auto& provocation : provocations) {
        const std::string row(drop_row(provocation.row).name);
        CAPTURE(row);
        CHECK(provocation.provoke(row) >= 1);
    }
}

TEST_CASE("a quiet host has dropped nothing")
{
    Net net;
    CHECK(net.send() == 0);
    CHECK(net.waiting(*net.b, net.at_b) == 1);
    for (const auto& row : drops)
        if (row.id != Drop::none)
            CHECK(dropped(*net.b, row.name) == 0);
}
