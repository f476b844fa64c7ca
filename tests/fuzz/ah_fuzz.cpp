// SPDX-License-Identifier: BSD-2-Clause
// AH: arbitrary bytes are opened under every signature; a datagram whose headers are sound can be signed, opens again,
// also after a router has touched it, and does not with one bit of the payload changed.
// Input: signature, SA flags, AH rules, sequence number (8), place of the AH (2), the rest is the datagram.
#include "stack/esp.hpp"

#include <algorithm>
#include <cstdlib>
#include <vector>

using namespace latchkey;

namespace {

using Buffer = std::vector<std::uint8_t>;

struct ConstantRng : Rng {
    void fill(MutableBytes out) override { std::ranges::fill(out, std::uint8_t{0x5a}); }
};

const std::vector<const Algorithm*>& signatures()
{
    static const auto all = [] {
        std::vector<const Algorithm*> made;
        for (const auto& row : algorithms)
            if (row.kind == AlgorithmKind::auth && row.offered())
                made.push_back(&row);
        return made;
    }();
    return all;
}

Sa make_sa(const Algorithm& auth, std::uint8_t flags)
{
    Sa sa;
    sa.protocol = ip_proto::ah;
    sa.spi = 0x01020304;
    sa.state = SaState::mature;
    sa.auth = &auth;
    sa.auth_key = SecretBytes(Buffer(auth.key_min / 8u, 0x42));
    sa.flags = (flags & 1 ? SADB_X_SAFLAGS_ESN : 0) | (flags & 8 ? SADB_X_EXT_CYCSEQ : 0);
    sa.replay = ReplayWindow(flags >> 4);
    return sa;
}

void require(bool condition)
{
    if (!condition)
        std::abort();
}

Drop open(CipherBackend& backend, Sa& sa, Buffer& datagram, std::size_t at, AhRules rules, std::size_t& size)
{
    const auto before = datagram;
    AhOpenJob job;
    job.sa = &sa;
    job.datagram = datagram;
    job.at = at;
    job.rules = rules;
    backend.open({&job, 1});
    require(datagram == before);
    require((job.result == Drop::none) == (job.size != 0));
    require(job.size == 0 || (job.size >= 12 && at + job.size <= datagram.size()));
    size = job.size;
    return job.result;
}

void round_trip(CipherBackend& backend, const Algorithm& auth, std::uint8_t flags, std::uint64_t sequence,
                AhRules rules, std::size_t at, Buffer datagram)
{
    auto sender = make_sa(auth, flags), receiver = make_sa(auth, flags);
    AhSealJob job;
    job.sa = &sender;
    job.sequence = sequence;
    job.next_header = ip_proto::udp;
    job.datagram = datagram;
    job.at = at;
    job.rules = rules;
    backend.seal({&job, 1});
    if (job.result != Drop::none)
        return;
    if (sender.extended())
        receiver.replay.accept(sequence - 1);
    else
        receiver.replay = ReplayWindow();   // CYCSEQ: the number on the wire may lie anywhere
    const bool v4 = datagram[0] >> 4 == 4;
    std::size_t size = 0;
    if (auth.icv != 0 && datagram.size() > at + ah_size(sender, v4 ? Family::v4 : Family::v6)) {
        auto broken = datagram;
        broken.back() ^= 1;
        require(open(backend, receiver, broken, at, rules, size) == Drop::in_integrity);
    }
    // A router counts down; the number of the window is still free.
    if (at >= 20)
        datagram[v4 ? 8 : 7] ^= 0x15;
    require(open(backend, receiver, datagram, at, rules, size) == Drop::none);
    require(size == ah_size(sender, v4 ? Family::v4 : Family::v6));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    wire::Reader reader(Bytes(data, size));
    const auto which = reader.get<std::uint8_t>();
    const auto flags = reader.get<std::uint8_t>();
    const auto options = reader.get<std::uint8_t>();
    const auto sequence = reader.get<std::uint64_t>();
    const std::size_t at = reader.get<std::uint16_t>();
    if (!reader.ok())
        return 0;
    static ConstantRng rng;
    static const auto backend = make_openssl_backend(rng);   // makes its algorithms once, as a host does
    const auto& auth = *signatures()[which % signatures().size()];
    const AhRules rules{(options & 1) != 0, static_cast<std::uint16_t>(options & 2 ? 0xffff : 0)};
    auto sa = make_sa(auth, flags);
    Buffer datagram(reader.rest().begin(), reader.rest().end());
    std::size_t cut = 0;
    open(*backend, sa, datagram, at, rules, cut);
    round_trip(*backend, auth, flags, sequence, rules, at, datagram);
    return 0;
}
