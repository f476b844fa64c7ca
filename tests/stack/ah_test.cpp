// SPDX-License-Identifier: BSD-2-Clause
// Truth from elsewhere: datagrams that scapy signed (tests/data/esp/ah_scapy.tsv, written by tests/interop/ah_scapy.py
// --record), and coverage written out by hand from RFC 4302 §3.3.3 and Appendix A.
#include "stack/crypto.hpp"
#include "stack/esp.hpp"

#include "tests/stack/esp_support.hpp"

#include <doctest/doctest.h>

#include <algorithm>

using namespace latchkey;
using namespace latchkey::test;

namespace {

const Algorithm& auth_row(std::string_view name)
{
    return *algorithm_by_name(AlgorithmKind::auth, name);
}

Sa make_sa(const Algorithm& auth, std::uint32_t window = 0)
{
    Sa sa;
    sa.protocol = ip_proto::ah;
    sa.spi = 0x12345678;
    sa.state = SaState::mature;
    sa.auth = &auth;
    sa.auth_key = SecretBytes(counted(auth.key_min / 8u));
    sa.replay = ReplayWindow(window);
    return sa;
}

std::vector<const Algorithm*> offered()
{
    std::vector<const Algorithm*> rows;
    for (const auto& row : algorithms)
        if (row.kind == AlgorithmKind::auth && row.offered())
            rows.push_back(&row);
    return rows;
}

Family family_of(const Buffer& headers)
{
    return headers[0] >> 4 == 6 ? Family::v6 : Family::v4;
}

Buffer first(Buffer bytes, std::size_t n)
{
    bytes.resize(n);
    return bytes;
}

struct Sealed {
    Drop result;
    Buffer datagram;
};

// `headers` are used as they are: their length fields do not matter to AH, but are covered.
Sealed seal(CipherBackend& backend, Sa& sa, const Buffer& headers, const Buffer& payload, std::uint64_t sequence = 1,
            AhRules rules = {})
{
    auto datagram = joined({headers, Buffer(ah_size(sa, family_of(headers)), 0xee), payload});
    AhSealJob job;
    job.sa = &sa;
    job.sequence = sequence;
    job.next_header = ip_proto::udp;
    job.datagram = datagram;
    job.at = headers.size();
    job.rules = rules;
    backend.seal({&job, 1});
    return {job.result, std::move(datagram)};
}

struct Opened {
    Drop result;
    std::size_t size;
    std::uint8_t next_header;
    bool operator==(const Opened&) const = default;
};

Opened open(CipherBackend& backend, Sa& sa, const Buffer& datagram, std::size_t at, AhRules rules = {})
{
    auto copy = datagram;
    AhOpenJob job;
    job.sa = &sa;
    job.datagram = copy;
    job.at = at;
    job.rules = rules;
    backend.open({&job, 1});
    CHECK(copy == datagram);
    CHECK((job.size == 0) == (job.result != Drop::none));
    return {job.result, job.size, job.next_header};
}

// 20 bytes and the options, whose size is a multiple of 4.
Buffer v4(std::string_view options = {}, std::string_view destination = "c6336402")
{
    auto header = joined({from_hex("45b9006412344abc0733dead"), from_hex("c0000201"), from_hex(destination),
                          from_hex(options)});
    header[0] = static_cast<std::uint8_t>(0x40 | header.size() / 4);
    return header;
}

// The base header with a destination ending in `last`; what follows it begins with a header of type `next`.
Buffer v6(std::uint8_t next, std::string_view extensions = {}, std::uint8_t last = 2)
{
    auto header = joined({from_hex("6b9abcde0040"), {next, 5}, from_hex("20010db8000000000000000000000001"),
                          from_hex("20010db8000000000000000000000002"), from_hex(extensions)});
    header[39] = last;
    return header;
}

// The ICV of `datagram` is HMAC-SHA-256-128 over `covered`, the AH's fixed part, zeros, padding and payload.
void check_coverage(const Buffer& headers, const Buffer& covered, AhRules rules = {})
{
    PatternRng rng;
    const auto backend = make_openssl_backend(rng);
    const auto& sha256 = auth_row("hmac-sha256");
    auto sa = make_sa(sha256);
    const auto payload = counted(50);
    const auto sealed = seal(*backend, sa, headers, payload, 7, rules);
    REQUIRE(sealed.result == Drop::none);
    const auto at = headers.size(), size = ah_size(sa, family_of(headers));
    CHECK(std::equal(headers.begin(), headers.end(), sealed.datagram.begin()));

    const auto length = static_cast<std::uint8_t>(size / 4 - 2);
    const auto fixed = joined({{ip_proto::udp, length, 0, 0}, from_hex("1234567800000007")});
    const auto all = joined({covered, fixed, Buffer(size - 12), payload});
    auto mac = crypto::Library().make_mac(Primitive::hmac_sha256, counted(32));
    REQUIRE(mac);
    Buffer icv(16);
    REQUIRE(mac->compute(all, {}, icv));
    CHECK(std::equal(icv.begin(), icv.end(), sealed.datagram.begin() + static_cast<std::ptrdiff_t>(at) + 12));
    CHECK(open(*backend, sa, sealed.datagram, at, rules) == Opened{Drop::none, size, ip_proto::udp});
}

}  // namespace

TEST_CASE("datagrams that scapy signed: the same bytes out, and accepted as they arrive")
{
    int datagrams = 0;
    PatternRng rng;
    const auto backend = make_openssl_backend(rng);
    for (auto& row : rows_of("esp/ah_scapy.tsv")) {
        CAPTURE(row.str());
        std::string name, auth, key, spi, sequence, kind, sent_text, received_text;
        unsigned next_header = 0;
        std::size_t at = 0;
        row >> name >> auth >> key >> spi >> sequence >> kind >> next_header >> at >> sent_text >> received_text;
        REQUIRE(row);
        auto sa = make_sa(auth_row(auth), 64);
        sa.auth_key = SecretBytes(from_hex(key));
        sa.spi = static_cast<std::uint32_t>(std::stoul(spi, nullptr, 16));
        sa.flags = kind == "extended" ? SADB_X_SAFLAGS_ESN : 0;
        const auto number = std::stoull(sequence, nullptr, 16);
        if (number > 1)
            sa.replay.accept(number - 1);
        const auto sent = from_hex(sent_text);
        const auto size = ah_size(sa, family_of(sent));

        auto mine = sent;
        std::fill_n(mine.begin() + static_cast<std::ptrdiff_t>(at), size, std::uint8_t{0xee});
        AhSealJob job;
        job.sa = &sa;
        job.sequence = number;
        job.next_header = static_cast<std::uint8_t>(next_header);
        job.datagram = mine;
        job.at = at;
        backend->seal({&job, 1});
        CHECK(job.result == Drop::none);
        CHECK(mine == sent);
        const auto received = from_hex(received_text);
        CHECK(open(*backend, sa, received, at) == Opened{Drop::none, size, static_cast<std::uint8_t>(next_header)});
        CHECK(sa.replay.highest() == number);
        CHECK(open(*backend, sa, received, at).result == Drop::in_replay);
        ++datagrams;
    }
    CHECK(datagrams >= 400);
}

// ---- what is covered, by hand ---------------------------------------------------------------------------------------

TEST_CASE("IPv4: TOS, flags, offset, TTL and checksum count as zeros")
{
    check_coverage(v4(), from_hex("4500006412340000" "00330000" "c0000201c6336402"));
}

TEST_CASE("IPv4: ah_cleartos and ah_offsetmask, for peers of RFC 1826")
{
    check_coverage(v4(), from_hex("45b9006412340000" "00330000" "c0000201c6336402"), {false, 0});
    check_coverage(v4(), from_hex("4500006412344000" "00330000" "c0000201c6336402"), {true, 0x4000});
    check_coverage(v4(), from_hex("4500006412344abc" "00330000" "c0000201c6336402"), {true, 0xffff});
}

TEST_CASE("IPv4 options by their class (Appendix A1)")
{
    const auto check = [](std::string_view options, std::string_view covered,
                          std::string_view destination = "c6336402") {
        CAPTURE(options);
        auto expected = joined({from_hex("4500006412340000" "00330000" "c0000201"), from_hex(destination),
                                from_hex(covered)});
        expected[0] = static_cast<std::uint8_t>(0x40 | expected.size() / 4);
        check_coverage(v4(options), expected);
    };
    check("94040000", "94040000");                                      // router alert
    check("820bf135000000000000f100", "820bf135000000000000f100");      // security, then the end
    check("85040102", "85040102");                                      // extended security
    check("86080000000102a4", "86080000000102a4");                      // commercial security
    check("9508010203040506", "9508010203040506");                      // multi-destination delivery
    check("0101010094040000", "0101010094040000");                      // no operation; after the end nothing is read
    check("070704000000000000000000", "000000000000000000000000");      // record route, the end
    check("4408050001020304", "0000000000000000");                      // time stamp
    check("520c00010000ffff01020304", "000000000000000000000000");      // trace route
    check("88040102", "00000000");                                      // stream id
    check("9e040102", "00000000");                                      // nobody knows it
    check("940400009e0401020000cafe", "94040000000000000000cafe");      // one after the other
    // Source routes: the destination as it will be on arrival; both are used up, half used, not used.
    check("830b040a0000010a000002" "00", "0000000000000000000000" "00", "0a000002");
    check("890b080a0000010a000002" "00", "0000000000000000000000" "00", "0a000002");
    check("830b0c0a0000010a000002" "00", "0000000000000000000000" "00");
    check("830300" "00", "000000" "00");                                // a route of nothing
    check("830604ffffff" "0000", "000000000000" "0000");                // half an address
}

TEST_CASE("broken IPv4 headers are refused both ways, and the window stays")
{
    PatternRng rng;
    const auto backend = make_openssl_backend(rng);
    auto sa = make_sa(auth_row("hmac-sha1"), 32);
    auto wrong_length = v4("94040000");
    wrong_length[0] = 0x45;
    auto longer = v4();
    longer[0] = 0x4f;
    for (const auto& headers : {v4("94000000"), v4("94010000"), v4("94050000"), v4("01010194"), v4("0101940a"),
                                wrong_length, longer, first(v4(), 16)}) {
        CAPTURE(headers.size());
        CHECK(seal(*backend, sa, headers, counted(20)).result == Drop::out_crypto);
        auto datagram = seal(*backend, sa, v4(), counted(20), 5).datagram;
        datagram.erase(datagram.begin(), datagram.begin() + 20);
        CHECK(open(*backend, sa, joined({headers, datagram}), headers.size()).result == Drop::in_malformed);
    }
    CHECK(sa.replay.highest() == 0);
    for (const unsigned version : {0u, 5u, 7u}) {
        auto headers = v4();
        headers[0] = static_cast<std::uint8_t>(version << 4 | 5);
        CHECK(seal(*backend, sa, headers, counted(20)).result == Drop::out_crypto);
    }
}

TEST_CASE("IPv6: traffic class, flow label and hop limit count as zeros")
{
    check_coverage(v6(ip_proto::ah), from_hex("6000000000403300" "20010db8000000000000000000000001"
                                              "20010db8000000000000000000000002"));
}

TEST_CASE("IPv6 extension headers: changing options, routes, and what stays (Appendix A2)")
{
    const auto base = [](std::string_view next, std::string_view last) {
        return "600000000040" + std::string(next) + "0020010db8000000000000000000000001" +
               "20010db80000000000000000000000" + std::string(last);
    };
    const auto check = [&](std::string_view next, const std::string& sent, const std::string& covered,
                           std::string_view last = "02") {
        CAPTURE(sent);
        check_coverage(v6(from_hex(next)[0], sent), from_hex(base(next, last) + covered));
    };
    // Hop by hop: router alert, an option that changes (type 0x3e), padding of one byte and of more.
    check("00", "3301050200003e04" "6162636400010100", "3301050200003e04" "0000000000010100");
    check("00", "33000102aabb3e00", "33000102aabb3e00");
    // Destination options, alike; 0x1e does not change.
    check("3c", "33001e0212343e00", "33001e0212343e00");
    check("3c", "33003e0212340100", "33003e0200000100");
    const std::string a = "20010db80000000000000000000000aa", b = "20010db80000000000000000000000bb",
                      c = "20010db80000000000000000000000cc", here = "20010db8000000000000000000000002";
    // Routes: all of three addresses ahead, one ahead, none ahead; type 2; another type counts as it stands.
    check("2b", "33060003cafe0001" + a + b + c, "33060000cafe0001" + here + a + b, "cc");
    check("2b", "3306000100000000" + a + b + c, "3306000000000000" + a + b + here, "cc");
    check("2b", "3306000000000000" + a + b + c, "3306000000000000" + a + b + c);
    check("2b", "3302020100000000" + a, "3302020000000000" + here, "aa");
    check("2b", "3302040100000000" + a, "3302040100000000" + a);
    // A fragment header, and an extension that nobody here knows (mobility): as they stand.
    check("2c", "3300000100000007", "3300000100000007");
    check("87", "3300010203040506", "3300010203040506");
    // Several.
    check("00", "3c003e02ffff0100" "2b001e02ffff0100" "3302000100000000" + a,
          "3c003e0200000100" "2b001e02ffff0100" "3302000000000000" + here, "aa");
}

TEST_CASE("broken IPv6 headers are refused both ways, and the window stays")
{
    PatternRng rng;
    const auto backend = make_openssl_backend(rng);
    auto sa = make_sa(auth_row("hmac-sha1"), 32);
    const std::string a = "20010db80000000000000000000000aa";
    for (const auto& headers : {
             first(v6(51), 36),
             v6(17),                                        // no AH follows
             v6(0, "3301050200000100"),                     // longer than there is
             v6(0, "3300"),                                 // not even its fixed part
             v6(0, "1100050200000100"),                     // the chain goes elsewhere
             v6(0, "33003e0500000000"),                     // an option beyond its header
             v6(0, "330001020000003e"),                     // an option without a length
             v6(43, "3302000200000000" + a),                // two segments left of one
             v6(43, "3300000100000000"),                    // one of none
         }) {
        CAPTURE(headers.size());
        CHECK(seal(*backend, sa, headers, counted(20)).result == Drop::out_crypto);
        auto datagram = seal(*backend, sa, v6(51), counted(20), 5).datagram;
        datagram.erase(datagram.begin(), datagram.begin() + 40);
        CHECK(open(*backend, sa, joined({headers, datagram}), headers.size()).result == Drop::in_malformed);
    }
    CHECK(sa.replay.highest() == 0);
}

// ---- the header -----------------------------------------------------------------------------------------------------

TEST_CASE("the size of the header: multiples of 4 in IPv4, of 8 in IPv6")
{
    struct Row {
        std::string_view auth;
        std::size_t v4, v6;
    };
    for (const auto& [auth, in_v4, in_v6] : {Row{"hmac-md5", 24, 24}, {"hmac-sha1", 24, 24}, {"hmac-sha256", 28, 32},
                                             {"hmac-sha384", 36, 40}, {"hmac-sha512", 44, 48}, {"aes-xcbc-mac", 24, 24},
                                             {"keyed-md5", 24, 24}, {"null", 12, 16}}) {
        CAPTURE(auth);
        const auto sa = make_sa(auth_row(auth));
        CHECK(ah_size(sa, Family::v4) == in_v4);
        CHECK(ah_size(sa, Family::v6) == in_v6);
    }
}

TEST_CASE("every signature, every size: opens, and one bit changed where it counts does not")
{
    PatternRng rng;
    const auto backend = make_openssl_backend(rng);
    for (const auto* row : offered())
        for (const auto& headers : {v4(), v4("94040000"), v6(51), v6(0, "3300050200003e00")}) {
            CAPTURE(row->name);
            auto sa = make_sa(*row, 64);
            const auto size = ah_size(sa, family_of(headers));
            std::uint64_t sequence = 0;
            for (std::size_t n = 0; n < 300; n += n < 40 ? 1 : 37) {
                const auto sealed = seal(*backend, sa, headers, counted(n), ++sequence);
                REQUIRE(sealed.result == Drop::none);
                CHECK(open(*backend, sa, sealed.datagram, headers.size()) == Opened{Drop::none, size, ip_proto::udp});
            }
            if (row->icv == 0)
                continue;
            const auto datagram = seal(*backend, sa, headers, counted(21), ++sequence).datagram;
            for (std::size_t bit = headers.size() * 8; bit < datagram.size() * 8; ++bit) {
                auto broken = datagram;
                broken[bit / 8] = static_cast<std::uint8_t>(broken[bit / 8] ^ 1u << bit % 8);
                const auto verdict = open(*backend, sa, broken, headers.size()).result;
                const auto field = bit / 8 - headers.size();
                CAPTURE(field);
                if (field == 1)          // its length
                    CHECK(verdict != Drop::none);
                else if (field >= 8 && field < 12)
                    CHECK((verdict == Drop::in_integrity || verdict == Drop::in_replay));
                else
                    CHECK(verdict == Drop::in_integrity);
            }
            CHECK(open(*backend, sa, datagram, headers.size()).result == Drop::none);
        }
}

TEST_CASE("a header padded to 8 bytes is accepted in IPv4, with any padding, which is covered; other lengths are not")
{
    PatternRng rng;
    const auto backend = make_openssl_backend(rng);
    const auto& sha256 = auth_row("hmac-sha256");
    auto sa = make_sa(sha256, 32);
    // As Linux sends it: 12 + 16 + 4 bytes of leftovers.
    const auto headers = v4();
    const auto payload = counted(30);
    const auto ah = from_hex("1106000012345678" "00000001" "00000000000000000000000000000000" "deadbeef");
    auto datagram = joined({headers, ah, payload});
    auto zeroed = datagram;
    const auto covered = from_hex("4500006412340000" "00330000" "c0000201c6336402");
    std::ranges::copy(covered, zeroed.begin());
    auto mac = crypto::Library().make_mac(Primitive::hmac_sha256, counted(32));
    REQUIRE(mac);
    REQUIRE(mac->compute(zeroed, {}, MutableBytes(datagram).subspan(32, 16)));
    CHECK(open(*backend, sa, datagram, 20) == Opened{Drop::none, 32, ip_proto::udp});
    auto other_padding = datagram;
    other_padding[27 + 20 + 4] ^= 1;
    sa.replay = ReplayWindow(32);
    CHECK(open(*backend, sa, other_padding, 20).result == Drop::in_integrity);

    for (unsigned words = 0; words < 256; ++words) {
        CAPTURE(words);
        using Lengths = std::vector<unsigned>;
        for (const auto& [base, right] : {std::pair{v4(), Lengths{5, 6}}, {v6(51), Lengths{6}}}) {
            auto fresh = make_sa(sha256);
            auto packet = seal(*backend, fresh, base, counted(100)).datagram;
            packet[base.size() + 1] = static_cast<std::uint8_t>(words);
            const auto verdict = open(*backend, fresh, packet, base.size()).result;
            const auto size = (words + 2) * 4;
            if (size < 28 || size > packet.size() - base.size())
                CHECK(verdict == Drop::in_truncated);
            else if (std::ranges::find(right, words) == right.end())
                CHECK(verdict == Drop::in_malformed);
            else
                CHECK((verdict == Drop::none || verdict == Drop::in_integrity));
        }
    }
}

TEST_CASE("an AH where the IP header is, is refused, without a signature to miss it as well")
{
    PatternRng rng;
    const auto backend = make_openssl_backend(rng);
    for (const auto* row : offered())
        for (const auto& headers : {v4(), v6(51)})
            for (const std::size_t at : {std::size_t{0}, headers.size() - 1}) {
                CAPTURE(row->name);
                auto sa = make_sa(*row);
                auto datagram = joined({headers, counted(60)});
                AhSealJob job;
                job.sa = &sa;
                job.sequence = 1;
                job.datagram = datagram;
                job.at = at;
                backend->seal({&job, 1});
                CHECK(job.result == Drop::out_crypto);
                CHECK(open(*backend, sa, datagram, at).result == Drop::in_malformed);
            }
}

TEST_CASE("every prefix of a datagram is refused")
{
    PatternRng rng;
    const auto backend = make_openssl_backend(rng);
    for (const auto& headers : {v4(), v6(51)})
        for (const auto* row : offered()) {
            CAPTURE(row->name);
            auto sa = make_sa(*row);
            const auto datagram = seal(*backend, sa, headers, counted(33)).datagram;
            const auto end = headers.size() + ah_size(sa, family_of(headers));
            for (std::size_t n = 0; n < datagram.size(); ++n) {
                CAPTURE(n);
                const auto verdict = open(*backend, sa, first(datagram, n), headers.size()).result;
                if (n == 0)
                    CHECK(verdict == Drop::in_malformed);
                else if (n < end)
                    CHECK(verdict == Drop::in_truncated);
                else if (row->icv != 0)
                    CHECK(verdict == Drop::in_integrity);
            }
        }
}

// ---- numbers and keys -----------------------------------------------------------------------------------------------

TEST_CASE("replay: checked before the ICV, moved after it; sequence numbers 0 and beyond 32 bits")
{
    PatternRng rng;
    const auto backend = make_openssl_backend(rng);
    auto sender = make_sa(auth_row("hmac-sha256")), receiver = make_sa(auth_row("hmac-sha256"), 64);
    struct Step {
        std::uint64_t sequence;
        bool broken;
        Drop expected;
    };
    static constexpr Step steps[] = {
        {1, false, Drop::none},       {1, false, Drop::in_replay},   {3, false, Drop::none},
        {100, true, Drop::in_integrity}, {2, false, Drop::none},     {100, false, Drop::none},
        {37, false, Drop::none},      {36, false, Drop::in_replay},  {37, true, Drop::in_replay},
        {38, true, Drop::in_integrity}, {38, false, Drop::none},     {0xffffffff, false, Drop::none},
    };
    for (const auto& step : steps) {
        CAPTURE(&step - steps);
        auto datagram = seal(*backend, sender, v4(), counted(20), step.sequence).datagram;
        if (step.broken)
            datagram.back() ^= 1;
        CHECK(open(*backend, receiver, datagram, 20).result == step.expected);
    }
    CHECK(seal(*backend, sender, v4(), {}, 0).result == Drop::out_sequence_exhausted);
    CHECK(seal(*backend, sender, v4(), {}, 0x100000000).result == Drop::out_sequence_exhausted);
    sender.flags = SADB_X_EXT_CYCSEQ;
    CHECK(seal(*backend, sender, v4(), {}, 0x100000000).result == Drop::none);
}

TEST_CASE("extended sequence numbers: the high half is guessed from the window and covered")
{
    PatternRng rng;
    const auto backend = make_openssl_backend(rng);
    for (const auto* row : offered()) {
        if (row->icv == 0)
            continue;
        CAPTURE(row->name);
        auto sender = make_sa(*row), receiver = make_sa(*row, 64);
        sender.flags = receiver.flags = SADB_X_SAFLAGS_ESN;
        receiver.replay.accept(0xffffffd0);
        struct Step {
            std::uint64_t sequence;
            Drop expected;
        };
        for (const auto& [sequence, expected] : {Step{0xffffffe0, Drop::none}, {0x100000005, Drop::none},
                                                 {0xfffffff0, Drop::none}, {0xfffffff0, Drop::in_replay},
                                                 {0x100000000, Drop::none}, {0xffffffc5, Drop::in_integrity},
                                                 {0x280000000, Drop::in_integrity}, {0x180000000, Drop::none}}) {
            CAPTURE(sequence);
            const auto datagram = seal(*backend, sender, v6(51), counted(9), sequence).datagram;
            CHECK(open(*backend, receiver, datagram, 40).result == expected);
        }
    }
}

TEST_CASE("an SA that AH cannot serve is refused: no key, a cipher, another protocol, the old format, too long")
{
    PatternRng rng;
    const auto backend = make_openssl_backend(rng);
    const auto refused = [&](Sa& sa) {
        return seal(*backend, sa, v4(), counted(20)).result == Drop::out_crypto &&
               open(*backend, sa, joined({v4(), Buffer(60)}), 20).result == Drop::in_sa_state;
    };
    const auto& sha1 = auth_row("hmac-sha1");
    Sa larval;
    larval.protocol = ip_proto::ah;
    CHECK(refused(larval));
    auto sa = make_sa(sha1);
    sa.auth_key = {};
    CHECK(refused(sa));
    sa.auth_key = SecretBytes(counted(19));
    CHECK(refused(sa));
    sa.auth_key = SecretBytes(counted(20));
    CHECK_FALSE(refused(sa));
    auto esp = make_sa(sha1);
    esp.protocol = ip_proto::esp;
    CHECK(refused(esp));
    auto ciphered = make_sa(sha1);
    ciphered.cipher = algorithm_by_name(AlgorithmKind::cipher, "null");
    CHECK(refused(ciphered));
    auto tcp = make_sa(auth_row("tcp-md5"));
    CHECK(refused(tcp));
    auto old = make_sa(sha1);
    old.flags = SADB_X_EXT_OLD;
    CHECK(refused(old));

    auto good = make_sa(sha1);
    CHECK(seal(*backend, good, v4(), Buffer(65535 + 40 - 20 - 24)).result == Drop::none);
    CHECK(seal(*backend, good, v4(), Buffer(65535 + 40 - 20 - 24 + 1)).result == Drop::out_too_big);
    CHECK(open(*backend, good, joined({v4(), Buffer(65535 + 21)}), 20).result == Drop::in_malformed);
    CHECK(open(*backend, good, v4(), 21).result == Drop::in_truncated);
    AhSealJob job;
    Buffer small(20 + 23);
    std::ranges::copy(v4(), small.begin());
    job.sa = &good;
    job.sequence = 1;
    job.datagram = small;
    for (const std::size_t at : {20u, 21u, 43u, 44u, 1000u}) {
        job.at = at;
        backend->seal({&job, 1});
        CHECK(job.result == Drop::out_crypto);
    }
}

TEST_CASE("break_icv: what goes out fails the peer's check")
{
    PatternRng rng;
    const auto backend = make_openssl_backend(rng);
    for (const auto* row : offered()) {
        CAPTURE(row->name);
        auto sa = make_sa(*row);
        backend->break_icv = true;
        const auto broken = seal(*backend, sa, v4(), counted(20)).datagram;
        backend->break_icv = false;
        CHECK(open(*backend, sa, broken, 20).result == (row->icv != 0 ? Drop::in_integrity : Drop::none));
    }
}
