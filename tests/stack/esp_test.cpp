// SPDX-License-Identifier: BSD-2-Clause
// Truth from elsewhere: RFC 3602 §4 (ESP packets), draft-mcgrew-gcm-test-01 (ESP with GCM), and the packets that scapy
// made (tests/data/esp/scapy.tsv, written by tests/interop/esp_scapy.py --record).
#include "stack/crypto.hpp"
#include "stack/esp.hpp"

#include "tests/stack/esp_support.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

using namespace latchkey;
using namespace latchkey::test;

namespace {

struct Suite {
    std::string name;
    const Algorithm* cipher;
    std::size_t cipher_key;   // bytes, salt included
    const Algorithm* auth;    // or null
};

// The key sizes of a cipher in bytes, salt included: all of them if they are few, else the ends and one between.
std::vector<std::size_t> key_sizes(const Algorithm& cipher)
{
    const std::size_t least = cipher.key_min / 8u, most = cipher.key_max / 8u;
    if (cipher.primitive == Primitive::null)
        return {0, 16};
    if (cipher.key_step == 0)
        return {least};
    if (cipher.key_step == 8)
        return {least, 13, most};
    std::vector<std::size_t> sizes;
    for (auto size = least; size <= most; size += cipher.key_step / 8u)
        sizes.push_back(size);
    return sizes;
}

bool takes(const Algorithm& row, AlgorithmKind kind)
{
    return row.offered() && same_space(row.kind, kind);
}

// Every cipher that the algorithm table offers with each of its key sizes, alone and with an ICV; and every ICV.
std::vector<Suite> suites()
{
    std::vector<Suite> all;
    const auto add = [&](const Algorithm& cipher, std::size_t key, const Algorithm* auth) {
        const auto name = std::string(cipher.name) + "/" + std::to_string(key);
        all.push_back({auth == nullptr ? name : name + " " + std::string(auth->name), &cipher, key, auth});
    };
    const auto& sha256 = *algorithm_by_name(AlgorithmKind::auth, "hmac-sha256");
    for (const auto& cipher : algorithms)
        if (takes(cipher, AlgorithmKind::cipher))
            for (const auto size : key_sizes(cipher)) {
                add(cipher, size, nullptr);
                if (cipher.kind == AlgorithmKind::cipher)
                    add(cipher, size, &sha256);
            }
    for (const auto& auth : algorithms)
        if (takes(auth, AlgorithmKind::auth))
            for (const auto* cipher : {"null", "aes-cbc", "aes-ctr"}) {
                const auto& row = *algorithm_by_name(AlgorithmKind::cipher, cipher);
                add(row, row.key_min / 8u, &auth);
            }
    return all;
}

bool has_icv(const Suite& suite)
{
    return suite.cipher->icv != 0 || (suite.auth != nullptr && suite.auth->icv != 0);
}

Sa make_sa(const Suite& suite, std::uint32_t window = 0)
{
    Sa sa;
    sa.spi = 0x12345678;
    sa.state = SaState::mature;
    sa.cipher = suite.cipher;
    sa.cipher_key = SecretBytes(counted(suite.cipher_key));
    sa.auth = suite.auth;
    if (suite.auth != nullptr)
        sa.auth_key = SecretBytes(counted(suite.auth->key_min / 8u));
    sa.replay = ReplayWindow(window);
    return sa;
}

const Algorithm& cipher_row(std::string_view name)
{
    return *algorithm_by_name(AlgorithmKind::cipher, name);
}

const Algorithm& auth_row(std::string_view name)
{
    return *algorithm_by_name(AlgorithmKind::auth, name);
}

Sa make_sa(std::string_view cipher, std::size_t key, std::string_view auth = {}, std::uint32_t window = 0)
{
    return make_sa({{}, &cipher_row(cipher), key, auth.empty() ? nullptr : &auth_row(auth)}, window);
}

struct Sealed {
    Drop result;
    Buffer packet;
};

Sealed seal(CipherBackend& backend, Sa& sa, std::vector<Bytes> parts, std::uint64_t sequence = 1,
            std::uint8_t next_header = ip_proto::udp)
{
    std::size_t size = 0;
    SealJob job;
    for (const auto& part : parts) {
        job.parts[job.part_count++] = part;
        size += part.size();
    }
    Buffer packet(esp_sealed_size(sa, size), 0xee);
    job.sa = &sa;
    job.sequence = sequence;
    job.next_header = next_header;
    job.out = packet;
    backend.seal({&job, 1});
    return {job.result, std::move(packet)};
}

Sealed seal(CipherBackend& backend, Sa& sa, const Buffer& payload, std::uint64_t sequence = 1,
            std::uint8_t next_header = ip_proto::udp)
{
    return seal(backend, sa, std::vector<Bytes>{Bytes(payload)}, sequence, next_header);
}

struct Opened {
    Drop result;
    Buffer payload;
    std::uint8_t next_header;
    bool operator==(const Opened&) const = default;
};

Opened open(CipherBackend& backend, Sa& sa, Buffer packet)
{
    OpenJob job;
    job.sa = &sa;
    job.packet = packet;
    backend.open({&job, 1});
    if (job.result != Drop::none)
        CHECK(job.payload.empty());
    return {job.result, Buffer(job.payload.begin(), job.payload.end()), job.next_header};
}

std::unique_ptr<CipherBackend> backend_over(PatternRng& rng)
{
    return make_openssl_backend(rng);
}

}  // namespace

// ---- vectors --------------------------------------------------------------------------------------------------------

TEST_CASE("RFC 3602: ESP packets with AES-CBC, both ways")
{
    struct Vector {
        std::uint32_t spi, sequence;
        std::uint8_t next_header;
        std::string_view key, iv, payload, sealed;
    };
    static constexpr Vector vectors[] = {
        {0x4321, 1, 1, "90d382b410eeba7ad938c46cec1a82bf", "e96e8c08ab465763fd098d45dd3ff893",
         "08000ebda70a00008e9c083db95b070008090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b"
         "2c2d2e2f3031323334353637",
         "f663c25d325c18c6a9453e194e120849a4870b66cc6b9965330013b4898dc856a4699e523a55db080b59ec3a8e4b7e52775b07d1"
         "db34ed9c538ab50c551b874aa269add047ad2d5913ac19b7cfbad4a6"},
        {0x4321, 8, 1, "90d382b410eeba7ad938c46cec1a82bf", "69d08df7d203329db093fc4924e5bd80",
         "0800b5e8a80a0500a69c083d0b660e00777777777777777777777777",
         "f51995881ec4e0c4488987ce742e8109689bb379d2d750c0d915dca346a89f75"},
        {0x8765, 2, 4, "0123456789abcdef0123456789abcdef", "f4e765244f6407adf13dc1380f673f37",
         "45000054090400004001f988c0a87b03c0a87bc808009f76a90a0100b49c083d02a2040008090a0b0c0d0e0f1011121314151617"
         "18191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637",
         "773b5241a4c449225e4f3ce5ed611b0c237ca96cf74a93013c1b0ea1a0cf70f8e4ecaec78ac53aad7a0f022b859243c647752e94"
         "a859352b8a4d4d2decd136e5c177f132ad3fbfb2201ac9904c74ee0a109e0ca1e4dfe9d5a100b842f1c22f0d"},
        {0x8765, 5, 4, "0123456789abcdef0123456789abcdef", "85d47224b5f3dd5d2101d4ea8dffab22",
         "45000044090c00004001f990c0a87b03c0a87bc80800d63caa0a0200c69c083da3de0300ffffffffffffffffffffffffffffffff"
         "ffffffffffffffffffffffffffffffff",
         "15b92683819596a8047232cc00f7048fe45318e11f8a0f62ede3c3fc61203bb50f980a08c9843fd3a1b06d5c07ff9639b7eb7dfb"
         "3512e5de435e7207ed971ef3d2726d9b5ef6affc6d17a0decbb13892"},
    };
    for (const auto& vector : vectors) {
        CAPTURE(vector.sealed);
        PatternRng rng(from_hex(vector.iv));
        const auto backend = backend_over(rng);
        auto sa = make_sa("aes-cbc", 16);
        sa.spi = vector.spi;
        sa.cipher_key = SecretBytes(from_hex(vector.key));
        Buffer header(8);
        wire::set_field<std::uint32_t>(header, 0, vector.spi);
        wire::set_field<std::uint32_t>(header, 4, vector.sequence);
        const auto packet = joined({header, from_hex(vector.iv), from_hex(vector.sealed)});
        const auto payload = from_hex(vector.payload);

        const auto sealed = seal(*backend, sa, payload, vector.sequence, vector.next_header);
        CHECK(sealed.result == Drop::none);
        CHECK(sealed.packet == packet);
        CHECK(open(*backend, sa, packet) == Opened{Drop::none, payload, vector.next_header});
    }
}

TEST_CASE("draft-mcgrew-gcm-test: ESP packets are opened, with 32 and 64 bits of sequence number")
{
    PatternRng rng;
    const auto backend = backend_over(rng);
    int extended = 0;
    for (const auto& vector : gcm_vectors()) {
        const auto& [encryption_key, nonce, plain, associated, encrypted, icv] = vector;
        CAPTURE(plain.size());
        const bool esn = associated.size() == 12;
        const auto sequence =
            esn ? wire::field<std::uint64_t>(associated, 4) : wire::field<std::uint32_t>(associated, 4);
        const auto key = joined({encryption_key, Buffer(nonce.begin(), nonce.begin() + 4)});
        auto sa = make_sa("aes-gcm-16", key.size(), {}, 64);
        sa.cipher_key = SecretBytes(key);
        sa.spi = wire::field<std::uint32_t>(associated, 0);
        sa.flags = esn ? SADB_X_SAFLAGS_ESN : 0;
        if (sequence > 1)
            sa.replay.accept(sequence - 1);
        const auto packet = joined({Buffer(associated.begin(), associated.begin() + 4),
                                    Buffer(associated.end() - 4, associated.end()),
                                    Buffer(nonce.begin() + 4, nonce.end()), encrypted, icv});
        auto payload = plain;
        const auto next_header = payload.back();
        payload.resize(payload.size() - 2u - payload[payload.size() - 2]);
        CHECK(open(*backend, sa, packet) == Opened{Drop::none, payload, next_header});
        CHECK(sa.replay.highest() == sequence);
        CHECK(open(*backend, sa, packet).result == Drop::in_replay);
        extended += esn;
    }
    CHECK(extended == 9);
}

TEST_CASE("packets that scapy made: the same bytes out, the same payload in")
{
    int packets = 0;
    for (auto& row : rows_of("esp/scapy.tsv")) {
        CAPTURE(row.str());
        std::string cipher, key, auth, auth_key, spi, sequence, kind, next, iv, payload, packet;
        row >> cipher >> key >> auth >> auth_key >> spi >> sequence >> kind >> next >> iv >> payload >> packet;
        REQUIRE(row);
        PatternRng rng(iv == "-" ? Buffer{0} : column(iv));
        const auto backend = backend_over(rng);
        auto sa = make_sa(cipher, 0, auth == "-" ? "" : auth, 64);
        sa.cipher_key = SecretBytes(column(key));
        sa.auth_key = SecretBytes(column(auth_key));
        sa.spi = static_cast<std::uint32_t>(std::stoul(spi, nullptr, 16));
        const auto number = std::stoull(sequence, nullptr, 16);
        sa.flags = kind == "extended" ? SADB_X_SAFLAGS_ESN : 0;
        if (number > 1)
            sa.replay.accept(number - 1);
        const auto next_header = static_cast<std::uint8_t>(std::stoul(next));

        const auto sealed = seal(*backend, sa, column(payload), number, next_header);
        CHECK(sealed.result == Drop::none);
        CHECK(sealed.packet == column(packet));
        CHECK(open(*backend, sa, column(packet)) == Opened{Drop::none, column(payload), next_header});
        ++packets;
    }
    CHECK(packets >= 100);
}

// ---- sizes and parts ------------------------------------------------------------------------------------------------

TEST_CASE("every suite, every size: the packet has the promised size and layout, and opens")
{
    PatternRng rng;
    const auto backend = backend_over(rng);
    std::vector<std::size_t> sizes{255, 256, 511, 1023, 1024, 1399, 1400, 1401, 1500, 9000, 32768, 65400};
    for (std::size_t n = 0; n <= 200; ++n)
        sizes.push_back(n);
    for (const auto& suite : suites()) {
        CAPTURE(suite.name);
        auto sa = make_sa(suite);
        const std::size_t unit = std::max<std::size_t>(4, suite.cipher->block);
        const std::size_t around =
            8u + suite.cipher->iv + suite.cipher->icv + (suite.auth == nullptr ? 0u : suite.auth->icv);
        std::uint64_t sequence = 0;
        for (const auto n : sizes) {
            CAPTURE(n);
            const auto payload = counted(n);
            const auto sealed = seal(*backend, sa, payload, ++sequence, ip_proto::tcp);
            REQUIRE(sealed.result == Drop::none);
            const auto body = sealed.packet.size() - around;
            CHECK(body % unit == 0);
            CHECK(body >= n + 2);
            CHECK(body < n + 2 + unit);
            CHECK(wire::field<std::uint32_t>(sealed.packet, 0) == sa.spi);
            CHECK(wire::field<std::uint32_t>(sealed.packet, 4) == sequence);
            if (suite.cipher->counts())
                CHECK(wire::field<std::uint64_t>(sealed.packet, 8) == sequence);
            REQUIRE(open(*backend, sa, sealed.packet) == Opened{Drop::none, payload, ip_proto::tcp});
        }
    }
}

TEST_CASE("esp_payload_room is the largest payload whose packet fits")
{
    for (const auto& suite : suites()) {
        CAPTURE(suite.name);
        const auto sa = make_sa(suite);
        for (std::size_t room = 0; room < 1600; ++room) {
            const auto n = esp_payload_room(sa, room);
            if (n > 0)
                CHECK(esp_sealed_size(sa, n) <= room);
            CHECK(esp_sealed_size(sa, n + 1) > room);
        }
    }
}

TEST_CASE("however the payload is cut into parts, the packet is the same and the parts are untouched")
{
    const auto payload = counted(83);
    const auto whole = Bytes(payload);
    PatternRng rng(Buffer{0x5a});   // the same IV each time
    const auto backend = backend_over(rng);
    for (const auto& suite : suites()) {
        CAPTURE(suite.name);
        auto sa = make_sa(suite);
        const auto expected = seal(*backend, sa, payload).packet;
        for (std::size_t a = 0; a <= payload.size(); ++a) {
            const auto b = a + (payload.size() - a) / 3, c = a + (payload.size() - a) / 2;
            const std::vector<std::vector<Bytes>> cuts = {
                {whole.first(a), whole.subspan(a)},
                {whole.first(a / 2), whole.subspan(a / 2, a - a / 2), whole.subspan(a)},
                {whole.first(a), whole.subspan(a, b - a), whole.subspan(b, c - b), whole.subspan(c)},
            };
            for (const auto& parts : cuts) {
                const auto sealed = seal(*backend, sa, parts);
                CHECK(sealed.result == Drop::none);
                CHECK(sealed.packet == expected);
            }
        }
    }
    CHECK(payload == counted(83));
}

TEST_CASE("a span of jobs is served in order, each with its own SA and verdict")
{
    PatternRng rng;
    const auto backend = backend_over(rng);
    auto gcm = make_sa("aes-gcm-16", 20), cbc = make_sa("aes-cbc", 16, "hmac-sha1");
    auto keyless = make_sa("aes-gcm-16", 20);
    keyless.cipher_key = {};
    const auto payload = counted(60);
    std::vector<Buffer> packets;
    std::vector<SealJob> jobs;
    std::vector<Sa*> sas{&gcm, &cbc, &keyless, &gcm, &cbc};
    for (auto* sa : sas)
        packets.emplace_back(esp_sealed_size(*sa, payload.size()));
    for (std::size_t i = 0; i < sas.size(); ++i) {
        SealJob job;
        job.sa = sas[i];
        job.sequence = i + 1;
        job.next_header = ip_proto::tcp;
        job.parts[0] = payload;
        job.part_count = 1;
        job.out = packets[i];
        jobs.push_back(job);
    }
    backend->seal(jobs);
    std::vector<OpenJob> back(sas.size());
    for (std::size_t i = 0; i < sas.size(); ++i) {
        CHECK(jobs[i].result == (sas[i] == &keyless ? Drop::out_crypto : Drop::none));
        back[i].sa = sas[i];
        back[i].packet = packets[i];
    }
    backend->open(back);
    for (std::size_t i = 0; i < sas.size(); ++i) {
        CHECK(back[i].result == (sas[i] == &keyless ? Drop::in_sa_state : Drop::none));
        if (sas[i] != &keyless)
            CHECK(std::ranges::equal(back[i].payload, payload));
    }
}

TEST_CASE("CBC takes a new IV from the random source for every packet")
{
    struct TwisterRng : Rng {
        void fill(MutableBytes out) override
        {
            for (auto& byte : out)
                byte = static_cast<std::uint8_t>(generator() >> 24);
        }
        std::mt19937 generator;
    } rng;
    const auto backend = make_openssl_backend(rng);
    auto sa = make_sa("aes-cbc", 16, "hmac-sha256");
    sa.flags = SADB_X_EXT_PRAND;   // draws from the same pool, in pieces of any size
    std::vector<Buffer> ivs;
    for (std::uint64_t i = 1; i <= 300; ++i) {   // several times what the pool holds
        const auto sealed = seal(*backend, sa, counted(i % 16), i);
        REQUIRE(sealed.result == Drop::none);
        ivs.emplace_back(sealed.packet.begin() + 8, sealed.packet.begin() + 24);
    }
    std::ranges::sort(ivs);
    CHECK(std::ranges::adjacent_find(ivs) == ivs.end());
}

// ---- refusals -------------------------------------------------------------------------------------------------------

TEST_CASE("one bit changed anywhere: the integrity check fails, and the next packet is not affected")
{
    PatternRng rng;
    const auto backend = backend_over(rng);
    for (const auto& suite : suites()) {
        if (!has_icv(suite))
            continue;
        CAPTURE(suite.name);
        auto sa = make_sa(suite);
        const auto payload = counted(37);
        const auto packet = seal(*backend, sa, payload, 5).packet;
        for (std::size_t bit = 0; bit < packet.size() * 8; ++bit) {
            auto broken = packet;
            broken[bit / 8] = static_cast<std::uint8_t>(broken[bit / 8] ^ 1u << bit % 8);
            CHECK(open(*backend, sa, broken).result == Drop::in_integrity);
        }
        CHECK(open(*backend, sa, packet) == Opened{Drop::none, payload, ip_proto::udp});
    }
}

TEST_CASE("every prefix of a packet is refused")
{
    PatternRng rng;
    const auto backend = backend_over(rng);
    for (const auto& suite : suites()) {
        CAPTURE(suite.name);
        auto sa = make_sa(suite);
        const auto packet = seal(*backend, sa, counted(61)).packet;
        const auto least = esp_sealed_size(sa, 0);
        for (std::size_t n = 0; n < packet.size(); ++n) {
            CAPTURE(n);
            auto prefix = packet;
            prefix.resize(n);
            const auto result = open(*backend, sa, prefix).result;
            const auto unit = std::max<std::size_t>(4, suite.cipher->block);
            if (n < least || (n - least) % unit != 0)
                CHECK(result == Drop::in_truncated);
            else if (has_icv(suite))
                CHECK(result == Drop::in_integrity);
        }
    }
}

TEST_CASE("a packet beyond 65,535 bytes is refused both ways")
{
    PatternRng rng;
    const auto backend = backend_over(rng);
    auto sa = make_sa("aes-gcm-16", 20);
    CHECK(seal(*backend, sa, counted(esp_payload_room(sa, 65535))).result == Drop::none);
    CHECK(seal(*backend, sa, counted(65536)).result == Drop::out_too_big);
    CHECK(open(*backend, sa, Buffer(65536 + 32)).result == Drop::in_malformed);
}

TEST_CASE("replay: checked before the ICV, moved after it")
{
    PatternRng rng;
    const auto backend = backend_over(rng);
    for (const auto& suite : suites()) {
        if (!has_icv(suite))
            continue;
        CAPTURE(suite.name);
        auto sender = make_sa(suite), receiver = make_sa(suite, 64);
        struct Step {
            std::uint64_t sequence;
            bool broken;
            Drop expected;
        };
        static constexpr Step steps[] = {
            /*  1 */ {1, false, Drop::none},
            /*  2 */ {1, false, Drop::in_replay},
            /*  3 */ {3, false, Drop::none},
            /*  4 */ {2, false, Drop::none},
            /*  5 */ {2, false, Drop::in_replay},
            /*  6 */ {100, true, Drop::in_integrity},   // does not move the window
            /*  7 */ {4, false, Drop::none},
            /*  8 */ {100, false, Drop::none},
            /*  9 */ {37, false, Drop::none},           // the left edge, 100 - 64 + 1
            /* 10 */ {36, false, Drop::in_replay},
            /* 11 */ {37, true, Drop::in_replay},       // seen: not worth an ICV
            /* 12 */ {38, true, Drop::in_integrity},    // unseen: a broken one does not mark it
            /* 13 */ {38, false, Drop::none},
            /* 14 */ {0xffffffff, false, Drop::none},
            /* 15 */ {100, false, Drop::in_replay},
            /* 16 */ {0xffffffff, false, Drop::in_replay},
        };
        for (const auto& step : steps) {
            CAPTURE(&step - steps + 1);
            auto packet = seal(*backend, sender, counted(20), step.sequence).packet;
            if (step.broken)
                packet.back() ^= 1;
            CHECK(open(*backend, receiver, packet).result == step.expected);
        }
    }
}

TEST_CASE("sequence number 0 is refused when there is a window, and never sent")
{
    PatternRng rng;
    const auto backend = backend_over(rng);
    auto with = make_sa("null", 0, "hmac-sha256", 32), without = make_sa("null", 0, "hmac-sha256");
    // CYCSEQ lets the count pass 32 bits, so that the number on the wire is 0.
    auto sender = make_sa("null", 0, "hmac-sha256");
    sender.flags = SADB_X_EXT_CYCSEQ;
    const auto zero = seal(*backend, sender, counted(20), std::uint64_t{1} << 32);
    REQUIRE(zero.result == Drop::none);
    REQUIRE(wire::field<std::uint32_t>(zero.packet, 4) == 0);
    CHECK(open(*backend, with, zero.packet).result == Drop::in_replay);
    CHECK(open(*backend, without, zero.packet).result == Drop::none);

    CHECK(seal(*backend, with, counted(20), 0).result == Drop::out_sequence_exhausted);
    CHECK(seal(*backend, with, counted(20), 0xffffffff).result == Drop::none);
    CHECK(seal(*backend, with, counted(20), std::uint64_t{1} << 32).result == Drop::out_sequence_exhausted);
}

TEST_CASE("without an ICV the window is neither asked nor moved")
{
    PatternRng rng;
    const auto backend = backend_over(rng);
    for (const auto& suite : suites()) {
        if (has_icv(suite))
            continue;
        CAPTURE(suite.name);
        auto sa = make_sa(suite, 64);
        const auto packet = seal(*backend, sa, counted(20), 9).packet;
        for (int copy = 0; copy < 2; ++copy)
            CHECK(open(*backend, sa, packet).result == Drop::none);
        CHECK(sa.replay.highest() == 0);
        sa.context.reset();
        sa.flags = SADB_X_SAFLAGS_ESN;   // a number that would lie before 0, if numbers mattered
        CHECK(open(*backend, sa, seal(*backend, sa, counted(20), 0xfffffff0).packet).result == Drop::none);
    }
}

TEST_CASE("extended sequence numbers: the high half is guessed from the window and authenticated")
{
    struct Step {
        std::uint64_t sequence;
        Drop expected;
    };
    static constexpr Step steps[] = {
        /*  1 */ {0xffffffe0, Drop::none},
        /*  2 */ {0x100000005, Drop::none},           // the low half wrapped
        /*  3 */ {0xfffffff0, Drop::none},            // an old one from before the wrap, still inside the window
        /*  4 */ {0xfffffff0, Drop::in_replay},
        /*  5 */ {0x100000005, Drop::in_replay},
        /*  6 */ {0x100000000, Drop::none},           // low half 0 is an ordinary number here
        /*  7 */ {0xffffffc6, Drop::none},            // the left edge, 0x100000005 - 64 + 1
        /*  8 */ {0xffffffc5, Drop::in_integrity},    // beyond it: taken for 0x1ffffffc5, the ICV tells
        /*  9 */ {0x180000000, Drop::none},
        /* 10 */ {0x1fffffff0, Drop::none},
        /* 11 */ {0x200000001, Drop::none},
        /* 12 */ {0x1ffffffff, Drop::none},
        /* 13 */ {0x400000002, Drop::in_integrity},   // a whole turn was lost: no way to know
        /* 14 */ {0x200000002, Drop::none},
    };
    PatternRng rng;
    const auto backend = backend_over(rng);
    for (const auto& suite : suites()) {
        if (!has_icv(suite))
            continue;
        CAPTURE(suite.name);
        auto sender = make_sa(suite), receiver = make_sa(suite, 64);
        sender.flags = receiver.flags = SADB_X_SAFLAGS_ESN;
        // From the start of an SA a number "before 0" is a replay: highest is 0, so 0xffffffff would lie there.
        const auto early = seal(*backend, sender, counted(20), 0xffffffff).packet;
        CHECK(open(*backend, receiver, early).result == Drop::in_replay);
        receiver.replay.accept(0xffffffd0);
        for (const auto& step : steps) {
            CAPTURE(&step - steps + 1);
            const auto packet = seal(*backend, sender, counted(20), step.sequence).packet;
            CHECK(open(*backend, receiver, packet).result == step.expected);
        }
    }
}

TEST_CASE("extended sequence numbers without a window: the top is followed, duplicates and stragglers pass")
{
    PatternRng rng;
    const auto backend = backend_over(rng);
    auto sender = make_sa("aes-gcm-16", 20), receiver = make_sa("aes-gcm-16", 20);
    sender.flags = receiver.flags = SADB_X_SAFLAGS_ESN;
    for (const std::uint64_t sequence : {0x1ull, 0x70000000ull, 0xe0000000ull, 0x100000003ull, 0x100000003ull,
                                         0xf0000000ull, 0x160000000ull, 0x100000000ull})
        CHECK(open(*backend, receiver, seal(*backend, sender, counted(20), sequence).packet).result == Drop::none);
    CHECK(receiver.replay.highest() == 0x160000000);
}

TEST_CASE("padding and next header")
{
    PatternRng rng;
    const auto backend = backend_over(rng);
    struct Case {
        std::string_view body;   // after SPI and sequence number, NULL cipher without ICV
        Drop expected;
        std::size_t payload;
    };
    static constexpr Case cases[] = {
        /*  1 */ {"aabb0011", Drop::none, 2},
        /*  2 */ {"aa010111", Drop::none, 1},
        /*  3 */ {"01020211", Drop::none, 0},
        /*  4 */ {"aa000111", Drop::in_padding, 0},            // not 1
        /*  5 */ {"02010211", Drop::in_padding, 0},            // not in order
        /*  6 */ {"01020311", Drop::in_padding, 0},            // longer than the packet
        /*  7 */ {"aabbff11", Drop::in_padding, 0},
        /*  8 */ {"aa01020304050611", Drop::in_padding, 0},    // says 6, there are 5
        /*  9 */ {"aa01020304050511", Drop::none, 1},          // more than needed: allowed (RFC 4303 §2.4)
        /* 10 */ {"aabb003b", Drop::in_dummy, 0},              // next header 59
        /* 11 */ {"aa02013b", Drop::in_padding, 0},
        /* 12 */ {"aabb0000", Drop::none, 2},
    };
    for (const auto& example : cases) {
        CAPTURE(&example - cases + 1);
        auto sa = make_sa("null", 0);
        const auto opened = open(*backend, sa, joined({from_hex("1234567800000001"), from_hex(example.body)}));
        CHECK(opened.result == example.expected);
        CHECK(opened.payload.size() == example.payload);
    }
    auto sa = make_sa("null", 0);
    Buffer longest(8 + 256 + 4 - 1);   // 255 bytes of padding, the most there can be
    longest.resize(8 + 260);
    for (std::size_t i = 0; i < 255; ++i)
        longest[longest.size() - 2 - 255 + i] = static_cast<std::uint8_t>(i + 1);
    longest[longest.size() - 2] = 255;
    longest.back() = ip_proto::udp;
    CHECK(open(*backend, sa, longest) == Opened{Drop::none, Buffer(3), ip_proto::udp});
}

TEST_CASE("a dummy packet is recognised after the integrity check, and counts in the window")
{
    PatternRng rng;
    const auto backend = backend_over(rng);
    for (const auto& suite : suites()) {
        if (!has_icv(suite))
            continue;
        CAPTURE(suite.name);
        auto sa = make_sa(suite, 32);
        const auto packet = seal(*backend, sa, counted(33), 7, ip_proto::no_next).packet;
        auto broken = packet;
        broken[8] ^= 0x40;
        CHECK(open(*backend, sa, broken).result == Drop::in_integrity);
        CHECK(open(*backend, sa, packet).result == Drop::in_dummy);
        CHECK(sa.replay.highest() == 7);
        CHECK(open(*backend, sa, packet).result == Drop::in_replay);
    }
}

TEST_CASE("the padding flags of an SA")
{
    PatternRng rng;
    const auto backend = backend_over(rng);
    const auto padding_of = [&](std::uint32_t flags) {
        auto sa = make_sa("null", 0);
        sa.flags = flags;
        const auto packet = seal(*backend, sa, counted(8 + 3)).packet;   // 11 + 3 + 2 = 16
        return Buffer(packet.end() - 5, packet.end() - 2);
    };
    CHECK(padding_of(SADB_X_EXT_PSEQ) == Buffer{1, 2, 3});
    CHECK(padding_of(SADB_X_EXT_PZERO) == Buffer{0, 0, 0});
    const auto random = padding_of(SADB_X_EXT_PRAND);
    CHECK(std::search(rng.pattern.begin(), rng.pattern.end(), random.begin(), random.end()) != rng.pattern.end());

    auto zero = make_sa("null", 0), sequential = make_sa("null", 0), any = make_sa("null", 0);
    zero.flags = SADB_X_EXT_PZERO;
    any.flags = SADB_X_EXT_PRAND;
    const auto packet = seal(*backend, zero, counted(11)).packet;
    CHECK(open(*backend, zero, packet).result == Drop::none);
    CHECK(open(*backend, any, packet).result == Drop::none);
    CHECK(open(*backend, sequential, packet).result == Drop::in_padding);
}

TEST_CASE("extra padding: whole steps up to the limit, all of them drawn, and the packet opens")
{
    struct TwisterRng : Rng {
        void fill(MutableBytes out) override
        {
            for (auto& byte : out)
                byte = static_cast<std::uint8_t>(generator() >> 24);
        }
        std::mt19937 generator;
    } rng;
    const auto backend = make_openssl_backend(rng);
    for (const auto& suite : suites()) {
        CAPTURE(suite.name);
        auto sa = make_sa(suite);
        const std::size_t unit = std::max<std::size_t>(4, suite.cipher->block);
        CHECK(backend->extra_padding(sa, -1) == 0);
        CHECK(backend->extra_padding(sa, 0) == 0);
        CHECK(backend->extra_padding(sa, static_cast<int>(unit) - 1) == 0);
        std::vector<std::size_t> drawn;
        for (int i = 0; i < 60; ++i) {
            drawn.push_back(backend->extra_padding(sa, static_cast<int>(3 * unit + 1)));
            CHECK(backend->extra_padding(sa, 1000) <= 255);
        }
        std::ranges::sort(drawn);
        drawn.erase(std::unique(drawn.begin(), drawn.end()), drawn.end());
        CHECK(drawn == std::vector<std::size_t>{0, unit, 2 * unit, 3 * unit});

        for (const auto flags : {SADB_X_EXT_PSEQ, SADB_X_EXT_PZERO, SADB_X_EXT_PRAND})
            for (const std::size_t n : {0u, 1u, 33u, 100u}) {
                sa.context.reset();
                sa.flags = static_cast<std::uint32_t>(flags);
                const auto payload = counted(n);
                const auto most = std::size_t{255} / unit * unit;
                for (const auto extra : {unit, most}) {
                    Buffer packet(esp_sealed_size(sa, n) + extra);
                    SealJob job;
                    job.sa = &sa;
                    job.sequence = 1;
                    job.next_header = ip_proto::udp;
                    job.parts[0] = payload;
                    job.part_count = 1;
                    job.out = packet;
                    backend->seal({&job, 1});
                    REQUIRE(job.result == Drop::none);
                    CHECK(open(*backend, sa, packet) == Opened{Drop::none, payload, ip_proto::udp});
                }
            }
    }
}

TEST_CASE("with extra padding, esp_payload_room leaves room for the most that can be drawn")
{
    for (const auto& suite : suites()) {
        CAPTURE(suite.name);
        const auto sa = make_sa(suite);
        const std::size_t unit = std::max<std::size_t>(4, suite.cipher->block);
        for (const int limit : {0, 3, 16, 100, 255}) {
            const auto most = static_cast<std::size_t>(limit) / unit * unit;
            for (std::size_t room = 0; room < 700; room += 3) {
                const auto n = esp_payload_room(sa, room, limit);
                if (n > 0)
                    CHECK(esp_sealed_size(sa, n) + most <= room);
                CHECK(esp_sealed_size(sa, n + 1) + most > room);
            }
        }
    }
}

TEST_CASE("break_icv: what goes out fails the peer's integrity check, and nothing else changes")
{
    PatternRng rng;
    const auto backend = backend_over(rng);
    for (const auto& suite : suites()) {
        CAPTURE(suite.name);
        auto sa = make_sa(suite);
        backend->break_icv = true;
        const auto broken = seal(*backend, sa, counted(40)).packet;
        backend->break_icv = false;
        CHECK(open(*backend, sa, broken).result == (has_icv(suite) ? Drop::in_integrity : Drop::none));
        CHECK(open(*backend, sa, seal(*backend, sa, counted(40)).packet).result == Drop::none);
    }
}

TEST_CASE("what runs: every row with a primitive, as OpenSSL here has its legacy provider")
{
    PatternRng rng;
    const auto rows = backend_over(rng)->available();
    for (std::size_t i = 0; i < std::size(algorithms); ++i) {
        CAPTURE(algorithms[i].name);
        CHECK(rows[i] == algorithms[i].offered());
    }
}

TEST_CASE("RFC 7634 Appendix A: the example packet")
{
    PatternRng rng;
    const auto backend = backend_over(rng);
    auto sa = make_sa("chacha20-poly1305", 36, {}, 32);
    sa.spi = 0x01020304;
    sa.cipher_key = SecretBytes(from_hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3"));
    const auto packet = from_hex(
        "0102030400000005101112131415161724039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c614ee8099"
        "d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3cbec163fac469b502773f6fb94e664da9165b82829f641e0"
        "76aaa8266b7fb0f7b11b369907e1ad43");
    const auto inner = from_hex(
        "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec100007362708090a0b0c0d0e0f1011121314151617"
        "18191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637");
    CHECK(open(*backend, sa, packet) == Opened{Drop::none, inner, ip_proto::ipv4});
}

TEST_CASE("RFC 4543: GMAC signs SPI, number, IV and what follows, and encrypts nothing")
{
    PatternRng rng;
    const auto backend = backend_over(rng);
    const crypto::Library library;
    for (const bool esn : {false, true}) {
        auto sa = make_sa("aes-gmac", 20);
        sa.flags = esn ? SADB_X_SAFLAGS_ESN : 0;
        const auto payload = counted(61);
        const auto packet = seal(*backend, sa, payload, 0x100000007 - (esn ? 0 : 0x100000000)).packet;
        CHECK(std::equal(payload.begin(), payload.end(), packet.begin() + 16));
        const auto key = counted(20);
        auto cipher = library.make_cipher(Primitive::aes_gcm, Bytes(key).first(16), crypto::Cipher::Side::encrypt);
        REQUIRE(cipher);
        const auto high = from_hex(esn ? "00000001" : "");
        const Buffer spi(packet.begin(), packet.begin() + 4), rest(packet.begin() + 4, packet.end() - 16);
        Buffer icv(16);
        const Buffer salt(key.begin() + 16, key.end()), iv(packet.begin() + 8, packet.begin() + 16);
        REQUIRE(cipher->start(joined({salt, iv})));
        REQUIRE(cipher->associate(joined({spi, high, rest})));
        REQUIRE(cipher->finish());
        REQUIRE(cipher->read_icv(icv));
        CHECK(std::equal(icv.begin(), icv.end(), packet.end() - 16));
    }
}

TEST_CASE("an SA that the transform cannot serve is refused, and served once it can be")
{
    PatternRng rng;
    const auto backend = backend_over(rng);
    const auto refused = [&](Sa& sa) {
        const auto sealed = seal(*backend, sa, counted(20)).result;
        return sealed == Drop::out_crypto && open(*backend, sa, Buffer(200)).result == Drop::in_sa_state;
    };
    Sa larval;
    CHECK(refused(larval));

    auto sa = make_sa("aes-gcm-16", 20);
    sa.cipher_key = {};
    CHECK(refused(sa));
    sa.cipher_key = SecretBytes(counted(19));
    CHECK(refused(sa));
    sa.cipher_key = SecretBytes(counted(20));
    CHECK(seal(*backend, sa, counted(20)).result == Drop::none);

    for (const auto& row : algorithms) {
        if (row.offered() || row.kind == AlgorithmKind::compression)
            continue;
        CAPTURE(row.name);
        Sa other = make_sa("null", 0);
        (row.kind == AlgorithmKind::auth ? other.auth : other.cipher) = &row;
        (row.kind == AlgorithmKind::auth ? other.auth_key : other.cipher_key) = SecretBytes(counted(row.key_min / 8u));
        CHECK(refused(other));
    }
    auto no_auth_key = make_sa("aes-cbc", 16, "hmac-sha1");
    no_auth_key.auth_key = {};
    CHECK(refused(no_auth_key));
    auto doubled = make_sa("aes-gcm-16", 20, "hmac-sha1");
    CHECK(refused(doubled));
    auto said_twice = make_sa("aes-gcm-16", 20, "null");   // "none" in other words
    CHECK(seal(*backend, said_twice, counted(20)).result == Drop::none);
    auto other_protocol = make_sa("aes-cbc", 16, "hmac-sha1");
    other_protocol.protocol = ip_proto::ah;
    CHECK(refused(other_protocol));
    for (const auto flag : {SADB_X_EXT_OLD, SADB_X_EXT_IV4B, SADB_X_EXT_DERIV}) {
        auto old = make_sa("aes-cbc", 16, "hmac-sha1");
        old.flags = static_cast<std::uint32_t>(flag);
        CHECK(refused(old));
    }
}

TEST_CASE("a job that contradicts itself is refused and writes nothing")
{
    PatternRng rng;
    const auto backend = backend_over(rng);
    auto sa = make_sa("aes-gcm-16", 20);
    const auto payload = counted(50);
    const auto right = esp_sealed_size(sa, payload.size());
    for (const auto size : {std::size_t{0}, std::size_t{8}, right - 4, right - 1, right + 1, right + 2, right + 256}) {
        Buffer out(size, 0xee);
        SealJob job;
        job.sa = &sa;
        job.sequence = 1;
        job.parts[0] = payload;
        job.part_count = 1;
        job.out = out;
        backend->seal({&job, 1});
        CHECK(job.result == Drop::out_crypto);
        CHECK(out == Buffer(size, 0xee));
    }
    SealJob job;
    job.sa = &sa;
    job.sequence = 1;
    job.part_count = 5;
    backend->seal({&job, 1});
    CHECK(job.result == Drop::out_crypto);
}
