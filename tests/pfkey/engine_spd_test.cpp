// SPDX-License-Identifier: BSD-2-Clause
// The SPD messages of KAME.
#include "tests/pfkey/engine_fixture.hpp"

using namespace latchkey;
using namespace latchkey::test;

namespace {

const Message out_policy = policy_message(SADB_X_SPDADD, Direction::out, "10.0.0.0/24", "10.1.0.0/16");

}

TEST_CASE("SPDADD gives the policy an id; GET by id and DUMP show it with life times")
{
    Host host;
    Client client(host.engine, host.now);
    Message add = out_policy;
    add.policy->priority = 0x80000000;
    add.hard = Lifetime{0, 0, 600, 60};
    const Reply added = client.ask(add);
    CHECK(added.message.error == 0);
    const std::uint32_t id = added.message.policy->id;
    CHECK(id != 0);
    CHECK(id % 8 == 1);   // out, as Linux numbers directions: setkey shows ids with 3 and above as per-socket
    CHECK(added.message.source == add.source);
    CHECK(added.message.policy->requests == add.policy->requests);

    host.now += seconds(5);
    REQUIRE(host.engine.match(Direction::out, flow("10.0.0.1", "10.1.2.3"), host.now) != nullptr);
    const Reply got = client.ask(by_id(SADB_X_SPDGET, id));
    CHECK(got.message.error == 0);
    CHECK(got.message.policy->direction == IPSEC_DIR_OUTBOUND);
    CHECK(got.message.policy->type == IPSEC_POLICY_IPSEC);
    CHECK(got.message.policy->priority == 0x80000000);
    CHECK(got.message.policy->requests == add.policy->requests);
    CHECK(got.message.source == end_point("10.0.0.0/24"));
    CHECK(got.message.destination == end_point("10.1.0.0/16"));
    CHECK(got.message.hard == Lifetime{0, 0, 600, 60});
    CHECK(got.message.current == Lifetime{0, 0, epoch + 10, epoch + 15});
    CHECK(client.error_of(by_id(SADB_X_SPDGET, id + 8)) == ENOENT);
}

TEST_CASE("ids tell the direction and are unique")
{
    Host host;
    Client client(host.engine, host.now);
    const Direction directions[] = {Direction::in, Direction::out, Direction::fwd};
    for (std::uint32_t i = 0; i < 3; ++i) {
        const auto reply = client.ask(policy_message(SADB_X_SPDADD, directions[i], "10.0.0.0/24", "10.1.0.0/16"));
        CHECK(reply.message.policy->id % 8 == i);
        CHECK(reply.message.policy->id / 8 == i + 1);
    }
}

TEST_CASE("an equal selector in the same direction is EEXIST, whatever the priority; SPDUPDATE replaces or creates")
{
    Host host;
    Client client(host.engine, host.now);
    const std::uint32_t id = client.ask(out_policy).message.policy->id;
    Message again = out_policy;
    again.policy->priority = 5;
    again.source = end_point("10.0.0.77/24");   // host bits do not make it another selector
    CHECK(client.error_of(again) == EEXIST);
    again.source->protocol = again.destination->protocol = 6;
    CHECK(client.error_of(again) == 0);

    Message update = policy_message(SADB_X_SPDUPDATE, Direction::out, "10.0.0.0/24", "10.1.0.0/16", {},
                                    IPSEC_POLICY_DISCARD);
    const auto generation = host.engine.generation();
    CHECK(client.ask(update).message.policy->id == id);
    CHECK(host.engine.generation() != generation);
    CHECK(host.engine.spd().find(id)->action == Action::discard);
    CHECK(host.engine.spd().size() == 2);
    CHECK(client.error_of(policy_message(SADB_X_SPDUPDATE, Direction::in, "10.0.0.0/24", "10.1.0.0/16")) == 0);
    CHECK(host.engine.spd().size(Direction::in) == 1);
}

TEST_CASE("SPDUPDATE keeps a rule's place among its equals")
{
    Host host;
    Client client(host.engine, host.now);
    const std::uint32_t first = client.ask(out_policy).message.policy->id;
    REQUIRE(client.error_of(policy_message(SADB_X_SPDADD, Direction::out, "10.0.0.0/8", "10.0.0.0/8", {},
                                           IPSEC_POLICY_NONE)) == 0);
    Message update = out_policy;
    update.type = SADB_X_SPDUPDATE;
    REQUIRE(client.error_of(update) == 0);
    CHECK(host.engine.match(Direction::out, flow("10.0.0.1", "10.1.2.3"), host.now)->id == first);
}

TEST_CASE("SPDDELETE by selector, DELETE2 by id: absent is ENOENT")
{
    Host host;
    Client client(host.engine, host.now);
    const std::uint32_t id = client.ask(out_policy).message.policy->id;
    Message by_selector = out_policy;
    by_selector.type = SADB_X_SPDDELETE;
    Message inbound = by_selector;
    inbound.policy->direction = IPSEC_DIR_INBOUND;
    CHECK(client.error_of(inbound) == ENOENT);
    const Reply deleted = client.ask(by_selector);
    CHECK(deleted.message.error == 0);
    CHECK(deleted.message.policy->id == id);
    CHECK(client.error_of(by_selector) == ENOENT);

    const std::uint32_t other = client.ask(out_policy).message.policy->id;
    CHECK(other != id);
    CHECK(client.error_of(by_id(SADB_X_SPDDELETE2, other)) == 0);
    CHECK(client.error_of(by_id(SADB_X_SPDDELETE2, other)) == ENOENT);
    CHECK(host.engine.no_policies());
}

TEST_CASE("unique without a number gets a reqid from the host; the answer tells it")
{
    Host host;
    Client client(host.engine, host.now);
    Message add = policy_message(SADB_X_SPDADD, Direction::out, "10.0.0.1", "10.0.0.2",
                                 {esp_request(Level::unique), esp_request(Level::unique, 7)});
    const Reply added = client.ask(add);
    CHECK(added.message.policy->requests[0].reqid == 0x4000);
    CHECK(added.message.policy->requests[1].reqid == 7);
    CHECK(host.engine.spd().find(added.message.policy->id)->requests[0].reqid == 0x4000);
    add.source = end_point("10.0.0.3");
    CHECK(client.ask(add).message.policy->requests[0].reqid == 0x4001);
}

TEST_CASE("SPDADD refuses, and stores nothing")
{
    Host host;
    Client client(host.engine, host.now);
    Message m = out_policy;
    int expected = EINVAL;
    SUBCASE("direction any") { m.policy->direction = 0; }
    SUBCASE("direction 4") { m.policy->direction = 4; }
    SUBCASE("entrust") { m.policy->type = IPSEC_POLICY_ENTRUST; }
    SUBCASE("bypass") { m.policy->type = IPSEC_POLICY_BYPASS; }
    SUBCASE("type 5") { m.policy->type = 5; }
    SUBCASE("ipsec without requests") { m.policy->requests.clear(); }
    SUBCASE("level 4") { m.policy->requests[0].level = Level{4}; }
    SUBCASE("mode 3") { m.policy->requests[0].mode = Mode{3}; }
    SUBCASE("unique above 16383") { m.policy->requests[0] = esp_request(Level::unique, 16384); }
    SUBCASE("tunnel of two families") { m.policy->requests[0] = esp_tunnel("10.0.0.1", "fd00::1"); }
    SUBCASE("mixed families") { m.destination = end_point("fd00::/64"); }
    SUBCASE("prefix 33") { m.destination->prefix_length = 33; }
    SUBCASE("protocols differ") { m.destination->protocol = 6; }
    SUBCASE("an address of another family")
    {
        m.destination->endpoint.address = Address();
        expected = EAFNOSUPPORT;
    }
    SUBCASE("a request for UDP")
    {
        m.policy->requests[0].protocol = 17;
        expected = EPROTONOSUPPORT;
    }
    SUBCASE("17 requests")
    {
        m.policy->requests.resize(17, esp_request());
        expected = ENOBUFS;
    }
    SUBCASE("SA type ESP") { m.satype = SADB_SATYPE_ESP; }
    SUBCASE("SA type MIP")
    {
        m.satype = SADB_SATYPE_MIP;
        expected = EOPNOTSUPP;
    }
    SUBCASE("no policy") { m.policy.reset(); }
    SUBCASE("no source") { m.source.reset(); }
    CHECK(client.error_of(m) == expected);
    CHECK(host.engine.no_policies());
}

TEST_CASE("selector and tunnel of different families, and a port with a tunnel, are legal (NetBSD)")
{
    Host host;
    Client client(host.engine, host.now);
    Message m = policy_message(SADB_X_SPDADD, Direction::out, "10.0.0.0/24", "10.0.1.0/24",
                               {esp_tunnel("fd00::1", "fd00::2")});
    m.source->protocol = m.destination->protocol = ip_proto::tcp;
    m.destination->endpoint.port = 1234;
    CHECK(client.error_of(m) == 0);
    CHECK(host.engine.selects_by_port(Direction::out));
    CHECK(!host.engine.selects_by_port(Direction::in));
    Flow to_port = flow("10.0.0.1", "10.0.1.1", ip_proto::tcp);
    CHECK(host.engine.match(Direction::out, to_port, host.now) == nullptr);
    to_port.destination_port = 1234;
    CHECK(host.engine.match(Direction::out, to_port, host.now) != nullptr);
    to_port.has_ports = false;   // a fragment
    CHECK(host.engine.match(Direction::out, to_port, host.now) == nullptr);
}

TEST_CASE("ICMP type and code stand in the ports; protocol 0 and 255 mean any")
{
    Host host;
    Client client(host.engine, host.now);
    Message m = policy_message(SADB_X_SPDADD, Direction::in, "::/0", "::/0", {}, IPSEC_POLICY_NONE);
    m.source->protocol = m.destination->protocol = ip_proto::icmpv6;
    m.source->endpoint.port = 135;
    CHECK(client.error_of(m) == 0);
    Flow solicitation{address("fe80::1"), address("ff02::1"), 135, 0, ip_proto::icmpv6, true};
    CHECK(host.engine.match(Direction::in, solicitation, host.now) != nullptr);
    solicitation.source_port = 128;
    CHECK(host.engine.match(Direction::in, solicitation, host.now) == nullptr);

    Message any = policy_message(SADB_X_SPDADD, Direction::in, "::/0", "::/0", {}, IPSEC_POLICY_DISCARD);
    any.source->protocol = any.destination->protocol = 0;
    CHECK(client.error_of(any) == 0);
    CHECK(host.engine.match(Direction::in, solicitation, host.now)->action == Action::discard);
    any.source->protocol = any.destination->protocol = 255;
    CHECK(client.error_of(any) == EEXIST);
}

TEST_CASE("SPDSETIDX: until a key manager completes it nothing passes")
{
    Host host;
    Client client(host.engine, host.now);
    Message index = out_policy;
    index.type = SADB_X_SPDSETIDX;
    index.policy->requests.clear();
    const Reply reply = client.ask(index);
    CHECK(reply.message.error == 0);
    CHECK(host.engine.match(Direction::out, flow("10.0.0.1", "10.1.2.3"), host.now)->action == Action::discard);
    CHECK(client.error_of(index) == EEXIST);
    Message update = out_policy;
    update.type = SADB_X_SPDUPDATE;
    CHECK(client.ask(update).message.policy->id == reply.message.policy->id);
    CHECK(host.engine.match(Direction::out, flow("10.0.0.1", "10.1.2.3"), host.now)->action == Action::ipsec);
}

TEST_CASE("SPDFLUSH takes nothing but the header")
{
    Host host;
    Client client(host.engine, host.now);
    REQUIRE(client.error_of(out_policy) == 0);
    Message flush = bare(SADB_X_SPDFLUSH);
    flush.policy = PolicyExt{};
    CHECK(client.error_of(flush) == EINVAL);
    CHECK(!host.engine.no_policies());
    flush.policy.reset();
    CHECK(client.error_of(flush) == 0);
    CHECK(host.engine.no_policies());
    CHECK(client.error_of(flush) == 0);
}

TEST_CASE("the SPD has a limit; an update at the limit still works")
{
    Host host({.max_policies = 1});
    Client client(host.engine, host.now);
    REQUIRE(client.error_of(out_policy) == 0);
    CHECK(client.error_of(policy_message(SADB_X_SPDADD, Direction::in, "10.0.0.1", "10.0.0.2")) == ENOBUFS);
    Message update = out_policy;
    update.type = SADB_X_SPDUPDATE;
    CHECK(client.error_of(update) == 0);
}

TEST_CASE("SPDDUMP: in, out, fwd; within a direction by priority, then by insertion; numbered down to 0")
{
    Host host;
    Client client(host.engine, host.now);
    CHECK(client.error_of(bare(SADB_X_SPDDUMP)) == ENOENT);
    const auto add = [&](Direction direction, std::string_view source, std::uint32_t priority) {
        Message m = policy_message(SADB_X_SPDADD, direction, source, "10.9.0.0/16");
        m.policy->priority = priority;
        REQUIRE(client.error_of(m) == 0);
    };
    add(Direction::fwd, "10.0.0.1", 1);
    add(Direction::out, "10.0.0.2", 9);
    add(Direction::out, "10.0.0.3", 3);
    add(Direction::out, "10.0.0.4", 9);
    add(Direction::in, "10.0.0.5", 200);
    Message dump = bare(SADB_X_SPDDUMP);
    dump.pid = 9;
    REQUIRE(client.send(dump));
    const auto replies = client.receive();
    REQUIRE(replies.size() == 5);
    const std::string_view order[] = {"10.0.0.5", "10.0.0.3", "10.0.0.2", "10.0.0.4", "10.0.0.1"};
    for (std::size_t i = 0; i < 5; ++i) {
        CHECK(replies[i].message.source == end_point(order[i]));
        CHECK(replies[i].message.seq == 4 - i);
        CHECK(replies[i].message.pid == 9);
        CHECK(replies[i].message.current);
        CHECK(replies[i].message.hard);
    }
}
