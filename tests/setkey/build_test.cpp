// SPDX-License-Identifier: BSD-2-Clause
// Our messages against those that an unmodified setkey sent for the same files (tests/data/setkey/README.md).
#include "script.hpp"

#include <charconv>
#include <map>

using namespace latchkey;
using namespace latchkey::setkey;
using namespace latchkey::setkey::test;

namespace {

// ---- the recordings -------------------------------------------------------------------------------------------------

struct Recording {
    std::string file;
    bool accepted = false;
    std::vector<Record> sent;
};

Record from_hex(std::string_view hex)
{
    Record out;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
        std::uint8_t byte = 0;
        std::from_chars(hex.data() + i, hex.data() + i + 2, byte, 16);
        out.push_back(byte);
    }
    return out;
}

// The value behind "name": of one line; strings have no escapes in what is read here.
std::string_view value_of(std::string_view line, std::string_view name, std::string_view open, char close)
{
    const auto key = line.find(std::string(1, '"') + std::string(name) + "\": " + std::string(open));
    REQUIRE(key != line.npos);
    const auto start = key + name.size() + 4 + open.size();
    return line.substr(start, line.find(close, start) - start);
}

std::vector<Recording> recordings(const std::string& file)
{
    std::vector<Recording> out;
    const auto text = read(file);
    for (std::string_view rest = text; !rest.empty();) {
        const auto line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(std::min(rest.size(), line.size() + 1));
        Recording recording;
        recording.file = value_of(line, "case", "\"", '"');
        recording.accepted = value_of(line, "rc", "", ',') == "0";
        const auto sent = value_of(line, "sent", "[", ']');
        for (std::size_t at = 0; (at = sent.find('"', at)) != sent.npos;) {
            const auto end = sent.find('"', at + 1);
            recording.sent.push_back(from_hex(sent.substr(at + 1, end - at - 1)));
            at = end + 1;
        }
        out.push_back(std::move(recording));
    }
    return out;
}

// ---- masking: what PF_KEY says nobody reads -------------------------------------------------------------------------

std::uint16_t number(const Record& record, std::size_t at)
{
    return static_cast<std::uint16_t>(record.at(at) | record.at(at + 1) << 8);
}

void zero(Record& record, std::size_t from, std::size_t to)
{
    for (auto i = from; i < to; ++i)
        record.at(i) = 0;
}

// Returns the size of the sockaddr.
std::size_t mask_sockaddr(Record& record, std::size_t at)
{
    if (number(record, at) == 2) {
        zero(record, at + 8, at + 16);   // sin_zero
        return 16;
    }
    return 28;
}

void mask_policy(Record& record, std::size_t at, std::size_t end)
{
    zero(record, at + 7, at + 8);
    for (auto request = at + 16; request < end;) {
        const auto size = number(record, request);
        zero(record, request + 6, request + 8);
        zero(record, request + 12, request + 16);
        auto used = request + 16;
        while (used + 16 <= request + size)
            used += mask_sockaddr(record, used);
        zero(record, used, request + size);
        request += size;
    }
}

Record masked(Record record)
{
    for (std::size_t at = 16; at < record.size();) {
        const auto end = at + std::size_t{number(record, at)} * 8;
        const auto type = number(record, at + 2);
        if (type == SADB_EXT_ADDRESS_SRC || type == SADB_EXT_ADDRESS_DST) {
            zero(record, at + 6, at + 8);
            zero(record, at + 8 + mask_sockaddr(record, at + 8), end);
        } else if (type == SADB_EXT_KEY_AUTH || type == SADB_EXT_KEY_ENCRYPT) {
            zero(record, at + 6, at + 8);
            zero(record, at + 8 + (number(record, at + 4) + 7u) / 8, end);
        } else if (type == SADB_X_EXT_POLICY) {
            mask_policy(record, at, end);
        }
        at = end;
    }
    return record;
}

// ---- verdicts -------------------------------------------------------------------------------------------------------

// What we say to each file that the recorded tool did not take, or that was not recorded. "": accepted.
struct Verdict {
    const char* error;
    const char* why;
};

const std::map<std::string, Verdict> verdicts{
    {"freebsd/aes_gcm_128_v4.ipsecA.cf", {"", "aes-gcm-16 is FreeBSD's and ours"}},
    {"freebsd/aes_gcm_128_v4.ipsecB.cf", {"", "aes-gcm-16"}},
    {"freebsd/aes_gcm_128_v6.ipsecA.cf", {"", "aes-gcm-16"}},
    {"freebsd/aes_gcm_128_v6.ipsecB.cf", {"", "aes-gcm-16"}},
    {"freebsd/aes_gcm_256_v4.ipsecA.cf", {"", "aes-gcm-16"}},
    {"freebsd/aes_gcm_256_v4.ipsecB.cf", {"", "aes-gcm-16"}},
    {"freebsd/aes_gcm_256_v6.ipsecA.cf", {"", "aes-gcm-16"}},
    {"freebsd/aes_gcm_256_v6.ipsecB.cf", {"", "aes-gcm-16"}},
    {"freebsd/chacha20_poly1305_v4.ipsecA.cf", {"", "chacha20-poly1305 is FreeBSD's and ours"}},
    {"freebsd/chacha20_poly1305_v4.ipsecB.cf", {"", "chacha20-poly1305"}},
    {"freebsd/chacha20_poly1305_v6.ipsecA.cf", {"", "chacha20-poly1305"}},
    {"freebsd/chacha20_poly1305_v6.ipsecB.cf", {"", "chacha20-poly1305"}},
    {"freebsd/empty_v4.ipsecA.cf", {"", "-E null \"\" is FreeBSD's spelling"}},
    {"freebsd/empty_v4.ipsecB.cf", {"", "-E null \"\""}},
    {"freebsd/empty_v6.ipsecA.cf", {"", "-E null \"\""}},
    {"freebsd/empty_v6.ipsecB.cf", {"", "-E null \"\""}},
    {"manpage/freebsd-setkey8.cf", {"", "aes-gcm-16 with its salt"}},
    {"manpage/freebsd-tcpmd5.cf",
     {"1:27: TCP-MD5 (RFC 2385) is not supported by this stack", "the grammar has it; refused, the rest would run"}},
    {"samples/sample.cf",
     {"157:5: 'rc5-cbc' is not supported by this stack: it was withdrawn from IPsec",
      "the recorded tool stops at the same place; ours refuses this command alone"}},
    {"samples/debian-ipsec-tools.conf", {"", "nothing but comments"}},
    {"samples/tunnel-openbsd-to-debian-example.txt",
     {"1:1: expected a command, got 'This'", "a text about setkey, not a script"}},
    {"dump-format.cf", {"", "the input of the recorded dump"}},
};

void compare(const std::string& recorded, bool forward_copies)
{
    const auto all = recordings(recorded);
    CHECK(all.size() == 30);
    for (const auto& recording : all) {
        CAPTURE(recording.file);
        const auto text = read(recording.file);
        const auto parsed = parse(text);
        const auto ours = records(parsed.commands, forward_copies);
        if (recording.accepted) {
            CHECK(parsed.error == "");
            CHECK(ours.size() == recording.sent.size());
        }
        // A tool that stopped early sent a part of what we send.
        REQUIRE(ours.size() >= recording.sent.size());
        for (std::size_t i = 0; i < recording.sent.size(); ++i) {
            CAPTURE(i);
            CHECK(masked(ours[i]) == masked(recording.sent[i]));
        }
    }
}

Message only_message(const std::string& script)
{
    static std::vector<Parsed> alive;   // messages view into their commands
    alive.push_back(parse(script));
    CHECK(alive.back().error == "");
    std::vector<Message> out;
    for (const auto& command : alive.back().commands)
        build(command, {false}, [&](const Message& message, bool) { out.push_back(message); });
    REQUIRE(out.size() == 1);
    return out[0];
}

}  // namespace

TEST_CASE("recorded bytes, setkey -k")
{
    compare("wire-bytes.k.jsonl", false);
}

TEST_CASE("recorded bytes, setkey -r: every `in` policy has a `fwd` copy")
{
    compare("wire-bytes.r.jsonl", true);
}

TEST_CASE("our verdict on every file that the recorded tool did not take")
{
    for (const auto& [file, verdict] : verdicts) {
        CAPTURE(file);
        CAPTURE(verdict.why);
        CHECK(parse(read(file)).error == verdict.error);
    }
    for (const auto& recording : recordings("wire-bytes.k.jsonl"))
        CHECK_MESSAGE(recording.accepted != verdicts.contains(recording.file), recording.file);
}

// ---- bytes by hand --------------------------------------------------------------------------------------------------

namespace {

std::string to_hex(const Record& record)
{
    std::string out;
    for (const auto byte : record) {
        char two[3];
        std::snprintf(two, sizeof two, "%02x", byte);
        out += two;
    }
    return out;
}

// What a script of one command sends.
std::string sent(const std::string& script)
{
    const auto parsed = parse(script);
    CHECK(parsed.error == "");
    std::string out;
    for (const auto& record : records(parsed.commands, false))
        out += to_hex(record);
    return out;
}

// Extensions as <linux/pfkeyv2.h> lays them out on a little-endian machine: length, type, then the fields.
const std::string source_10_0_0_1 = "03000500ff200000" "020000000a000001" "0000000000000000";
const std::string destination_10_0_0_2 = "03000600ff200000" "020000000a000002" "0000000000000000";

}  // namespace

TEST_CASE("bytes: esp-udp with an original address, in the order of ipsec-tools")
{
    CHECK(sent("add 10.0.0.1[4501] 10.0.0.2 esp-udp 192.168.1.1 0x1000 -m transport -u 7 -r 32 -lh 60 -E null "
               "-A hmac-sha1 \"12345678901234567890\";") ==
          "02030003" "1b000000" "00000000" "00000000"                                      // ADD esp, 27 units
          "0100090000000000"                                                              // KEY_ENCRYPT, 0 bits
          "04000800a0000000" "3132333435363738" "3930313233343536" "3738393000000000"     // KEY_AUTH, 160 bits
          "0400030000000000" "0000000000000000" "3c00000000000000" "0000000000000000"     // LIFETIME_HARD, 60 s
          "0200010000001000" "2000030b40000000"                    // SA: replay 32, sha1, null, CYCSEQ
          "0200130001000000" "0000000007000000"                    // SA2: transport, reqid 7
          "0100140002000000"                                       // NAT_T_TYPE: ESPINUDP
          "03001700ff200000" "02000000c0a80101" "0000000000000000" // NAT_T_OA
          "03000500ff200000" "020011950a000001" "0000000000000000" // ADDRESS_SRC with port 4501
          "03000600ff200000" "020000000a000002" "0000000000000000" // ADDRESS_DST
          "0100150011950000"                                       // NAT_T_SPORT 4501
          "0100160011940000");                                     // NAT_T_DPORT 4500
}

TEST_CASE("bytes: -natt, with what only FreeBSD has under our private numbers")
{
    CHECK(sent("add 10.0.0.1 10.0.0.2 esp 0x1000 -esn -r 4096 -natt 192.168.1.1[4501] 192.168.2.2[4502] "
               "-natt_mtu 552 -E null;") ==
          "02030003" "18000000" "00000000" "00000000"
          "0100090000000000"
          "0200010000001000" "ff00000b40040000"                    // SA: replay 255, CYCSEQ and ESN
          "0200130000000000" "0000000000000000"
          "0100140002000000"
          "03001700ff200000" "02000000c0a80101" "0000000000000000" // NAT_T_OAI
          + source_10_0_0_1 + destination_10_0_0_2 +
          "0100150011950000"
          "0100160011960000"
          "03004000ff200000" "02000000c0a80202" "0000000000000000" // NAT_T_OAR
          "0100410028020000"                                       // NAT_T_FRAG 552
          "0100420000100000");                                     // SA_REPLAY 4096
}

TEST_CASE("bytes: getspi, get, delete and deleteall")
{
    const std::string sa = "0200010000001000" "0000000040000000", sa2 = "0200130002000000" "0000000005000000";
    const std::string range = "0200100000100000" "0010000000000000";
    CHECK(sent("getspi 10.0.0.1 10.0.0.2 esp 0x1000 -m tunnel -u 5;") ==
          "020100030e0000000000000000000000" + range + sa + sa2 + source_10_0_0_1 + destination_10_0_0_2);
    CHECK(sent("getspi 10.0.0.1 10.0.0.2 esp 0;") ==
          "020100030c0000000000000000000000" "02000100000000000000000040000000" "02001300000000000000000000000000" +
              source_10_0_0_1 + destination_10_0_0_2);
    CHECK(sent("delete 10.0.0.1 10.0.0.2 ah 0x1000 -m tunnel -u 5;") ==
          "020400020c0000000000000000000000" + sa + sa2 + source_10_0_0_1 + destination_10_0_0_2);
    CHECK(sent("get fd00::1 fd00::2 ipcomp 123 -f nocyclic-seq;") ==
          "02050009100000000000000000000000" "020001000000007b0000000000000000" "02001300000000000000000000000000"
          "05000500ff800000" "0a00000000000000" "fd000000000000000000000000000001" "0000000000000000"
          "05000600ff800000" "0a00000000000000" "fd000000000000000000000000000002" "0000000000000000");
    CHECK(sent("deleteall 10.0.0.1 10.0.0.2 esp;") ==
          "02040003080000000000000000000000" + source_10_0_0_1 + destination_10_0_0_2);
}

TEST_CASE("bytes: null has an empty key as a cipher, and none as an authenticator")
{
    CHECK(sent("add 10.0.0.1 10.0.0.2 esp 0x1000 -E null \"\" -A null;") ==
          "020300030d0000000000000000000000" "0100090000000000" "0200010000001000" "0000fb0b40000000"
          "02001300000000000000000000000000" + source_10_0_0_1 + destination_10_0_0_2);
}

TEST_CASE("ADD: every option has its field")
{
    const auto m = only_message("add 10.0.0.1[10] 10.0.0.2[20] esp 0x10000001 -m tunnel -u 77 -r 64 "
                                "-f zero-pad -f nocyclic-seq -lh 3600 -ls 3000 -bh 5000000000 -bs 4000000000 "
                                "-E aes-cbc 0x000102030405060708090a0b0c0d0e0f -A hmac-sha256 "
                                "\"12345678901234567890123456789012\";");
    CHECK(m.type == SADB_ADD);
    CHECK(m.satype == SADB_SATYPE_ESP);
    CHECK(*m.sa == SaExt{0x10000001, 64, 0, SADB_X_AALG_SHA2_256HMAC, SADB_X_EALG_AESCBC, SADB_X_EXT_PZERO});
    CHECK(*m.sa2 == Sa2Ext{IPSEC_MODE_TUNNEL, 0, 77});
    CHECK(*m.hard == Lifetime{0, 5000000000, 3600, 0});
    CHECK(*m.soft == Lifetime{0, 4000000000, 3000, 0});
    CHECK(m.cipher_key->bits == 128);
    CHECK(m.cipher_key->key[15] == 15);
    CHECK(m.auth_key->bits == 256);
    CHECK(m.source->endpoint.port == 10);
    CHECK(m.destination->endpoint.port == 20);
    CHECK_FALSE(m.sa_replay);
    CHECK_FALSE(m.natt_type);
}

TEST_CASE("a replay window beyond the octet of sadb_sa has an extension of its own")
{
    const auto m = only_message("add 10.0.0.1 10.0.0.2 ah 256 -r 4096 -A hmac-sha1 \"12345678901234567890\";");
    CHECK(m.sa->replay == 255);
    CHECK(m.sa_replay == 4096u);
}

TEST_CASE("esp-udp: ports of NAT-T, the usual one if none is given, and the original address")
{
    const auto m = only_message("add 10.0.0.1 [4501] 10.0.0.2 esp-udp 192.168.1.1 10003 -E null;");
    CHECK(m.natt_type == 2);
    CHECK(m.natt_source_port == 4501);
    CHECK(m.natt_destination_port == 4500);
    CHECK(m.natt_original->endpoint.address.text() == "192.168.1.1");
    CHECK(m.sa->spi == 10003);
    CHECK(m.cipher_key->bits == 0);
    CHECK(m.cipher_key->key.empty());
    CHECK_FALSE(m.auth_key);
}

TEST_CASE("IPComp carries its algorithm in the field of ciphers")
{
    const auto m = only_message("add fd00::1 fd00::2 ipcomp 300 -C deflate -R;");
    CHECK(m.satype == SADB_X_SATYPE_IPCOMP);
    CHECK(m.sa->encrypt == SADB_X_CALG_DEFLATE);
    CHECK(m.sa->flags == (SADB_X_EXT_CYCSEQ | SADB_X_EXT_RAWCPI));
}

TEST_CASE("the old protocols and their kinds of DES")
{
    CHECK(only_message("add ::1 ::1 esp 10002 -E des-deriv \"12341234\";").sa->flags ==
          (SADB_X_EXT_CYCSEQ | SADB_X_EXT_DERIV));
    const auto old = only_message("add ::1 ::1 esp-old 10003 -E des-32iv \"12341234\";");
    CHECK(old.sa->flags == (SADB_X_EXT_CYCSEQ | SADB_X_EXT_OLD | SADB_X_EXT_IV4B));
    CHECK(old.sa->encrypt == SADB_EALG_DESCBC);
    CHECK(only_message("add ::1 ::1 ah-old 10003 -A keyed-md5 \"this is the test\";").sa->flags ==
          (SADB_X_EXT_CYCSEQ | SADB_X_EXT_OLD));
}

TEST_CASE("get, delete, deleteall, getspi, update")
{
    const auto get = only_message("get 10.0.0.1 10.0.0.2 ah 123;");
    CHECK(get.type == SADB_GET);
    CHECK(*get.sa == SaExt{.spi = 123, .flags = SADB_X_EXT_CYCSEQ});
    CHECK(*get.sa2 == Sa2Ext{});
    const auto erase = only_message("delete 10.0.0.1 10.0.0.2 esp 0xff;");
    CHECK(erase.type == SADB_DELETE);
    CHECK(erase.sa->spi == 255);
    const auto all = only_message("deleteall 10.0.0.1 10.0.0.2 esp;");
    CHECK(all.type == SADB_DELETE);
    CHECK_FALSE(all.sa);
    const auto spi = only_message("getspi 10.0.0.1 10.0.0.2 esp 0x1000 -m transport -u 5;");
    CHECK(spi.type == SADB_GETSPI);
    CHECK(*spi.spi_range == SpiRangeExt{0x1000, 0x1000});
    CHECK(*spi.sa2 == Sa2Ext{IPSEC_MODE_TRANSPORT, 0, 5});
    CHECK_FALSE(only_message("getspi 10.0.0.1 10.0.0.2 esp 0;").spi_range);   // the host picks one
    const auto update = only_message("update 10.0.0.1 10.0.0.2 esp 0x1000 -lh 10;");
    CHECK(update.type == SADB_UPDATE);
    CHECK(update.hard->addtime == 10);
    CHECK_FALSE(update.cipher_key);
}

TEST_CASE("tables: flush and dump of one protocol or of all")
{
    CHECK(only_message("flush;").satype == SADB_SATYPE_UNSPEC);
    CHECK(only_message("flush esp;").satype == SADB_SATYPE_ESP);
    CHECK(only_message("dump ah;").type == SADB_DUMP);
    CHECK(only_message("dump ipcomp;").satype == SADB_X_SATYPE_IPCOMP);
    CHECK(only_message("spdflush;").type == SADB_X_SPDFLUSH);
    CHECK(only_message("spddump;").type == SADB_X_SPDDUMP);
}

TEST_CASE("selectors: prefix, ports, type and code, GRE key")
{
    const auto tcp = only_message("spdadd 10.0.1.0/24[any] 10.0.2.0/23[80] tcp -P out none;");
    CHECK(*tcp.source == AddressExt{ip_proto::tcp, 24, {*Address::parse("10.0.1.0")}});
    CHECK(*tcp.destination == AddressExt{ip_proto::tcp, 23, {*Address::parse("10.0.2.0"), 80}});
    const auto icmp = only_message("spdadd ::/0 ::/0 icmp6 135,0 -P in none;");
    CHECK(icmp.source->protocol == ip_proto::icmpv6);
    CHECK(icmp.source->prefix_length == 0);
    CHECK(icmp.source->endpoint.port == 135);
    CHECK(icmp.destination->endpoint.port == 0);
    const auto key = only_message("spdadd 10.0.0.1 10.0.0.2 gre 0x12345678 -P out none;");
    CHECK(key.source->endpoint.port == 0x1234);
    CHECK(key.destination->endpoint.port == 0x5678);
    const auto quad = only_message("spdadd 10.0.0.1 10.0.0.2 gre 1.2.3.4 -P out none;");
    CHECK(quad.source->endpoint.port == 0x0102);
    CHECK(quad.destination->endpoint.port == 0x0304);
    CHECK(only_message("spdadd 10.0.0.1 10.0.0.2 any -P out none;").source->protocol == 255);
    CHECK(only_message("spdadd 10.0.0.1 10.0.0.2 ip4 -P out none;").source->protocol == 4);
    CHECK(only_message("spdadd 10.0.0.1 10.0.0.2 ESP -P out none;").source->protocol == 50);
    CHECK(only_message("spdadd 10.0.0.1 10.0.0.2 200 -P out none;").source->protocol == 200);
}

TEST_CASE("spdupdate and spddelete of an `in` policy take the copy along; `unique` becomes `require` in it")
{
    const auto parsed = parse("spdupdate 10.0.0.1 10.0.0.2 any -P in ipsec esp/transport//unique:7;"
                              "spddelete 10.0.0.1 10.0.0.2 any -P in;");
    std::vector<std::pair<Message, bool>> out;
    for (const auto& command : parsed.commands)
        build(command, {true}, [&](const Message& message, bool copy) { out.emplace_back(message, copy); });
    REQUIRE(out.size() == 4);
    CHECK(out[0].first.type == SADB_X_SPDUPDATE);
    CHECK(out[0].first.policy->requests[0].reqid == 7);
    CHECK(out[1].first.policy->direction == IPSEC_DIR_FWD);
    CHECK(out[1].first.policy->requests[0].level == Level::require);
    CHECK(out[1].first.policy->requests[0].reqid == 0);
    CHECK(out[1].second);
    CHECK(out[2].first.type == SADB_X_SPDDELETE);
    CHECK(out[3].first.policy->direction == IPSEC_DIR_FWD);
}

TEST_CASE("a host name stands for all pairs of one family")
{
    CHECK(records(parse("add both both esp 256 -E null;").commands, true).size() == 5);
    CHECK(records(parse("add -4 both both esp 256 -E null;").commands, true).size() == 4);
    CHECK(records(parse("add -6 both both esp 256 -E null;").commands, true).size() == 1);
    CHECK(records(parse("add both six esp 256 -E null;").commands, true).size() == 1);
    CHECK(records(parse("add both 10.0.0.1 esp 256 -E null;").commands, true).size() == 2);
}

TEST_CASE("a zone of a link-local address travels as sin6_scope_id")
{
    CHECK(only_message("get fe80::1%7 fe80::2%7 esp 256;").source->endpoint.scope == 7);
    CHECK(only_message("get fe80::1%lo fe80::2 esp 256;").source->endpoint.scope == 1);
}
