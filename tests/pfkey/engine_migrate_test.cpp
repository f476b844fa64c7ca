// SPDX-License-Identifier: BSD-2-Clause
// SADB_X_MIGRATE: the policy's end points and the SAs move together, or nothing does.
#include "tests/pfkey/engine_fixture.hpp"
#include "tests/pfkey/records.hpp"

using namespace latchkey;
using namespace latchkey::test;

namespace {

constexpr std::string_view here = "192.0.2.1", there = "192.0.2.2", new_here = "198.51.100.1";

Message tunnel_policy(Direction direction = Direction::out, std::uint32_t reqid = 0)
{
    Request request = esp_tunnel(here, there, reqid == 0 ? Level::require : Level::unique);
    request.reqid = reqid;
    Message m = policy_message(SADB_X_SPDADD, direction, "10.1.0.0/16", "10.2.0.0/16", {request});
    m.policy->priority = 7;
    m.hard = Lifetime{0, 0, 600, 0};
    return m;
}

// The move of the tunnel's local end.
Message migration(Direction direction = Direction::out, std::uint32_t reqid = 0)
{
    Request from = esp_tunnel(here, there), to = esp_tunnel(new_here, there);
    from.reqid = to.reqid = reqid;
    return policy_message(SADB_X_MIGRATE, direction, "10.1.0.0/16", "10.2.0.0/16", {from, to});
}

Message tunnel_sa(std::uint32_t spi, std::string_view source = here, std::string_view destination = there,
                  std::uint32_t reqid = 0)
{
    Message m = keyed(SADB_ADD, spi, source, destination);
    m.sa2 = Sa2Ext{IPSEC_MODE_TUNNEL, 0, reqid};
    return m;
}

// struct sadb_x_kmaddress behind its extension header: a reserved word and two sockaddrs.
std::vector<std::uint8_t> kmaddress(std::string_view local, std::string_view remote)
{
    const std::size_t size = address(local).is_v4() ? 16 : 28;
    std::vector<std::uint8_t> body(4 + (2 * size + 7) / 8 * 8);
    wire::Writer out(body, wire::Order::host);
    out.put<std::uint32_t>(0);
    for (const auto text : {local, remote}) {
        std::vector<std::uint8_t> padded(sockaddr_size(address(text).family()));
        wire::Writer sockaddr(padded, wire::Order::host);
        emit_sockaddr(sockaddr, {address(text), 500, 0});
        out.put(Bytes(padded).first(size));
    }
    return body;
}

struct BadMigration {
    std::string_view name;
    void (*spoil)(Message&);
    int number;
    std::string_view words;
};

constexpr BadMigration bad_migrations[] = {
    {"no policy extension", [](Message& m) { m.policy.reset(); }, EINVAL, "needs"},
    {"no selector", [](Message& m) { m.source.reset(); }, EINVAL, "needs"},
    {"direction 0", [](Message& m) { m.policy->direction = 0; }, EINVAL, "none of in, out, fwd"},
    {"mixed families", [](Message& m) { m.destination = end_point("fd00::/64"); }, EINVAL, "different families"},
    {"no requests", [](Message& m) { m.policy->requests.clear(); }, EINVAL, "1 to 6 pairs"},
    {"half a pair", [](Message& m) { m.policy->requests.pop_back(); }, EINVAL, "1 to 6 pairs"},
    {"seven pairs",
     [](Message& m) {
         const auto pair = m.policy->requests;
         for (int i = 0; i < 6; ++i)
             m.policy->requests.insert(m.policy->requests.end(), pair.begin(), pair.end());
     },
     EINVAL, "1 to 6 pairs"},
    {"another protocol", [](Message& m) { m.policy->requests[1].protocol = ip_proto::ah; }, EINVAL, "differ in protocol"},
    {"another mode", [](Message& m) { m.policy->requests[1].mode = Mode::transport; }, EINVAL, "differ in protocol"},
    {"another reqid", [](Message& m) { m.policy->requests[1].reqid = 9; }, EINVAL, "differ in protocol"},
    {"UDP", [](Message& m) { m.policy->requests[0].protocol = m.policy->requests[1].protocol = 17; }, EPROTONOSUPPORT,
     "none of esp, ah, ipcomp"},
    {"mode any", [](Message& m) { m.policy->requests[0].mode = m.policy->requests[1].mode = Mode::any; }, EINVAL,
     "neither transport nor tunnel"},
    {"old addresses missing", [](Message& m) { m.policy->requests[0].tunnel_source = Address(); }, EINVAL,
     "two addresses of one family"},
    {"new addresses of two families", [](Message& m) { m.policy->requests[1].tunnel_source = address("fd00::1"); },
     EINVAL, "two addresses of one family"},
    {"a new address is unspecified", [](Message& m) { m.policy->requests[1].tunnel_source = address("0.0.0.0"); },
     EINVAL, "unspecified"},
    {"nothing changes", [](Message& m) { m.policy->requests[1] = m.policy->requests[0]; }, EINVAL, "the same"},
    {"the same pair twice",
     [](Message& m) {
         const auto pair = m.policy->requests;
         m.policy->requests.insert(m.policy->requests.end(), pair.begin(), pair.end());
     },
     EINVAL, "same old request"},
    {"a short KMADDRESS", [](Message& m) { m.kmaddress = Bytes(cipher_key).first(12); }, EINVAL, "X_KMADDRESS"},
    {"another selector", [](Message& m) { m.source = end_point("10.9.0.0/16"); }, ENOENT, "no policy"},
    {"another direction", [](Message& m) { m.policy->direction = IPSEC_DIR_INBOUND; }, ENOENT, "no policy"},
    {"other old addresses", [](Message& m) { m.policy->requests[0].tunnel_source = address("192.0.2.9"); }, ENODATA,
     "no request of the policy"},
    {"a reqid that the policy has not",
     [](Message& m) { m.policy->requests[0].reqid = m.policy->requests[1].reqid = 5; }, ENODATA,
     "no request of the policy"},
};

}  // namespace

TEST_CASE("MIGRATE moves the policy's end point and its SAs, keys, numbers and windows included")
{
    Host host;
    Client client(host.engine, host.now);
    const std::uint32_t id = client.ask(tunnel_policy()).message.policy->id;
    REQUIRE(client.error_of(tunnel_sa(0x1001)) == 0);
    REQUIRE(client.error_of(tunnel_sa(0x1002)) == 0);
    REQUIRE(client.error_of(tunnel_sa(0x1003, here, "192.0.2.3")) == 0);   // of another peer
    Sa* sa = host.engine.inbound(ip_proto::esp, address(there), 0x1001);
    REQUIRE(sa != nullptr);
    sa->sequence = 77;
    sa->replay.accept(5);
    const Sa* first = sa;
    const auto generation = host.engine.generation();
    host.now += seconds(5);

    const Reply moved = client.ask(migration());
    CHECK(moved.message.error == 0);
    CHECK(moved.message.policy->id == id);
    CHECK(host.engine.generation() != generation);
    const Policy* policy = host.engine.spd().find(id);
    REQUIRE(policy != nullptr);
    CHECK(policy->requests == std::vector{esp_tunnel(new_here, there)});
    CHECK(policy->priority == 7);
    CHECK(policy->created == seconds(10));
    CHECK(policy->lifetime == 600);

    CHECK(host.engine.inbound(ip_proto::esp, address(there), 0x1001) == first);
    CHECK(first->source == address(new_here));
    CHECK(first->sequence == 77);
    CHECK(!first->replay.fresh(5));
    CHECK(std::ranges::equal(first->cipher_key.bytes(), cipher_key));
    CHECK(host.engine.inbound(ip_proto::esp, address("192.0.2.3"), 0x1003)->source == address(here));
    const auto chosen = host.engine.outbound(*policy, policy->requests[0], flow("10.1.0.1", "10.2.0.1"),
                                             address("10.1.0.1"), address("10.2.0.1"), host.now);
    REQUIRE(chosen.state == Engine::Selection::found);
    CHECK(chosen.sa->source == address(new_here));
    CHECK(host.engine.sad().any_between(ip_proto::esp, address(here), address(there)) == nullptr);
}

TEST_CASE("MIGRATE of the far end: the SA is found under its new destination, and not under the old one")
{
    Host host;
    Client client(host.engine, host.now);
    REQUIRE(client.error_of(tunnel_policy()) == 0);
    REQUIRE(client.error_of(tunnel_sa(0x1001)) == 0);
    Message m = migration();
    m.policy->requests[1] = esp_tunnel("fd00::1", "fd00::2");   // to another family, as Linux lets it
    REQUIRE(client.error_of(m) == 0);
    CHECK(host.engine.inbound(ip_proto::esp, address(there), 0x1001) == nullptr);
    CHECK(host.engine.inbound(ip_proto::esp, address("fd00::2"), 0x1001) != nullptr);
    REQUIRE(client.error_of(sa_message(SADB_DELETE, 0x1001, "fd00::1", "fd00::2")) == 0);
    CHECK(host.engine.sad().size() == 0);
}

TEST_CASE("MIGRATE by reqid leaves the SAs of others; transport SAs move, their policy has no addresses to change")
{
    Host host;
    Client client(host.engine, host.now);
    SUBCASE("reqid")
    {
        REQUIRE(client.error_of(tunnel_policy(Direction::in, 5)) == 0);
        REQUIRE(client.error_of(tunnel_sa(0x1001, here, there, 5)) == 0);
        REQUIRE(client.error_of(tunnel_sa(0x1002, here, there, 6)) == 0);
        REQUIRE(client.error_of(migration(Direction::in, 5)) == 0);
        CHECK(host.engine.sad().find(ip_proto::esp, address(there), 0x1001)->source == address(new_here));
        CHECK(host.engine.sad().find(ip_proto::esp, address(there), 0x1002)->source == address(here));
    }
    SUBCASE("transport")
    {
        const std::uint32_t id =
            client.ask(policy_message(SADB_X_SPDADD, Direction::out, "10.1.0.0/16", "10.2.0.0/16")).message.policy->id;
        Message sa = tunnel_sa(0x1001);
        sa.sa2->mode = IPSEC_MODE_TRANSPORT;
        REQUIRE(client.error_of(sa) == 0);
        Message m = migration();
        m.policy->requests[0].mode = m.policy->requests[1].mode = Mode::transport;
        REQUIRE(client.error_of(m) == 0);
        CHECK(host.engine.sad().find(ip_proto::esp, address(there), 0x1001)->source == address(new_here));
        CHECK(host.engine.spd().find(id)->requests == std::vector{esp_request()});
    }
}

TEST_CASE("what MIGRATE refuses changes nothing and is told to nobody else")
{
    for (const auto& bad : bad_migrations) {
        INFO(bad.name);
        Host host;
        Client client(host.engine, host.now), other(host.engine, host.now);
        const std::uint32_t id = client.ask(tunnel_policy()).message.policy->id;
        REQUIRE(client.error_of(tunnel_sa(0x1001)) == 0);
        other.receive();
        const auto generation = host.engine.generation();
        Message m = migration();
        bad.spoil(m);
        CHECK(client.error_of(m) == bad.number);
        CHECK_MESSAGE(host.engine.last_error(client.id()).find(bad.words) != std::string_view::npos,
                      host.engine.last_error(client.id()));
        CHECK(host.engine.generation() == generation);
        CHECK(host.engine.spd().find(id)->requests == std::vector{esp_tunnel(here, there)});
        CHECK(host.engine.inbound(ip_proto::esp, address(there), 0x1001)->source == address(here));
        CHECK(other.receive().empty());
    }
}

TEST_CASE("MIGRATE onto an SPI that is taken at the new address is EEXIST before anything moves")
{
    Host host;
    Client client(host.engine, host.now);
    REQUIRE(client.error_of(tunnel_policy()) == 0);
    REQUIRE(client.error_of(tunnel_sa(0x1001)) == 0);
    REQUIRE(client.error_of(tunnel_sa(0x1002)) == 0);
    Message m = migration();
    SUBCASE("by an SA that stays")
    {
        REQUIRE(client.error_of(tunnel_sa(0x1002, "10.0.0.9", "192.0.2.7")) == 0);
        m.policy->requests[1] = esp_tunnel(here, "192.0.2.7");
    }
    SUBCASE("by another one that moves there")
    {
        REQUIRE(client.error_of(tunnel_sa(0x1001, here, "192.0.2.3")) == 0);
        m.policy->requests = {esp_tunnel(here, there), esp_tunnel(here, "192.0.2.7"), esp_tunnel(here, "192.0.2.3"),
                              esp_tunnel(here, "192.0.2.7")};
    }
    CHECK(client.error_of(m) == EEXIST);
    for (const std::uint32_t spi : {0x1001u, 0x1002u})
        CHECK(host.engine.inbound(ip_proto::esp, address(there), spi) != nullptr);
}

TEST_CASE("MIGRATE is news to everybody: pid and seq 0, the SA type of its first request, KMADDRESS passed on (Linux)")
{
    Host host;
    Client client(host.engine, host.now), other(host.engine, host.now);
    REQUIRE(client.error_of(tunnel_policy()) == 0);
    other.receive();
    Message m = migration();
    const auto body = kmaddress("203.0.113.1", "203.0.113.2");
    m.kmaddress = body;
    const Reply answer = client.ask(m);
    CHECK(answer.message.error == 0);
    const auto heard = other.receive();
    REQUIRE(heard.size() == 1);
    const Message& event = heard[0].message;
    CHECK(event.type == SADB_X_MIGRATE);
    CHECK(event.seq == 0);
    CHECK(event.pid == 0);
    CHECK(event.satype == SADB_SATYPE_ESP);
    REQUIRE(event.kmaddress);
    CHECK(std::ranges::equal(*event.kmaddress, body));
    CHECK(event.policy->requests == m.policy->requests);
    CHECK(event.source == m.source);
    for (const auto& extension : extensions_of(heard[0].record))
        CHECK(extension.type <= SADB_EXT_MAX);

    const auto extensions = extensions_of(heard[0].record);
    const auto found = std::ranges::find(extensions, std::uint16_t{SADB_X_EXT_KMADDRESS}, &Extension::type);
    REQUIRE(found != extensions.end());
    CHECK(found->size == 8 + 2 * 16);   // struct sadb_x_kmaddress and two of sockaddr_in
}

TEST_CASE("MIGRATE with IPv6 KMADDRESS; and none within a batch")
{
    Host host;
    Client client(host.engine, host.now);
    REQUIRE(client.error_of(tunnel_policy()) == 0);
    Message m = migration();
    const auto body = kmaddress("fd00::1", "fd00::2");
    m.kmaddress = body;
    REQUIRE(client.error_of(bare(SADB_X_BATCH, SADB_X_BATCH_BEGIN)) == 0);
    CHECK(client.error_of(m) == EINVAL);
    REQUIRE(client.error_of(bare(SADB_X_BATCH, SADB_X_BATCH_ABANDON)) == 0);
    CHECK(client.error_of(m) == 0);
}
