// SPDX-License-Identifier: BSD-2-Clause
// What the engine refuses of messages about SAs: one row per bad input, with its errno and its reason. Whatever is
// refused changes nothing and is heard by nobody else.
#include "tests/pfkey/engine_fixture.hpp"

using namespace latchkey;
using namespace latchkey::test;

namespace {

const std::vector<std::uint8_t> key20(20, 0x44), key17(17, 0x55), key24(24, 0x66);
const std::vector<std::uint8_t> weak_des{0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01};
const std::vector<std::uint8_t> opaque(12, 0);

constexpr std::uint32_t mature_spi = 0x2000, other_spi = 0x2001, larval_spi = 0x3000;

// The table starts from here: a mature SA, another with its SPI at 10.0.0.3, and a larval one.
struct Populated {
    Host host;
    Client client{host.engine, host.now}, listener{host.engine, host.now};

    Populated()
    {
        REQUIRE(listener.error_of(bare(SADB_REGISTER, SADB_SATYPE_ESP)) == 0);
        REQUIRE(client.error_of(keyed(SADB_ADD, mature_spi)) == 0);
        REQUIRE(client.error_of(keyed(SADB_ADD, other_spi)) == 0);
        REQUIRE(client.error_of(keyed(SADB_ADD, mature_spi, "10.0.0.1", "10.0.0.3")) == 0);
        Message getspi = sa_message(SADB_GETSPI, std::nullopt);
        getspi.spi_range = SpiRangeExt{larval_spi, larval_spi};
        REQUIRE(client.error_of(getspi) == 0);
        listener.receive();
    }

    std::vector<std::vector<std::uint8_t>> stored()
    {
        Client dumper(host.engine, host.now);
        REQUIRE(dumper.send(bare(SADB_DUMP)).has_value());
        std::vector<std::vector<std::uint8_t>> records;
        for (auto& reply : dumper.receive())
            records.push_back(std::move(reply.record));
        host.engine.close_key_socket(dumper.id());
        return records;
    }
};

Message getspi()
{
    return sa_message(SADB_GETSPI, std::nullopt);
}

Message add()
{
    return keyed(SADB_ADD, 0x1000);
}

Message update()
{
    return sa_message(SADB_UPDATE, mature_spi);
}

Message finish_larval()
{
    return keyed(SADB_UPDATE, larval_spi);
}

Message remove_one()
{
    return sa_message(SADB_DELETE, mature_spi);
}

Message get()
{
    return sa_message(SADB_GET, mature_spi);
}

Message add_ah()
{
    Message m = add();
    m.satype = SADB_SATYPE_AH;
    m.sa->encrypt = SADB_EALG_NONE;
    m.cipher_key.reset();
    return m;
}

Message add_ipcomp()
{
    Message m = sa_message(SADB_ADD, 0x1000);
    m.satype = SADB_X_SATYPE_IPCOMP;
    m.sa->encrypt = SADB_X_CALG_DEFLATE;
    return m;
}

Message add_natt()
{
    Message m = add();
    m.natt_type = 2;
    m.natt_source_port = m.natt_destination_port = 4500;
    return m;
}

Message acquire()
{
    Message m = sa_message(SADB_ACQUIRE, std::nullopt, "10.0.0.8", "10.0.0.9");
    m.proposal = ProposalExt{32, {Combination{}}};
    return m;
}

// 36 bytes: two addresses, family, prefix lengths.
std::vector<std::uint8_t> filter_body(std::uint16_t family, std::uint8_t source_length, std::uint8_t destination_length)
{
    std::vector<std::uint8_t> body(36);
    wire::Writer out(body, wire::Order::host);
    out.put_at<std::uint16_t>(32, family);
    out.put_at<std::uint8_t>(34, source_length);
    out.put_at<std::uint8_t>(35, destination_length);
    return body;
}

const std::vector<std::uint8_t> filter_long = filter_body(2, 33, 0), filter_long6 = filter_body(10, 0, 129),
                                filter_family = filter_body(7, 0, 0), filter_no_family = filter_body(0, 8, 0),
                                filter_nothing = filter_body(10, 0, 0);

struct Refusal {
    std::string_view name;
    Message (*message)();
    void (*spoil)(Message&);
    int error;
    std::string_view words;   // of the reason
};

// clang-format off
const Refusal refusals[] = {
    // ---- every message about an SA (reference: KAME's key_parse, before dispatch)
    {"GETSPI without SA type", getspi, [](Message& m) { m.satype = 0; }, EINVAL, "needs an SA type"},
    {"ADD without SA type", add, [](Message& m) { m.satype = 0; }, EINVAL, "needs an SA type"},
    {"UPDATE without SA type", update, [](Message& m) { m.satype = 0; }, EINVAL, "needs an SA type"},
    {"DELETE without SA type", remove_one, [](Message& m) { m.satype = 0; }, EINVAL, "needs an SA type"},
    {"GET without SA type", get, [](Message& m) { m.satype = 0; }, EINVAL, "needs an SA type"},
    {"ACQUIRE without SA type", acquire, [](Message& m) { m.satype = 0; }, EINVAL, "needs an SA type"},
    {"EXPIRE from a user", getspi, [](Message& m) { m.type = SADB_EXPIRE; }, EINVAL, "only the host"},
    {"X_PCHANGE", getspi, [](Message& m) { m = bare(SADB_X_PCHANGE); }, EINVAL, "only the host"},
    {"NEW_MAPPING from a user", getspi, [](Message& m) { m.type = SADB_X_NAT_T_NEW_MAPPING; }, EINVAL, "only the host"},
    {"SA type 77", add, [](Message& m) { m.satype = 77; }, EINVAL, "no SA type"},
    {"SA type 1", add, [](Message& m) { m.satype = 1; }, EINVAL, "no SA type"},
    {"RSVP", add, [](Message& m) { m.satype = SADB_SATYPE_RSVP; }, EOPNOTSUPP, "not offered"},
    {"OSPF", get, [](Message& m) { m.satype = SADB_SATYPE_OSPFV2; }, EOPNOTSUPP, "not offered"},
    {"RIP", remove_one, [](Message& m) { m.satype = SADB_SATYPE_RIPV2; }, EOPNOTSUPP, "not offered"},
    {"Mobile IP", getspi, [](Message& m) { m.satype = SADB_SATYPE_MIP; }, EOPNOTSUPP, "not offered"},
    {"TCP signatures", add, [](Message& m) { m.satype = SADB_X_SATYPE_TCPSIGNATURE; }, EOPNOTSUPP, "not offered"},
    {"GETSPI without source", getspi, [](Message& m) { m.source.reset(); }, EINVAL, "needs ADDRESS_SRC"},
    {"GETSPI without destination", getspi, [](Message& m) { m.destination.reset(); }, EINVAL, "and ADDRESS_DST"},
    {"ADD without source", add, [](Message& m) { m.source.reset(); }, EINVAL, "needs SA, ADDRESS_SRC"},
    {"ADD without destination", add, [](Message& m) { m.destination.reset(); }, EINVAL, "needs SA, ADDRESS_SRC"},
    {"ADD without SA", add, [](Message& m) { m.sa.reset(); }, EINVAL, "needs SA, ADDRESS_SRC"},
    {"UPDATE without SA", update, [](Message& m) { m.sa.reset(); }, EINVAL, "needs SA, ADDRESS_SRC"},
    {"GET without SA", get, [](Message& m) { m.sa.reset(); }, EINVAL, "needs SA, ADDRESS_SRC"},
    {"GET without source", get, [](Message& m) { m.source.reset(); }, EINVAL, "needs SA, ADDRESS_SRC"},
    {"DELETE without destination", remove_one, [](Message& m) { m.destination.reset(); }, EINVAL, "and ADDRESS_DST"},
    {"GETSPI, mixed families", getspi, [](Message& m) { m.source = end_point("fd00::1"); }, EINVAL, "different families"},
    {"ADD, mixed families", add, [](Message& m) { m.source = end_point("fd00::1"); }, EINVAL, "different families"},
    {"UPDATE, mixed families", update, [](Message& m) { m.source = end_point("fd00::1"); }, EINVAL, "different families"},
    {"DELETE, mixed families", remove_one, [](Message& m) { m.source = end_point("fd00::1"); }, EINVAL, "different families"},
    {"GET, mixed families", get, [](Message& m) { m.source = end_point("fd00::1"); }, EINVAL, "different families"},
    {"ADD, another family", add, [](Message& m) { m.destination->endpoint.address = {}; }, EAFNOSUPPORT, "neither IPv4 nor IPv6"},
    {"GETSPI, another family", getspi, [](Message& m) { m.source->endpoint.address = {}; }, EAFNOSUPPORT, "neither IPv4 nor IPv6"},
    {"IPv4 prefix of 33", add, [](Message& m) { m.source->prefix_length = 33; }, EINVAL, "prefix is longer"},
    {"IPv6 prefix of 129", add, [](Message& m) {
        m.source = end_point("fd00::1");
        m.destination = end_point("fd00::2");
        m.destination->prefix_length = 129; }, EINVAL, "prefix is longer"},
    {"different protocols", add, [](Message& m) { m.source->protocol = 6; }, EINVAL, "different protocols"},
    {"ADD with sensitivity", add, [](Message& m) { m.sensitivity = opaque; }, EOPNOTSUPP, "security labels"},
    {"ADD with a security context", add, [](Message& m) { m.security_context = Bytes(opaque).first(4); }, EOPNOTSUPP, "security labels"},
    {"UPDATE with sensitivity", update, [](Message& m) { m.sensitivity = opaque; }, EOPNOTSUPP, "security labels"},
    {"GETSPI with sensitivity", getspi, [](Message& m) { m.sensitivity = opaque; }, EOPNOTSUPP, "security labels"},

    // ---- GETSPI
    {"mode 3", getspi, [](Message& m) { m.sa2 = Sa2Ext{3, 0, 0}; }, EINVAL, "mode"},
    {"minimum above maximum", getspi, [](Message& m) { m.spi_range = SpiRangeExt{0x200, 0x100}; }, EINVAL, "minimum above"},
    {"reserved SPIs only", getspi, [](Message& m) { m.spi_range = SpiRangeExt{1, 255}; }, EINVAL, "no legal SPI"},
    {"CPIs have 16 bits", getspi, [](Message& m) {
        m.satype = SADB_X_SATYPE_IPCOMP;
        m.spi_range = SpiRangeExt{0x10000, 0x20000}; }, EINVAL, "no legal SPI"},
    {"no free SPI", getspi, [](Message& m) { m.spi_range = SpiRangeExt{mature_spi, other_spi}; }, EEXIST, "no SPI of the range is free"},
    {"GETSPI for AH behind a NAT", getspi, [](Message& m) {
        m.satype = SADB_SATYPE_AH;
        m.natt_type = 2; }, EINVAL, "only ESP goes in UDP"},

    // ---- ADD: the header
    {"SPI 0", add, [](Message& m) { m.sa->spi = 0; }, EINVAL, "SPIs 0 to 255"},
    {"SPI 1", add, [](Message& m) { m.sa->spi = 1; }, EINVAL, "SPIs 0 to 255"},
    {"SPI 255", add, [](Message& m) { m.sa->spi = 255; }, EINVAL, "SPIs 0 to 255"},
    {"AH, SPI 255", add_ah, [](Message& m) { m.sa->spi = 255; }, EINVAL, "SPIs 0 to 255"},
    {"IPComp, CPI 0", add_ipcomp, [](Message& m) { m.sa->spi = 0; }, EINVAL, "CPIs have 16 bits"},
    {"IPComp, CPI 65536", add_ipcomp, [](Message& m) {
        m.sa->spi = 0x10000;
        m.sa->flags = SADB_X_EXT_RAWCPI; }, EINVAL, "CPIs have 16 bits"},
    {"ADD, proxy /200", add, [](Message& m) {
        m.proxy = end_point("10.0.0.9");
        m.proxy->prefix_length = 200; }, EINVAL, "a prefix is longer"},
    {"duplicate", add, [](Message& m) { m.sa->spi = mature_spi; }, EEXIST, "exists"},
    {"duplicate, another source", add, [](Message& m) {
        m.sa->spi = mature_spi;
        m.source = end_point("10.0.0.77"); }, EEXIST, "exists"},
    {"duplicate of a larval SA", add, [](Message& m) { m.sa->spi = larval_spi; }, EEXIST, "exists"},
    {"state dying", add, [](Message& m) { m.sa->state = SADB_SASTATE_DYING; }, EINVAL, "sadb_sa_state"},
    {"state dead", add, [](Message& m) { m.sa->state = SADB_SASTATE_DEAD; }, EINVAL, "sadb_sa_state"},
    {"ADD, mode 3", add, [](Message& m) { m.sa2 = Sa2Ext{3, 0, 0}; }, EINVAL, "mode"},
    {"unknown flag", add, [](Message& m) { m.sa->flags = 0x1000; }, EINVAL, "a bit that has no meaning"},
    {"esp-old", add, [](Message& m) { m.sa->flags = SADB_X_EXT_OLD; }, EOPNOTSUPP, "RFC 1826 and RFC 1827"},
    {"ah-old", add_ah, [](Message& m) { m.sa->flags = SADB_X_EXT_OLD; }, EOPNOTSUPP, "RFC 1826 and RFC 1827"},
    {"des-32iv", add, [](Message& m) { m.sa->flags = SADB_X_EXT_IV4B; }, EOPNOTSUPP, "RFC 1826 and RFC 1827"},
    {"des-deriv", add, [](Message& m) { m.sa->flags = SADB_X_EXT_DERIV; }, EOPNOTSUPP, "RFC 1826 and RFC 1827"},
    {"two pad modes", add, [](Message& m) { m.sa->flags = SADB_X_EXT_PRAND | SADB_X_EXT_PZERO; }, EINVAL, "PRAND and PZERO"},
    {"a window above 4096", add, [](Message& m) { m.sa_replay = 4097; }, EINVAL, "4096 packets"},
    {"ESN without a window", add, [](Message& m) {
        m.sa->flags = SADB_X_SAFLAGS_ESN;
        m.sa->replay = 0; }, EINVAL, "need a replay window"},
    {"ESN without a window, AH", add_ah, [](Message& m) {
        m.sa->flags = SADB_X_SAFLAGS_ESN;
        m.sa_replay = 0; }, EINVAL, "need a replay window"},
    {"ESN of IPComp", add_ipcomp, [](Message& m) { m.sa->flags = SADB_X_SAFLAGS_ESN; }, EINVAL, "no sequence numbers"},
    {"an identity of 2000 bytes", add, [](Message& m) {
        static const std::string text(2000, 'x');
        m.source_identity = IdentityExt{SADB_IDENTTYPE_FQDN, 0, text}; }, EINVAL, "1024 bytes"},
    {"ADD that moves", add, [](Message& m) { m.new_source = end_point("10.0.0.9"); }, EINVAL, "UPDATE moves"},

    // ---- ADD: algorithms and keys
    {"unknown authentication", add, [](Message& m) { m.sa->auth = 77; }, ENOSYS, "no algorithm has this number"},
    {"unknown encryption", add, [](Message& m) { m.sa->encrypt = 99; }, ENOSYS, "no algorithm has this number"},
    {"unknown compression", add_ipcomp, [](Message& m) { m.sa->encrypt = 9; }, ENOSYS, "no algorithm has this number"},
    {"Twofish", add, [](Message& m) { m.sa->encrypt = SADB_X_EALG_TWOFISHCBC; }, EOPNOTSUPP, "known, but not offered"},
    {"LZS", add_ipcomp, [](Message& m) { m.sa->encrypt = SADB_X_CALG_LZS; }, EOPNOTSUPP, "known, but not offered"},
    {"tcp-md5 in AH", add_ah, [](Message& m) { m.sa->auth = SADB_X_AALG_TCP_MD5; }, EOPNOTSUPP, "known, but not offered"},
    {"AES key of 136 bits", add, [](Message& m) { m.cipher_key = KeyExt{136, key17}; }, EINVAL, "no keys of this length"},
    {"AES key of 127 bits", add, [](Message& m) { m.cipher_key = KeyExt{127, cipher_key}; }, EINVAL, "no keys of this length"},
    {"SHA-256 key of 128 bits", add, [](Message& m) { m.auth_key = KeyExt{128, cipher_key}; }, EINVAL, "no keys of this length"},
    {"AH, SHA-256 key of 160 bits", add_ah, [](Message& m) { m.auth_key = KeyExt{160, key20}; }, EINVAL, "no keys of this length"},
    {"empty AES key", add, [](Message& m) { m.cipher_key = KeyExt{}; }, EINVAL, "no keys of this length"},
    {"no encryption key", add, [](Message& m) { m.cipher_key.reset(); }, EINVAL, "needs KEY_ENCRYPT"},
    {"no authentication key", add, [](Message& m) { m.auth_key.reset(); }, EINVAL, "needs KEY_AUTH"},
    {"AH without a key", add_ah, [](Message& m) { m.auth_key.reset(); }, EINVAL, "needs KEY_AUTH"},
    {"weak DES key", add, [](Message& m) {
        m.sa->encrypt = SADB_EALG_DESCBC;
        m.cipher_key = KeyExt{64, weak_des}; }, EINVAL, "weak keys of DES"},
    {"triple DES with one key", add, [](Message& m) {
        m.sa->encrypt = SADB_EALG_3DESCBC;
        m.cipher_key = KeyExt{192, key24}; }, EINVAL, "single DES"},
    {"no encryption algorithm", add, [](Message& m) { m.sa->encrypt = SADB_EALG_NONE; }, EINVAL, "null is one"},
    {"an authentication key, no algorithm", add, [](Message& m) { m.sa->auth = SADB_AALG_NONE; }, EINVAL, "without an algorithm"},
    {"an authentication key, algorithm null", add, [](Message& m) { m.sa->auth = SADB_X_AALG_NULL; }, EINVAL, "without an algorithm"},
    {"GCM and SHA-256", add, [](Message& m) {
        m.sa->encrypt = SADB_X_EALG_AES_GCM_ICV16;
        m.cipher_key = KeyExt{160, key20}; }, EINVAL, "takes no authentication algorithm"},
    {"GCM without its salt", add, [](Message& m) {
        m.sa->encrypt = SADB_X_EALG_AES_GCM_ICV16;
        m.sa->auth = SADB_AALG_NONE;
        m.auth_key.reset(); }, EINVAL, "no keys of this length"},
    {"AH without an algorithm", add_ah, [](Message& m) { m.sa->auth = SADB_AALG_NONE; }, EINVAL, "AH needs an authentication"},
    {"IPComp without an algorithm", add_ipcomp, [](Message& m) { m.sa->encrypt = 0; }, EINVAL, "needs a compression algorithm"},
    {"IPComp with authentication", add_ipcomp, [](Message& m) { m.sa->auth = SADB_AALG_SHA1HMAC; }, EINVAL, "neither an authentication"},
    {"IPComp with a key", add_ipcomp, [](Message& m) { m.cipher_key = KeyExt{128, cipher_key}; }, EINVAL, "nor keys"},

    // ---- NAT traversal
    {"the non-IKE marker", add_natt, [](Message& m) { m.natt_type = 1; }, EOPNOTSUPP, "non-IKE marker"},
    {"type 0", add_natt, [](Message& m) { m.natt_type = 0; }, EINVAL, "not ESP in UDP"},
    {"type 7 (L2TP)", add_natt, [](Message& m) { m.natt_type = 7; }, EINVAL, "not ESP in UDP"},
    {"AH in UDP", add_ah, [](Message& m) { m.natt_type = 2; }, EINVAL, "only ESP goes in UDP"},
    {"IPComp in UDP", add_ipcomp, [](Message& m) { m.natt_type = 2; }, EINVAL, "only ESP goes in UDP"},
    {"original address of another family", add_natt, [](Message& m) { m.natt_original = end_point("fd00::1"); }, EINVAL, "another family"},
    {"original address of no family", add_natt, [](Message& m) { m.natt_original = AddressExt{}; }, EAFNOSUPPORT, "neither IPv4 nor IPv6"},
    {"the remote one too", add_natt, [](Message& m) { m.natt_original_remote = end_point("fd00::1"); }, EINVAL, "another family"},
    {"fragments of 67 bytes", add_natt, [](Message& m) { m.natt_fragment = 67; }, EINVAL, "68 bytes"},

    // ---- UPDATE
    {"UPDATE of no SA", update, [](Message& m) { m.sa->spi = 0x9999; }, ESRCH, "no SA has"},
    {"UPDATE, another source", update, [](Message& m) { m.source = end_point("10.0.0.9"); }, ESRCH, "no SA has"},
    {"UPDATE, another type", update, [](Message& m) { m.satype = SADB_SATYPE_AH; }, ESRCH, "no SA has"},
    {"UPDATE with another key", update, [](Message& m) {
        m.cipher_key = KeyExt{128, Bytes(key17).first(16)}; }, EINVAL, "keys of a mature SA"},
    {"UPDATE with another algorithm", update, [](Message& m) { m.sa->auth = SADB_AALG_SHA1HMAC; }, EINVAL, "algorithms of a mature SA"},
    {"UPDATE with another mode", update, [](Message& m) { m.sa2 = Sa2Ext{IPSEC_MODE_TUNNEL, 0, 0}; }, EINVAL, "mode and reqid"},
    {"UPDATE with another reqid", update, [](Message& m) { m.sa2 = Sa2Ext{0, 0, 7}; }, EINVAL, "mode and reqid"},
    {"UPDATE to a place that is taken", update, [](Message& m) { m.new_destination = end_point("10.0.0.3"); }, EEXIST, "new destination exists"},
    {"UPDATE to half a family", update, [](Message& m) { m.new_destination = end_point("fd00::3"); }, EINVAL, "different families"},
    {"UPDATE to another family", update, [](Message& m) { m.new_source = AddressExt{}; }, EAFNOSUPPORT, "neither IPv4 nor IPv6"},
    {"UPDATE of the NAT, type 1", update, [](Message& m) { m.natt_type = 1; }, EOPNOTSUPP, "non-IKE marker"},
    {"a larval SA that moves", finish_larval, [](Message& m) { m.new_source = end_point("10.0.0.9"); }, EINVAL, "larval SA cannot move"},
    {"a larval SA gets a bad key", finish_larval, [](Message& m) { m.cipher_key = KeyExt{136, key17}; }, EINVAL, "no keys of this length"},
    {"a larval SA gets no key", finish_larval, [](Message& m) { m.cipher_key.reset(); }, EINVAL, "needs KEY_ENCRYPT"},

    // ---- DELETE, GET
    {"DELETE of no SA", remove_one, [](Message& m) { m.sa->spi = 0x9999; }, ESRCH, "no SA has"},
    {"DELETE of SPI 0", remove_one, [](Message& m) { m.sa->spi = 0; }, ESRCH, "no SA has"},
    {"DELETE, source and destination swapped", remove_one, [](Message& m) { std::swap(m.source, m.destination); }, ESRCH, "no SA has"},
    {"GET of no SA", get, [](Message& m) { m.sa->spi = 0x9999; }, ESRCH, "no SA has"},
    {"GET, another type", get, [](Message& m) { m.satype = SADB_X_SATYPE_IPCOMP; }, ESRCH, "no SA has"},

    // ---- ACQUIRE, REGISTER, FLUSH, DUMP, X_PROMISC
    {"ACQUIRE without proposal", acquire, [](Message& m) { m.proposal.reset(); }, EINVAL, "PROPOSAL"},
    {"ACQUIRE without source", acquire, [](Message& m) { m.source.reset(); }, EINVAL, "ADDRESS_SRC"},
    {"ACQUIRE of what is there", acquire, [](Message& m) {
        m.source = end_point("10.0.0.1");
        m.destination = end_point("10.0.0.2"); }, EEXIST, "there is an SA"},
    {"REGISTER, type 77", get, [](Message& m) { m = bare(SADB_REGISTER, 77); }, EINVAL, "no SA type"},
    {"REGISTER, RSVP", get, [](Message& m) { m = bare(SADB_REGISTER, SADB_SATYPE_RSVP); }, EOPNOTSUPP, "not offered"},
    {"FLUSH, type 77", get, [](Message& m) { m = bare(SADB_FLUSH, 77); }, EINVAL, "no SA type"},
    {"FLUSH, RSVP", get, [](Message& m) { m = bare(SADB_FLUSH, SADB_SATYPE_RSVP); }, EOPNOTSUPP, "not offered"},
    {"DUMP of nothing", get, [](Message& m) { m = bare(SADB_DUMP, SADB_SATYPE_AH); }, ENOENT, "empty"},
    {"DUMP, type 77", get, [](Message& m) { m = bare(SADB_DUMP, 77); }, EINVAL, "no SA type"},
    {"DUMP, filter of 33 bits", get, [](Message& m) { (m = bare(SADB_DUMP)).filter = filter_long; }, EINVAL, "longer than the address"},
    {"DUMP, filter of 129 bits", get, [](Message& m) { (m = bare(SADB_DUMP)).filter = filter_long6; }, EINVAL, "longer than the address"},
    {"DUMP, filter of another family", get, [](Message& m) { (m = bare(SADB_DUMP)).filter = filter_family; }, EAFNOSUPPORT, "neither IPv4 nor IPv6"},
    {"DUMP, prefixes of no family", get, [](Message& m) { (m = bare(SADB_DUMP)).filter = filter_no_family; }, EINVAL, "no address family"},
    {"DUMP, nothing fits", get, [](Message& m) { (m = bare(SADB_DUMP)).filter = filter_nothing; }, ENOENT, "nothing that was asked for"},
    {"X_PROMISC 2", get, [](Message& m) { m = bare(SADB_X_PROMISC, 2); }, EINVAL, "satype 0 (off) or 1 (on)"},
};
// clang-format on

}  // namespace

TEST_CASE("rump gives bare EINVALs; here each refusal has its errno and its reason, changes nothing, and nobody else "
          "hears of it (rump-and-other-stacks §3 item 10)")
{
    Populated p;
    const auto stored = p.stored();
    REQUIRE(stored.size() == 4);
    const auto generation = p.host.engine.generation();
    const auto deadline = p.host.engine.next_deadline();
    for (const auto& row : refusals) {
        CAPTURE(row.name);
        Message m = row.message();
        row.spoil(m);
        CHECK(p.client.error_of(m) == row.error);
        const auto reason = p.host.engine.last_error(p.client.id());
        CAPTURE(reason);
        CHECK(reason.find(row.words) != reason.npos);
        CHECK(p.listener.receive().empty());
        CHECK(p.host.engine.generation() == generation);
        CHECK(p.host.engine.next_deadline() == deadline);
        CHECK(p.stored() == stored);
    }
}

TEST_CASE("the messages that the table spoils are good before")
{
    for (const auto message :
         {getspi, add, update, finish_larval, remove_one, get, add_ah, add_ipcomp, add_natt, acquire}) {
        Populated p;
        CHECK(p.client.error_of(message()) == 0);
    }
}
