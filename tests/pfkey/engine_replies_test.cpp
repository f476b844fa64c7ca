// SPDX-License-Identifier: BSD-2-Clause
// What is answered to good messages about SAs: one row per message, with exactly the extensions of the answer and who
// gets it (RFC 2367 §3.1; KAME where the two differ).
#include "tests/pfkey/engine_fixture.hpp"
#include "tests/pfkey/records.hpp"

#include <algorithm>
#include <map>

using namespace latchkey;
using namespace latchkey::test;

namespace {

using Types = std::vector<std::uint16_t>;

constexpr std::uint32_t mature_spi = 0x2000, larval_spi = 0x3000;

enum class To : std::uint8_t { sender, registered, all, nobody };

struct Exchange {
    std::string_view name;
    Message (*message)();
    To to;
    Types extensions;          // of the answer, ascending
    std::size_t sas_after;     // in the SAD; three before
};

Message with(Message m, void (*change)(Message&))
{
    change(m);
    return m;
}

const Types sd{SADB_EXT_ADDRESS_SRC, SADB_EXT_ADDRESS_DST};
const Types sa_sd{SADB_EXT_SA, SADB_EXT_ADDRESS_SRC, SADB_EXT_ADDRESS_DST};
const Types supported{SADB_EXT_SUPPORTED_AUTH, SADB_EXT_SUPPORTED_ENCRYPT};
const Types whole_sa{SADB_EXT_SA,           SADB_EXT_LIFETIME_CURRENT, SADB_EXT_ADDRESS_SRC, SADB_EXT_ADDRESS_DST,
                     SADB_EXT_KEY_AUTH,     SADB_EXT_KEY_ENCRYPT,      SADB_X_EXT_SA2};

Types plus(Types types, const Types& more)
{
    types.insert(types.end(), more.begin(), more.end());
    std::ranges::sort(types);
    return types;
}

// clang-format off
const Exchange exchanges[] = {
    {"GETSPI", [] { return sa_message(SADB_GETSPI, std::nullopt); }, To::sender, sa_sd, 4},
    {"GETSPI with a range, mode and reqid", [] { return with(sa_message(SADB_GETSPI, std::nullopt), [](Message& m) {
        m.spi_range = SpiRangeExt{0x100, 0x200};
        m.sa2 = Sa2Ext{IPSEC_MODE_TUNNEL, 0, 5}; }); }, To::sender, sa_sd, 4},
    {"UPDATE of a larval SA", [] { return keyed(SADB_UPDATE, larval_spi); }, To::all, sa_sd, 3},
    {"UPDATE of limits", [] { return with(sa_message(SADB_UPDATE, mature_spi), [](Message& m) {
        m.hard = Lifetime{0, 0, 100, 0}; }); }, To::all, plus(sa_sd, {SADB_EXT_LIFETIME_HARD}), 3},
    {"ADD", [] { return keyed(SADB_ADD, 0x1000); }, To::all, sa_sd, 4},
    {"ADD with everything", [] { return with(keyed(SADB_ADD, 0x1000), [](Message& m) {
        m.sa2 = Sa2Ext{IPSEC_MODE_TUNNEL, 0, 5};
        m.hard = m.soft = m.current = Lifetime{1, 1, 1, 1};
        m.proxy = end_point("0.0.0.0");
        m.source_identity = m.destination_identity = IdentityExt{SADB_IDENTTYPE_FQDN, 0, "a"};
        m.natt_type = 2;
        m.natt_original = end_point("192.168.0.1");
        m.sa_replay = 64; }); }, To::all,
        plus(sa_sd, {SADB_EXT_LIFETIME_CURRENT, SADB_EXT_LIFETIME_HARD, SADB_EXT_LIFETIME_SOFT, SADB_EXT_ADDRESS_PROXY,
            SADB_EXT_IDENTITY_SRC, SADB_EXT_IDENTITY_DST, SADB_X_EXT_SA2, SADB_X_EXT_NAT_T_TYPE, SADB_X_EXT_NAT_T_SPORT,
            SADB_X_EXT_NAT_T_DPORT, SADB_X_EXT_NAT_T_OA, SADB_X_EXT_SA_REPLAY}), 4},
    {"ADD, AH", [] { return with(keyed(SADB_ADD, 0x1000), [](Message& m) {
        m.satype = SADB_SATYPE_AH;
        m.sa->encrypt = SADB_EALG_NONE;
        m.cipher_key = KeyExt{}; }); }, To::all, sa_sd, 4},
    {"ADD, IPComp", [] { return with(sa_message(SADB_ADD, 0x1000), [](Message& m) {
        m.satype = SADB_X_SATYPE_IPCOMP;
        m.sa->encrypt = SADB_X_CALG_DEFLATE; }); }, To::all, sa_sd, 4},
    {"DELETE", [] { return sa_message(SADB_DELETE, mature_spi); }, To::all, sa_sd, 2},
    {"DELETE of a larval SA", [] { return sa_message(SADB_DELETE, larval_spi); }, To::all, sa_sd, 2},
    {"DELETE of all between two hosts, but for larval ones", [] { return sa_message(SADB_DELETE, std::nullopt); },
        To::all, sd, 2},
    {"DELETE where nothing is", [] { return sa_message(SADB_DELETE, std::nullopt, "10.7.7.7"); }, To::all, sd, 3},
    {"GET", [] { return sa_message(SADB_GET, mature_spi); }, To::sender, whole_sa, 3},
    {"GET of a larval SA", [] { return sa_message(SADB_GET, larval_spi); }, To::sender,
        plus(sa_sd, {SADB_EXT_LIFETIME_CURRENT, SADB_X_EXT_SA2}), 3},
    {"ACQUIRE from a user", [] { return with(sa_message(SADB_ACQUIRE, std::nullopt, "10.0.0.8"), [](Message& m) {
        m.proposal = ProposalExt{32, {Combination{}}}; }); }, To::registered, plus(sd, {SADB_EXT_PROPOSAL}), 3},
    {"ACQUIRE that failed", [] { return with(bare(SADB_ACQUIRE, SADB_SATYPE_ESP), [](Message& m) {
        m.error = ETIMEDOUT; }); }, To::nobody, {}, 3},
    {"REGISTER", [] { return bare(SADB_REGISTER, SADB_SATYPE_ESP); }, To::registered, supported, 3},
    {"REGISTER for nothing", [] { return bare(SADB_REGISTER); }, To::registered, supported, 3},
    {"FLUSH of a type", [] { return bare(SADB_FLUSH, SADB_SATYPE_ESP); }, To::all, {}, 1},
    {"FLUSH of a type without SAs", [] { return bare(SADB_FLUSH, SADB_X_SATYPE_IPCOMP); }, To::all, {}, 3},
    {"FLUSH", [] { return bare(SADB_FLUSH); }, To::all, {}, 0},
    {"DUMP of one SA", [] { return bare(SADB_DUMP, SADB_SATYPE_AH); }, To::sender,
        {SADB_EXT_SA, SADB_EXT_LIFETIME_CURRENT, SADB_EXT_ADDRESS_SRC, SADB_EXT_ADDRESS_DST, SADB_EXT_KEY_AUTH,
            SADB_X_EXT_SA2}, 3},
    {"X_PROMISC off", [] { return bare(SADB_X_PROMISC, 0); }, To::all, {}, 3},
};
// clang-format on

Types types_of(const Reply& reply)
{
    Types types;
    for (const auto& extension : extensions_of(reply.record))
        types.push_back(extension.type);
    std::ranges::sort(types);
    return types;
}

}  // namespace

TEST_CASE("each good message has its answer, with exactly its extensions, and its recipients")
{
    for (const auto& row : exchanges) {
        CAPTURE(row.name);
        Host host;
        Client sender(host.engine, host.now), daemon(host.engine, host.now), bystander(host.engine, host.now);
        REQUIRE(daemon.error_of(bare(SADB_REGISTER, SADB_SATYPE_ESP)) == 0);
        REQUIRE(sender.error_of(keyed(SADB_ADD, mature_spi)) == 0);
        Message ah = keyed(SADB_ADD, 0x2001, "10.0.0.5");
        ah.satype = SADB_SATYPE_AH;
        ah.sa->encrypt = SADB_EALG_NONE;
        ah.cipher_key.reset();
        REQUIRE(sender.error_of(ah) == 0);
        Message getspi = sa_message(SADB_GETSPI, std::nullopt);
        getspi.spi_range = SpiRangeExt{larval_spi, larval_spi};
        REQUIRE(sender.error_of(getspi) == 0);
        daemon.receive();
        bystander.receive();

        Message m = row.message();
        m.pid = 4711;
        m.seq = m.seq == 0 ? 99 : m.seq;
        REQUIRE(sender.send(m).has_value());
        const std::map<const Client*, bool> expected{{&sender, row.to != To::nobody},
                                                     {&daemon, row.to == To::registered || row.to == To::all},
                                                     {&bystander, row.to == To::all}};
        for (Client* client : {&sender, &daemon, &bystander}) {
            const auto replies = client->receive();
            REQUIRE(replies.size() == expected.at(client));
            for (const auto& reply : replies) {
                CHECK(reply.message.type == m.type);
                CHECK(reply.message.error == 0);
                CHECK(reply.message.satype == m.satype);
                CHECK(reply.message.pid == 4711);
                CHECK(reply.message.seq == (m.type == SADB_DUMP ? 0 : 99));
                Types wanted = row.extensions;
                if (client != &sender)   // what they cannot know
                    std::erase_if(wanted, [](auto type) { return type > SADB_EXT_MAX; });
                CHECK(types_of(reply) == wanted);
            }
        }
        CHECK(host.engine.sad().size() == row.sas_after);
    }
}
