// SPDX-License-Identifier: BSD-2-Clause
// What a stranger, or a peer that has an SA, cannot make the walk believe.
#include "setkey/build.hpp"
#include "setkey/parser.hpp"
#include "stack/walk.hpp"
#include "support/lab.hpp"
#include "tests/support/rng.hpp"

#include <doctest/doctest.h>

using namespace latchkey;
using namespace latchkey::sim;
using namespace std::chrono_literals;

namespace {

using Octets = std::vector<std::uint8_t>;

struct End {
    static constexpr Time now = 1000s;
    test::SequenceRng rng;
    Engine engine{rng, 0};
    std::unique_ptr<CipherBackend> cipher = make_openssl_backend(rng);
    PacketPool pool{1 << 20};
    Walk walk{engine, *cipher, pool, rng};

    void script(const std::string& text)
    {
        const auto socket = *engine.open_key_socket();
        const Source source("script", text);
        setkey::Parser parser(source, {});
        for (;;) {
            const auto command = parser.next();
            REQUIRE(command.has_value());
            if (!*command)
                break;
            setkey::build(**command, {}, [&](const Message& message, bool) {
                REQUIRE(engine.handle(socket, message.bytes(), now).has_value());
                REQUIRE(peek_header(engine.front(socket))->error == 0);
                while (!engine.front(socket).empty())
                    engine.pop(socket, now);
            });
        }
        engine.close_key_socket(socket);
    }

    Octets send(const Octets& clear)
    {
        auto out = walk.outbound(clear, *parse_packet(clear), 0, now);
        REQUIRE(out.outcome == Walk::Outcome::sealed);
        return {out.packet.bytes().begin(), out.packet.bytes().end()};
    }

    // Why the packet is not delivered; none: it is.
    Drop receive(const Octets& wire)
    {
        auto packet = pool.copy(wire);
        const auto parsed = *parse_packet(packet.bytes());
        History history;
        const auto wrapping = walk.wrapping(packet.bytes(), parsed);
        if (wrapping != Walk::Wrapping::none)
            if (const auto why = walk.open(wrapping, packet, parsed, history, now); why != Drop::none)
                return why;
        return walk.check(Direction::in, *parse_packet(packet.bytes()), history, 0, now);
    }
};

const std::string keys = " -E aes-cbc 0x11111111111111111111111111111111"
                         " -A hmac-sha256 0x2222222222222222222222222222222222222222222222222222222222222222;";

// As if it had come from elsewhere, with a UDP header that has no checksum.
void come_from(Octets& wire, const char* source)
{
    const Address address = ip(source);
    std::ranges::copy(address.bytes(), wire.begin() + 12);
    set_ipv4_checksum(MutableBytes(wire).first(20));
}

Octets datagram(const char* from, const char* to, std::size_t size = 64)
{
    return udp_packet({ip(from), 7, 0}, {ip(to), 9, 0}, Octets(size, 0x41));
}

}  // namespace

TEST_CASE("a peer behind a NAT speaks for its own address only")
{
    const std::string sa = "add 192.0.2.9 192.0.2.2 esp-udp 0x1001 -m transport" + keys;
    End peer, us;
    peer.script(sa + "spdadd 192.0.2.9 192.0.2.2 any -P out ipsec esp/transport//require;");
    us.script(sa + "spdadd 192.0.2.77 192.0.2.2 any -P in ipsec esp/transport//require;"
                   "spdadd 192.0.2.9 192.0.2.2 any -P in ipsec esp/transport//require;");
    auto wire = peer.send(datagram("192.0.2.9", "192.0.2.2"));
    auto forged = wire;
    come_from(forged, "192.0.2.77");
    CHECK(us.receive(forged) == Drop::in_wrong_protection);
    CHECK(us.receive(peer.send(datagram("192.0.2.9", "192.0.2.2"))) == Drop::none);
}

TEST_CASE("a tunnel SA from anywhere, behind a NAT, meets its policy")
{
    End peer, us;
    peer.script("add 192.0.2.9 192.0.2.2 esp-udp 0x1001 -m tunnel" + keys +
                "spdadd 10.1.0.0/16 10.2.0.0/16 any -P out ipsec esp/tunnel/192.0.2.9-192.0.2.2/require;");
    us.script("add 0.0.0.0 192.0.2.2 esp-udp 0x1001 -m tunnel" + keys +
              "spdadd 10.1.0.0/16 10.2.0.0/16 any -P in ipsec esp/tunnel/192.0.2.9-192.0.2.2/require;");
    CHECK(us.receive(peer.send(datagram("10.1.0.1", "10.2.0.1"))) == Drop::none);
}

TEST_CASE("the port of a peer's NAT is no port of ours")
{
    End us;
    us.script("add 192.0.2.2[4500] 192.0.2.9[53] esp-udp 0x1002 -m transport" + keys);
    auto question = datagram("198.51.100.1", "192.0.2.2");
    question[22] = 0;
    question[23] = 53;
    CHECK(us.walk.wrapping(question, *parse_packet(question)) == Walk::Wrapping::none);
}

TEST_CASE("without an ICV nobody moves a peer")
{
    const std::string sa = "add 192.0.2.9 192.0.2.2 esp-udp 0x1001 -m transport "
                           "-E aes-cbc 0x11111111111111111111111111111111;";
    End peer, us;
    peer.script(sa + "spdadd 192.0.2.9 192.0.2.2 any -P out ipsec esp/transport//require;");
    us.script(sa);
    const auto manager = *us.engine.open_key_socket();
    Message enrol;
    enrol.type = SADB_REGISTER;
    enrol.satype = SADB_SATYPE_ESP;
    REQUIRE(us.engine.handle(manager, enrol.bytes(), End::now).has_value());
    us.engine.pop(manager, End::now);
    auto wire = peer.send(datagram("192.0.2.9", "192.0.2.2"));
    come_from(wire, "203.0.113.66");
    CHECK(us.receive(wire) == Drop::none);
    CHECK(us.engine.front(manager).empty());
}

TEST_CASE("neighbour discovery does not come through a tunnel")
{
    End us;
    us.script("add 10.0.0.1 10.0.0.2 ipcomp 0x1001 -m tunnel -C deflate;");
    Octets raw(20 + 40 + 32);
    wire::Writer w(raw);
    w.put<std::uint32_t>(0x45000000u | static_cast<std::uint32_t>(raw.size()));
    w.put<std::uint32_t>(0);
    w.put<std::uint32_t>(0x40290000u);
    w.put(ip("10.0.0.1").bytes());
    w.put(ip("10.0.0.2").bytes());
    w.put<std::uint32_t>(0x60000000u);
    w.put<std::uint16_t>(32);
    w.put<std::uint8_t>(ip_proto::icmpv6);
    w.put<std::uint8_t>(255);
    w.put(ip("fe80::1").bytes());
    w.put(ip("ff02::1").bytes());
    w.put<std::uint8_t>(134);   // a router advertisement
    set_ipv4_checksum(MutableBytes(raw).first(20));
    CHECK(us.receive(raw) == Drop::in_selector_mismatch);
}

TEST_CASE("a well-known CPI finds the SA of the packet's mode")
{
    const std::string transport = "add 10.0.0.1 10.0.0.2 ipcomp 0x1001 -m transport -C deflate;";
    const std::string tunnel = "add 10.0.0.1 10.0.0.2 ipcomp 0x1002 -m tunnel -C deflate;";
    for (const auto& both : {transport + tunnel, tunnel + transport}) {
        End peer, us;
        us.script(both);
        peer.script(both + "spdadd 10.0.0.1 10.0.0.2 any -P out ipsec ipcomp/transport//require;"
                           "spdadd 10.1.0.0/16 10.2.0.0/16 any -P out ipsec ipcomp/tunnel/10.0.0.1-10.0.0.2/require;");
        CHECK(us.receive(peer.send(datagram("10.0.0.1", "10.0.0.2", 600))) == Drop::none);
        CHECK(us.receive(peer.send(datagram("10.1.0.1", "10.2.0.1", 600))) == Drop::none);
    }
}

TEST_CASE("ESP with null alone carries packets, unprotected as they are")
{
    const std::string sa = "add 10.0.0.1 10.0.0.2 esp 0x1001 -m transport -E null \"\";";
    End peer, us;
    us.script(sa);
    peer.script(sa + "spdadd 10.0.0.1 10.0.0.2 any -P out ipsec esp/transport//require;");
    CHECK(us.receive(peer.send(datagram("10.0.0.1", "10.0.0.2", 100))) == Drop::none);
}
