// SPDX-License-Identifier: BSD-2-Clause
// ESP: arbitrary bytes are opened under every suite; what is sealed opens again, and does not with one bit changed.
// Input: suite, SA flags, sequence number (8), extra padding, the rest is the packet to open and then the payload to
// seal.
#include "stack/esp.hpp"

#include <algorithm>
#include <cstdlib>
#include <vector>

using namespace latchkey;

namespace {

using Buffer = std::vector<std::uint8_t>;

struct CountingRng : Rng {
    void fill(MutableBytes out) override
    {
        for (auto& byte : out)
            byte = next++;
    }
    std::uint8_t next = 0;
};

struct Suite {
    const Algorithm* cipher;
    const Algorithm* auth;
    std::size_t key;
};

// Every cipher with its smallest key, alone and with one ICV; the null cipher with every ICV.
const std::vector<Suite>& suites()
{
    static const auto all = [] {
        std::vector<Suite> made;
        const auto& null = *algorithm_by_name(AlgorithmKind::cipher, "null");
        const auto& sha256 = *algorithm_by_name(AlgorithmKind::auth, "hmac-sha256");
        for (const auto& cipher : algorithms) {
            if (!cipher.offered() || !same_space(cipher.kind, AlgorithmKind::cipher))
                continue;
            made.push_back({&cipher, nullptr, cipher.key_min / 8u});
            if (cipher.kind != AlgorithmKind::aead)
                made.push_back({&cipher, &sha256, cipher.key_min / 8u});
        }
        for (const auto& auth : algorithms)
            if (auth.kind == AlgorithmKind::auth && auth.offered())
                made.push_back({&null, &auth, 0});
        return made;
    }();
    return all;
}

Sa make_sa(const Suite& suite, std::uint8_t flags)
{
    Sa sa;
    sa.spi = 0x01020304;
    sa.state = SaState::mature;
    sa.cipher = suite.cipher;
    sa.auth = suite.auth;
    sa.cipher_key = SecretBytes(Buffer(suite.key, 0x42));
    if (suite.auth != nullptr)
        sa.auth_key = SecretBytes(Buffer(suite.auth->key_min / 8u, 0x42));
    sa.flags = (flags & 1 ? SADB_X_SAFLAGS_ESN : 0) | (flags & 2 ? SADB_X_EXT_PZERO : 0) |
               (flags & 4 ? SADB_X_EXT_PRAND : 0) | (flags & 8 ? SADB_X_EXT_CYCSEQ : 0);
    sa.replay = ReplayWindow(flags >> 4);
    return sa;
}

void require(bool condition)
{
    if (!condition)
        std::abort();
}

Drop open(CipherBackend& backend, Sa& sa, Buffer& packet, Bytes* payload = nullptr)
{
    OpenJob job;
    job.sa = &sa;
    job.packet = packet;
    backend.open({&job, 1});
    if (job.result == Drop::none) {
        require(job.payload.data() >= packet.data() && job.payload.size() + 2 <= packet.size());
        require(job.payload.data() + job.payload.size() + 2 <= packet.data() + packet.size());
    } else {
        require(job.payload.empty());
    }
    if (payload != nullptr)
        *payload = job.payload;
    return job.result;
}

void round_trip(CipherBackend& backend, const Suite& suite, std::uint8_t flags, std::uint64_t sequence,
                std::size_t padding, Bytes payload)
{
    auto sender = make_sa(suite, flags), receiver = make_sa(suite, flags);
    if (sequence > 1)
        receiver.replay.accept(sequence - 1);
    const std::size_t unit = std::max<std::size_t>(4, suite.cipher->block);
    Buffer packet(esp_sealed_size(sender, payload.size()) + padding / unit * unit);
    SealJob job;
    job.sa = &sender;
    job.sequence = sequence;
    job.next_header = ip_proto::udp;
    const auto cut = sequence % (payload.size() + 1);
    job.parts = {payload.first(cut), payload.subspan(cut)};
    job.part_count = 2;
    job.out = packet;
    backend.seal({&job, 1});
    const bool extended = (sender.flags & (SADB_X_SAFLAGS_ESN | SADB_X_EXT_CYCSEQ)) != 0;
    const bool numbered = sequence != 0 && (extended || sequence <= 0xffffffff);
    require((job.result == Drop::none) == (numbered && packet.size() <= 65535));
    if (job.result != Drop::none)
        return;
    if ((sender.flags & SADB_X_SAFLAGS_ESN) == 0)   // CYCSEQ: the number on the wire may lie anywhere
        receiver.replay = ReplayWindow();

    if (suite.cipher->icv != 0 || (suite.auth != nullptr && suite.auth->icv != 0)) {
        auto broken = packet;
        const auto bit = sequence % (broken.size() * 8);
        broken[bit / 8] = static_cast<std::uint8_t>(broken[bit / 8] ^ 1u << bit % 8);
        const auto verdict = open(backend, receiver, broken);
        require(verdict == Drop::in_integrity || verdict == Drop::in_replay);
    }
    Bytes opened;
    require(open(backend, receiver, packet, &opened) == Drop::none);
    require(std::ranges::equal(opened, payload));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    wire::Reader reader(Bytes(data, size));
    const auto which = reader.get<std::uint8_t>();
    const auto flags = reader.get<std::uint8_t>();
    const auto sequence = reader.get<std::uint64_t>();
    const auto padding = reader.get<std::uint8_t>();
    if (!reader.ok())
        return 0;
    static CountingRng rng;
    static const auto backend = make_openssl_backend(rng);   // makes its algorithms once, as a host does
    const auto& suite = suites()[which % suites().size()];
    auto sa = make_sa(suite, flags);
    Buffer packet(reader.rest().begin(), reader.rest().end());
    open(*backend, sa, packet);
    round_trip(*backend, suite, flags, sequence, padding, reader.rest());
    return 0;
}
