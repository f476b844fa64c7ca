// SPDX-License-Identifier: BSD-2-Clause
#include "script.hpp"

#include "setkey/print.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <set>

using namespace latchkey;
using namespace latchkey::setkey;
using namespace latchkey::setkey::test;

namespace {

constexpr std::uint64_t created = 1'700'000'000;   // what the recorded dump was answered with
constexpr std::int64_t now = 1'700'000'123;

struct Utc {
    Utc()
    {
        setenv("TZ", "UTC", 1);
        tzset();
    }
};
const Utc utc;

void replace(std::string& text, std::string_view from, std::string_view to)
{
    for (auto at = text.find(from); at != text.npos; at = text.find(from, at + to.size()))
        text.replace(at, from.size(), to);
}

std::string expected_dump()
{
    auto text = read("dump-format.txt");
    replace(text, "current: <now>", "current: Nov 14 22:15:23 2023");
    replace(text, "<age>", "123");
    replace(text, "spid=<pid>", "spid=48");
    replace(text, "<pid>", "20534");
    return text;
}

// The answer of the recorded host to the message that made the entry.
void complete(Message& m, std::uint32_t seq)
{
    m.seq = seq;
    m.pid = 20534;
    m.current = m.sa ? Lifetime{5, 1234, created, created + 10} : Lifetime{0, 0, created, 0};
    if (m.sa)
        m.sa->state = SADB_SASTATE_MATURE;
    if (m.policy)
        m.policy->id = 48;
}

Message mature(SaExt sa, std::uint8_t satype)
{
    Message m;
    m.satype = satype;
    sa.state = SADB_SASTATE_MATURE;
    m.sa = sa;
    m.sa2 = Sa2Ext{};
    m.current = Lifetime{};
    m.source = AddressExt{255, 32, {*Address::parse("10.0.0.1")}};
    m.destination = AddressExt{255, 32, {*Address::parse("10.0.0.2")}};
    return m;
}

std::string printed_sa(const Message& m, bool ports = false)
{
    std::string out;
    append_sa(out, m, {ports, now});
    return out;
}

std::string printed_policy(const Message& m, bool ports = false)
{
    std::string out;
    append_policy(out, m, {ports, now});
    return out;
}

Message selector(std::uint8_t protocol, std::uint16_t a, std::uint16_t b)
{
    Message m;
    m.policy = PolicyExt{IPSEC_POLICY_NONE, IPSEC_DIR_INBOUND, 8, 0, {}};
    m.source = AddressExt{protocol, 24, {*Address::parse("10.0.1.0"), a}};
    m.destination = AddressExt{protocol, 32, {*Address::parse("10.0.0.2"), b}};
    return m;
}

std::string first_line(const std::string& text)
{
    return text.substr(0, text.find('\n'));
}

bool contains(const std::string& text, std::string_view part)
{
    return text.find(part) != text.npos;
}

}  // namespace

TEST_CASE("golden: the recorded `dump; spddump;`, byte for byte")
{
    const auto parsed = parse(read("dump-format.cf"));
    std::vector<Message> sas, policies;
    for (const auto& command : parsed.commands)
        build(command, {true}, [&](const Message& m, bool) {
            if (m.type == SADB_ADD)
                sas.push_back(m);
            if (m.type == SADB_X_SPDADD)
                policies.push_back(m);
        });
    REQUIRE(sas.size() == 4);
    REQUIRE(policies.size() == 6);
    std::string out;
    for (std::size_t i = 0; i < sas.size(); ++i) {
        complete(sas[i], static_cast<std::uint32_t>(sas.size() - 1 - i));
        append_sa(out, sas[i], {false, now});
    }
    for (std::size_t i = 0; i < policies.size(); ++i) {
        complete(policies[i], static_cast<std::uint32_t>(policies.size() - 1 - i));
        append_policy(out, policies[i], {false, now});
    }
    CHECK(out == expected_dump());
}

TEST_CASE("a key breaks its line every 32 bytes, null shows none")
{
    std::vector<std::uint8_t> key(64, 0xab);
    auto m = mature({1, 0, 0, SADB_X_AALG_SHA2_512HMAC, SADB_EALG_NULL, 0}, SADB_SATYPE_ESP);
    m.cipher_key = KeyExt{0, {}};
    m.auth_key = KeyExt{512, key};
    const std::string line = " abababab abababab abababab abababab abababab abababab abababab abababab\n";
    CHECK(contains(printed_sa(m), "\tE: null \n\tA: hmac-sha512 " + line + line + "\tseq="));
}

TEST_CASE("--oneline: an entry is a line, its key one word")
{
    std::vector<std::uint8_t> key(64, 0xab);
    auto m = mature({256, 32, 0, SADB_X_AALG_SHA2_512HMAC, SADB_EALG_NULL, SADB_X_EXT_CYCSEQ}, SADB_SATYPE_ESP);
    m.cipher_key = KeyExt{0, {}};
    m.auth_key = KeyExt{512, key};
    m.seq = 2;
    m.pid = 7;
    m.current->addtime = created;
    std::string out;
    append_sa(out, m, {.now = now, .one_line = true});
    std::string hex;
    for (int i = 0; i < 64; ++i)
        hex += "ab";
    CHECK(out == "10.0.0.1 10.0.0.2 esp mode=any spi=256(0x00000100) reqid=0(0x00000000) E: null A: hmac-sha512 " + hex +
                     " seq=0x00000000 replay=32 flags=0x00000040 state=mature created: Nov 14 22:13:20 2023 "
                     "current: Nov 14 22:15:23 2023 diff: 123(s) hard: 0(s) soft: 0(s) last: hard: 0(s) soft: 0(s) "
                     "current: 0(bytes) hard: 0(bytes) soft: 0(bytes) allocated: 0 hard: 0 soft: 0 "
                     "sadb_seq=2 pid=7 refcnt=0\n");
    m.satype = SADB_X_SATYPE_IPCOMP;
    m.sa->encrypt = SADB_X_CALG_DEFLATE;
    append_sa(out, m, {.now = now, .one_line = true});
    CHECK(std::count(out.begin(), out.end(), '\n') == 2);
    CHECK(contains(out, " C: deflate A: hmac-sha512 "));

    auto policy = selector(ip_proto::tcp, 0, 80);
    policy.policy->type = IPSEC_POLICY_IPSEC;
    policy.policy->requests.resize(2);
    policy.policy->requests[1].protocol = ip_proto::ah;
    policy.policy->requests[1].level = Level::require;
    std::string line;
    append_policy(line, policy, {.now = now, .one_line = true});
    CHECK(line == "10.0.1.0/24[any] 10.0.0.2[80] tcp in ipsec esp/transport//default ah/transport//require "
                  "created: lastused: lifetime: 0(s) validtime: 0(s) spid=8 seq=0 pid=0 refcnt=0\n");
}

TEST_CASE("a key that does not end at a group or line")
{
    std::vector<std::uint8_t> key(38, 0xab);
    auto m = mature({1, 0, 0, SADB_X_AALG_TCP_MD5, 0, 0}, SADB_SATYPE_AH);
    m.auth_key = KeyExt{304, key};
    CHECK(contains(printed_sa(m), "\tA: tcp-md5  abababab abababab abababab abababab abababab abababab abababab abababab\n"
                                  " abababab abab\n\tseq="));
}

TEST_CASE("what -x says in a line")
{
    const auto summary = [](const Message& m) {
        std::string out;
        append_summary(out, m.bytes());
        return out;
    };
    auto m = mature({0x1000}, SADB_SATYPE_ESP);
    m.type = SADB_ADD;
    m.seq = 5;
    m.pid = 7;
    m.sa2->mode = IPSEC_MODE_TUNNEL;
    m.sa2->reqid = 9;
    CHECK(summary(m) == "ADD esp 10.0.0.1 -> 10.0.0.2 spi=0x00001000 mode=tunnel reqid=9 seq=5 pid=7\n");
    m.natt_source_port = 4500;
    m.natt_destination_port = 4501;
    m.error = EEXIST;
    m.reason = "taken\nalready";
    CHECK(summary(m) == "ADD esp 10.0.0.1[4500] -> 10.0.0.2[4501] spi=0x00001000 mode=tunnel reqid=9 seq=5 pid=7: "
                        "File exists (taken.already)\n");
    m = mature({0x1000}, SADB_SATYPE_AH);
    m.type = SADB_EXPIRE;
    m.soft = Lifetime{};
    CHECK(summary(m) == "EXPIRE ah 10.0.0.1 -> 10.0.0.2 spi=0x00001000 mode=any soft seq=0 pid=0\n");
    m.soft.reset();
    m.hard = Lifetime{};
    CHECK(contains(summary(m), " hard seq="));

    auto policy = selector(ip_proto::tcp, 0, 80);
    policy.type = SADB_X_SPDADD;
    policy.policy->type = IPSEC_POLICY_IPSEC;
    policy.policy->requests = {Request{}};
    CHECK(summary(policy) == "X_SPDADD 10.0.1.0/24[any] -> 10.0.0.2[80] tcp in ipsec esp/transport//default spid=8 "
                             "seq=0 pid=0\n");
    Message getspi;
    getspi.type = SADB_GETSPI;
    getspi.satype = SADB_SATYPE_ESP;
    getspi.spi_range = SpiRangeExt{256, 511};
    CHECK(summary(getspi) == "GETSPI esp spi=0x00000100-0x000001ff seq=0 pid=0\n");
    Message promisc;
    promisc.type = SADB_X_PROMISC;
    promisc.satype = 1;
    CHECK(summary(promisc) == "X_PROMISC seq=0 pid=0\n");

    std::string broken;
    auto record = mature({0x1000}, SADB_SATYPE_ESP).bytes();
    record[16] = 0;
    append_summary(broken, record);
    CHECK(contains(broken, "? esp seq=0 pid=0: malformed: "));
}

TEST_CASE("every extension is shown, by its own format or by name")
{
    const std::vector<std::uint8_t> body{1, 2, 3, 4};
    Message m;
    m.natt_type = 2;
    m.natt_source_port = 4500;
    m.natt_fragment = 1400;
    m.sa_replay = 4096;
    m.kmaddress = Bytes(body);
    m.reason = "because\x01";
    std::string out;
    append_record(out, m.bytes());
    for (const auto* text : {"sadb_x_nat_t_type{ type=2 }\n", "sadb_x_nat_t_port{ port=4500 }\n", "X_NAT_T_FRAG{ 1400 }\n",
                             "X_SA_REPLAY{ 4096 }\n", "X_KMADDRESS{ 4 bytes }\n", "X_REASON{ 'because.' }\n"}) {
        CAPTURE(text);
        CHECK(contains(out, text));
    }
}

TEST_CASE("states, modes, numbers without a name")
{
    auto m = mature({256, 0, 0, 77, 99, 0}, SADB_SATYPE_ESP);
    m.cipher_key = KeyExt{0, {}};
    m.sa2->mode = IPSEC_MODE_TRANSPORT;
    const std::pair<int, const char*> states[] = {
        {0, "larval"}, {1, "mature"}, {2, "dying"}, {3, "dead"}, {9, "unknown"}};
    for (const auto& [state, word] : states) {
        m.sa->state = static_cast<std::uint8_t>(state);
        CHECK(contains(printed_sa(m), std::string(" state=") + word + " \n"));
    }
    CHECK(contains(printed_sa(m), "\tesp mode=transport spi=256(0x00000100) reqid=0(0x00000000)\n\tE: 99 \n"));
    m.sa2->mode = 7;
    CHECK(contains(printed_sa(m), "mode=unknown"));
    m.sa_replay = 4096;
    CHECK(contains(printed_sa(m), "replay=4096"));
}

TEST_CASE("NAT-T: ports always, the original address; -p: ports of other addresses")
{
    auto m = mature({256}, SADB_SATYPE_ESP);
    m.source->endpoint.port = 500;
    CHECK(first_line(printed_sa(m)) == "10.0.0.1 10.0.0.2 ");
    CHECK(first_line(printed_sa(m, true)) == "10.0.0.1[500] 10.0.0.2 ");
    m.natt_type = 2;
    m.natt_source_port = 4500;
    m.natt_destination_port = 4501;
    m.natt_original = AddressExt{0, 32, {*Address::parse("192.168.0.1")}};
    CHECK(first_line(printed_sa(m)) == "10.0.0.1[4500] 10.0.0.2[4501] ");
    CHECK(contains(printed_sa(m), "\n\tesp-udp mode=any spi=256(0x00000100) reqid=0(0x00000000)\n"
                                  "\tNAT OA=192.168.0.1\n"));
}

TEST_CASE("an SA without what every dumped SA has")
{
    auto m = mature({256}, SADB_SATYPE_ESP);
    m.sa2.reset();
    CHECK(printed_sa(m) == "no SA2 extension.\n");
    m = mature({256}, SADB_SATYPE_ESP);
    m.current.reset();
    CHECK(printed_sa(m) == "no LIFETIME_CURRENT extension.\n");
    CHECK(printed_sa(Message{}) == "no SA extension.\n");
    m.source.reset();
    CHECK(printed_sa(m) == "no ADDRESS extension.\n");
    CHECK(printed_policy(Message{}) == "no X_POLICY extension.\n");
}

TEST_CASE("selectors of every kind")
{
    CHECK(first_line(printed_policy(selector(ip_proto::udp, 0, 53))) == "10.0.1.0/24[any] 10.0.0.2[53] udp");
    CHECK(first_line(printed_policy(selector(255, 0, 0))) == "10.0.1.0/24[any] 10.0.0.2[any] 255");
    CHECK(first_line(printed_policy(selector(ip_proto::icmp, 8, 0))) == "10.0.1.0/24 10.0.0.2 icmp 8,0");
    CHECK(first_line(printed_policy(selector(ip_proto::icmp, 0, 0))) == "10.0.1.0/24 10.0.0.2 icmp");
    CHECK(first_line(printed_policy(selector(47, 0x1234, 0x5678))) == "10.0.1.0/24 10.0.0.2 gre 305419896");
    CHECK(first_line(printed_policy(selector(200, 0, 0))) == "10.0.1.0/24[any] 10.0.0.2[any] 200");
}

TEST_CASE("policies without selectors belong to sockets")
{
    auto m = selector(255, 0, 0);
    CHECK_FALSE(is_socket_policy(m));
    m.source.reset();
    CHECK(is_socket_policy(m));
    CHECK(first_line(printed_policy(m)) == "(no selector, probably per-socket policy)");
    m.policy->id = 11;
    CHECK(first_line(printed_policy(m)) == "(per-socket policy)");
}

TEST_CASE("lifetimes of a policy")
{
    auto m = selector(255, 0, 0);
    m.current = Lifetime{0, 0, created, created + 10};
    m.hard = Lifetime{0, 0, 3600, 60};
    CHECK(contains(printed_policy(m), "\tcreated: Nov 14 22:13:20 2023  lastused: Nov 14 22:13:30 2023\n"
                                      "\tlifetime: 3600(s) validtime: 60(s)\n"));
}

TEST_CASE("times: a column of 20, blank for never")
{
    CHECK(time_text(created) == "Nov 14 22:13:20 2023");
    CHECK(time_text(86'400) == "Jan  2 00:00:00 1970");
    CHECK(time_text(0) == std::string(20, ' '));
    CHECK_FALSE(time_text(~std::uint64_t{0}).empty());   // beyond every calendar: no crash
}

TEST_CASE("one line per SA")
{
    std::string out;
    auto m = mature({0x1000}, SADB_SATYPE_ESP);
    m.current->addtime = created;
    m.hard = Lifetime{0, 0, 3600, 0};
    append_short_heading(out);
    append_short_sa(out, m, {false, now});
    CHECK(out == "time p    s spi      ltime    src -> dst\n"
                 "2215 esp  M 00001000 123/3600 10.0.0.1 -> 10.0.0.2\n");
}

TEST_CASE("a record field by field, without the key")
{
    const auto parsed = parse("add 10.0.0.1 10.0.0.2 esp 256 -lh 60 -E aes-cbc \"secretsecretsecr\";");
    auto record = records(parsed.commands, true).at(0);
    std::string out;
    append_record(out, record);
    CHECK(out.starts_with("sadb_msg{ version=2 type=3 errno=0 satype=3\n  len="));
    CHECK(contains(out, "sadb_ext{ len=3 type=9 }\nsadb_key{ bits=128 }\n"));
    CHECK(contains(out, "sadb_sa{ spi=256 replay=0 state=0\n  auth=0 encrypt=12 flags=0x00000040 }\n"));
    CHECK(contains(out, "sadb_lifetime{ alloc=0, bytes=0\n  addtime=60, usetime=0 }\n"));
    CHECK_FALSE(contains(out, "secret"));
    CHECK_FALSE(contains(out, "73656372"));

    SUBCASE("and in hexadecimal")
    {
        std::string hex;
        append_hex_dump(hex, Bytes(record).first(40));
        CHECK(hex.starts_with("00000000: 02 03 00 03 "));
        CHECK(hex.find("\n00000010: ") == 58);   // 16 bytes to a line
        CHECK(std::count(hex.begin(), hex.end(), '\n') == 3);
    }
    SUBCASE("wrapped by a promiscuous socket")
    {
        std::vector<std::uint8_t> wrapped{2, SADB_X_PROMISC, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
        wrapped.insert(wrapped.end(), record.begin(), record.end());
        std::string inner;
        append_record(inner, wrapped);
        CHECK(inner == out);
    }
    SUBCASE("cut short at every length")
    {
        std::set<std::size_t> borders{16};
        for (std::size_t at = 16; at < record.size(); borders.insert(at))
            at += std::size_t{record[at]} * 8;
        for (std::size_t n = 0; n < record.size(); ++n) {
            std::string cut;
            append_record(cut, Bytes(record).first(n));
            CHECK(contains(cut, "is no PF_KEY message") == (n < 16));
            // Whole up to a border between extensions: the header, then LIFETIME, KEY_ENCRYPT and so on.
            CHECK(contains(cut, "malformed") == (n >= 16 && !borders.contains(n)));
        }
    }
    SUBCASE("with an extension that does not advance")
    {
        record[16] = record[17] = 0;
        std::string broken;
        append_record(broken, record);
        CHECK(contains(broken, "malformed: the length of an extension is wrong"));
    }
}
