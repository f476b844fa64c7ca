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

namespace {

// One way to spoil a good SPD message, and what comes of it. The rows follow reference tables: KAME's checks before
// dispatch, then those of X_SPDADD and X_SPDDELETE.
struct BadInput {
    std::string_view name;
    void (*spoil)(Message&);
    int number;
    std::string_view words;   // part of the reason
};

constexpr BadInput bad_everywhere[] = {
    {"SA type ESP", [](Message& m) { m.satype = SADB_SATYPE_ESP; }, EINVAL, "SA type 0"},
    {"SA type AH", [](Message& m) { m.satype = SADB_SATYPE_AH; }, EINVAL, "SA type 0"},
    {"SA type IPComp", [](Message& m) { m.satype = SADB_X_SATYPE_IPCOMP; }, EINVAL, "SA type 0"},
    {"SA type RSVP", [](Message& m) { m.satype = SADB_SATYPE_RSVP; }, EOPNOTSUPP, "not offered"},
    {"SA type OSPFV2", [](Message& m) { m.satype = SADB_SATYPE_OSPFV2; }, EOPNOTSUPP, "not offered"},
    {"SA type RIPV2", [](Message& m) { m.satype = SADB_SATYPE_RIPV2; }, EOPNOTSUPP, "not offered"},
    {"SA type MIP", [](Message& m) { m.satype = SADB_SATYPE_MIP; }, EOPNOTSUPP, "not offered"},
    {"SA type 77", [](Message& m) { m.satype = 77; }, EINVAL, "no SA type"},
    {"no policy", [](Message& m) { m.policy.reset(); }, EINVAL, "needs ADDRESS_SRC, ADDRESS_DST and X_POLICY"},
    {"no source", [](Message& m) { m.source.reset(); }, EINVAL, "needs ADDRESS_SRC, ADDRESS_DST and X_POLICY"},
    {"no destination", [](Message& m) { m.destination.reset(); }, EINVAL, "needs ADDRESS_SRC, ADDRESS_DST and X_POLICY"},
    {"direction any", [](Message& m) { m.policy->direction = IPSEC_DIR_ANY; }, EINVAL, "none of in, out, fwd"},
    {"direction 4", [](Message& m) { m.policy->direction = 4; }, EINVAL, "none of in, out, fwd"},
    {"direction 255", [](Message& m) { m.policy->direction = 255; }, EINVAL, "none of in, out, fwd"},
    {"mixed families", [](Message& m) { m.destination = end_point("fd00::/64"); }, EINVAL, "different families"},
    {"source prefix 33", [](Message& m) { m.source->prefix_length = 33; }, EINVAL, "longer than the address"},
    {"destination prefix 33", [](Message& m) { m.destination->prefix_length = 33; }, EINVAL, "longer than the address"},
    {"IPv6 prefix 129",
     [](Message& m) {
         m.source = m.destination = end_point("fd00::/64");
         m.destination->prefix_length = 129;
     },
     EINVAL, "longer than the address"},
    {"protocols differ", [](Message& m) { m.destination->protocol = 6; }, EINVAL, "different protocols"},
    {"a source of another family", [](Message& m) { m.source->endpoint.address = Address(); }, EAFNOSUPPORT,
     "neither IPv4 nor IPv6"},
    {"a destination of another family", [](Message& m) { m.destination->endpoint.address = Address(); }, EAFNOSUPPORT,
     "neither IPv4 nor IPv6"},
    {"a security label", [](Message& m) { m.security_context = Bytes(cipher_key).first(12); }, EOPNOTSUPP,
     "security labels"},
};

constexpr BadInput bad_to_add[] = {
    {"entrust", [](Message& m) { m.policy->type = IPSEC_POLICY_ENTRUST; }, EINVAL, "for sockets"},
    {"bypass", [](Message& m) { m.policy->type = IPSEC_POLICY_BYPASS; }, EINVAL, "for sockets"},
    {"type 5", [](Message& m) { m.policy->type = 5; }, EINVAL, "none of discard, none, ipsec"},
    {"ipsec without requests", [](Message& m) { m.policy->requests.clear(); }, EINVAL, "at least one request"},
    {"level 4", [](Message& m) { m.policy->requests[0].level = Level{4}; }, EINVAL, "none of default, use"},
    {"mode 3", [](Message& m) { m.policy->requests[0].mode = Mode{3}; }, EINVAL, "neither transport nor tunnel"},
    {"a tunnel of two families", [](Message& m) { m.policy->requests[0] = esp_tunnel("10.0.0.1", "fd00::1"); }, EINVAL,
     "two addresses of one family"},
    {"a tunnel without end points", [](Message& m) { m.policy->requests[0].mode = Mode::tunnel; }, EINVAL,
     "two addresses of one family"},
    {"a request for UDP", [](Message& m) { m.policy->requests[0].protocol = 17; }, EPROTONOSUPPORT,
     "none of esp, ah, ipcomp"},
    {"a request for protocol 0", [](Message& m) { m.policy->requests[0].protocol = 0; }, EPROTONOSUPPORT,
     "none of esp, ah, ipcomp"},
    {"a bad second request",
     [](Message& m) { m.policy->requests.emplace_back(esp_request()).protocol = ip_proto::tcp; }, EPROTONOSUPPORT,
     "none of esp, ah, ipcomp"},
    {"17 requests", [](Message& m) { m.policy->requests.resize(17, esp_request()); }, ENOBUFS, "more than 16"},
};

// Refused with the errno and the words, to the sender alone; the SPD stays as it is, and so does what caches stand on.
void check_refused(std::uint8_t type, const BadInput& bad)
{
    INFO(message_name(type), ": ", bad.name);
    Host host;
    Client client(host.engine, host.now), other(host.engine, host.now);
    Message good = out_policy;
    REQUIRE(client.error_of(good) == 0);
    other.receive();
    const auto generation = host.engine.generation();
    Message m = out_policy;
    m.type = type;
    m.source = type == SADB_X_SPDDELETE ? m.source : end_point("10.3.0.0/24");
    bad.spoil(m);
    CHECK(client.error_of(m) == bad.number);
    CHECK_MESSAGE(host.engine.last_error(client.id()).find(bad.words) != std::string_view::npos,
                  host.engine.last_error(client.id()));
    CHECK(host.engine.spd().size() == 1);
    CHECK(host.engine.generation() == generation);
    CHECK(other.receive().empty());
}

}  // namespace

TEST_CASE("what an SPD message may not say: errno, words, and nothing is stored or told")
{
    for (const auto type : {SADB_X_SPDADD, SADB_X_SPDUPDATE, SADB_X_SPDSETIDX, SADB_X_SPDDELETE})
        for (const auto& bad : bad_everywhere)
            check_refused(static_cast<std::uint8_t>(type), bad);
    for (const auto type : {SADB_X_SPDADD, SADB_X_SPDUPDATE})
        for (const auto& bad : bad_to_add)
            check_refused(static_cast<std::uint8_t>(type), bad);
}

TEST_CASE("messages about ids and about the whole SPD: what they refuse")
{
    struct Row {
        std::string_view name;
        Message message;
        int number;
    };
    Message long_flush = bare(SADB_X_SPDFLUSH);
    long_flush.source = end_point("10.0.0.1");
    const Row rows[] = {
        {"SPDGET without a policy", bare(SADB_X_SPDGET), EINVAL},
        {"SPDGET of an unknown id", by_id(SADB_X_SPDGET, 4711), ENOENT},
        {"SPDDELETE2 without a policy", bare(SADB_X_SPDDELETE2), EINVAL},
        {"SPDDELETE2 of an unknown id", by_id(SADB_X_SPDDELETE2, 4711), ENOENT},
        {"SPDDELETE2 of id 0", by_id(SADB_X_SPDDELETE2, 0), ENOENT},
        {"SPDDUMP of an empty SPD", bare(SADB_X_SPDDUMP), ENOENT},
        {"SPDDUMP with SA type ESP", bare(SADB_X_SPDDUMP, SADB_SATYPE_ESP), EINVAL},
        {"SPDFLUSH with SA type ESP", bare(SADB_X_SPDFLUSH, SADB_SATYPE_ESP), EINVAL},
        {"SPDFLUSH that is longer than its header", long_flush, EINVAL},
        {"SPDACQUIRE from a user", bare(SADB_X_SPDACQUIRE), EINVAL},
        {"SPDEXPIRE from a user", bare(SADB_X_SPDEXPIRE), EINVAL},
        {"NAT_T_NEW_MAPPING from a user", bare(SADB_X_NAT_T_NEW_MAPPING), EINVAL},
        {"PCHANGE", bare(SADB_X_PCHANGE), EINVAL},
    };
    Host host;
    Client client(host.engine, host.now), other(host.engine, host.now);
    for (const auto& row : rows) {
        INFO(row.name);
        CHECK(client.error_of(row.message) == row.number);
    }
    CHECK(other.receive().empty());
}

TEST_CASE("discard and none have no requests: what comes is neither kept nor repeated (KAME)")
{
    Host host;
    Client client(host.engine, host.now);
    Message m = out_policy;
    m.policy->type = IPSEC_POLICY_NONE;
    const Reply added = client.ask(m);
    CHECK(added.message.error == 0);
    CHECK(added.message.policy->requests.empty());
    CHECK(host.engine.spd().find(added.message.policy->id)->requests.empty());
}

TEST_CASE("OpenIKED on Linux: SPDUPDATE as add, with an X_SA2 that says nothing, and SPDDELETE with the same requests")
{
    Host host;
    Client client(host.engine, host.now);
    for (const auto direction : {Direction::fwd, Direction::out, Direction::in}) {
        Message m = policy_message(SADB_X_SPDUPDATE, direction, "10.1.0.0/16", "10.2.0.0/16",
                                   {esp_tunnel("192.0.2.1", "192.0.2.2")});
        m.sa2 = Sa2Ext{};
        const Reply added = client.ask(m);
        CHECK(added.message.error == 0);
        CHECK(added.message.policy->id != 0);
        m.type = SADB_X_SPDDELETE;
        CHECK(client.error_of(m) == 0);
    }
    CHECK(host.engine.no_policies());
}

TEST_CASE("unique may name any reqid, as on Linux; those that the host chooses never meet one that is in use")
{
    Host host;
    Client client(host.engine, host.now);
    const auto add = [&](std::string_view source, std::uint32_t reqid) {
        return client.ask(policy_message(SADB_X_SPDADD, Direction::out, source, "10.9.0.1",
                                         {esp_request(Level::unique, reqid)})).message.policy.value();
    };
    CHECK(add("10.0.0.1", 0x4000).requests[0].reqid == 0x4000);
    CHECK(add("10.0.0.2", 0x4001).requests[0].reqid == 0x4001);
    CHECK(add("10.0.0.3", 0xffffffff).requests[0].reqid == 0xffffffff);
    CHECK(add("10.0.0.4", 0).requests[0].reqid == 0x4002);
    const auto shared = add("10.0.0.5", 0x4003);
    add("10.0.0.6", 0x4003);
    CHECK(client.error_of(by_id(SADB_X_SPDDELETE2, shared.id)) == 0);
    CHECK(add("10.0.0.7", 0).requests[0].reqid == 0x4004);   // 0x4003 is still in use
    REQUIRE(client.error_of(bare(SADB_X_SPDFLUSH)) == 0);
    CHECK(add("10.0.0.8", 0).requests[0].reqid == 0x4005);
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
