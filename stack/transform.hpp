// SPDX-License-Identifier: BSD-2-Clause
// What the transforms of the OpenSSL backend share: the algorithm objects, randomness in small pieces, and the rules
// for sequence numbers that ESP (RFC 4303) and AH (RFC 4302) have in common. Private to stack/.
#pragma once

#include "stack/crypto.hpp"
#include "stack/esp.hpp"

#include <cstring>
#include <memory>
#include <optional>

namespace latchkey::transform {

inline constexpr std::size_t max_packet = 65535;   // what an IP packet can carry; so every length fits OpenSSL's int

// Random bytes, drawn from the host's source in blocks: a CBC IV must be unpredictable (RFC 3602 §3), and asking the
// source for 16 bytes at a time would cost more than the cipher.
class RandomPool {
public:
    explicit RandomPool(Rng& rng) : rng_(rng) {}

    void take(MutableBytes out)
    {
        if (out.size() > left_) {
            rng_.fill(pool_);
            left_ = pool_.size();
        }
        std::memcpy(out.data(), pool_.data() + (pool_.size() - left_), out.size());
        left_ -= out.size();
    }

private:
    Rng& rng_;
    std::array<std::uint8_t, 1024> pool_{};
    std::size_t left_ = 0;
};

struct Tools {
    std::shared_ptr<const crypto::Library> library;   // the contexts of the SAs have it too: they may outlive the backend
    RandomPool random;
};

// An algorithm with the key that an SA has for it.
inline bool key_fits(const Algorithm& algorithm, const SecretBytes& key)
{
    return algorithm.offered() && algorithm.key_bits_ok(static_cast<unsigned>(key.size() * 8));
}

// The formats before RFC 2402 and RFC 2406, which are not spoken here.
inline bool old_format(const Sa& sa)
{
    return (sa.flags & (SADB_X_EXT_OLD | SADB_X_EXT_DERIV | SADB_X_EXT_IV4B)) != 0;
}

// May this number go out on this SA? (RFC 4303 §3.3.3)
inline bool may_send(const Sa& sa, std::uint64_t sequence)
{
    constexpr std::uint64_t last_short = 0xffffffff;
    const bool may_pass_32_bits = sa.extended() || (sa.flags & SADB_X_EXT_CYCSEQ) != 0;
    return sequence != 0 && (sequence <= last_short || may_pass_32_bits);
}

// The high half of the sequence number is not sent but ends the input of a separate MAC (RFC 4303 §2.2.1).
class HighHalf {
public:
    HighHalf(std::uint64_t sequence, bool esn) : size_(esn ? 4 : 0)
    {
        wire::set_field<std::uint32_t>(bytes_, 0, static_cast<std::uint32_t>(sequence >> 32));
    }

    Bytes bytes() const { return Bytes(bytes_).first(size_); }

private:
    std::array<std::uint8_t, 4> bytes_{};
    std::size_t size_;
};

// The number that came, as the window counts: with ESN, the 64 bits behind the 32 are guessed from the window
// (RFC 4303 §A2.2). Nothing: it would lie before 0.
inline std::optional<std::uint64_t> received_sequence(const ReplayWindow& window, std::uint32_t low, bool esn)
{
    if (!esn)
        return low;
    const auto top_low = static_cast<std::uint32_t>(window.highest());
    const auto top_high = static_cast<std::uint32_t>(window.highest() >> 32);
    const std::uint32_t reach = window.size() == 0 ? 0x7fffffff : window.size() - 1;   // no window: half the circle
    const std::uint32_t bottom = top_low - reach;   // modulo 2^32, as the RFC means it
    auto high = top_high;
    if (top_low >= reach)
        high += low >= bottom ? 0 : 1;
    else if (low >= bottom && high-- == 0)
        return std::nullopt;
    return std::uint64_t{high} << 32 | low;
}

// One job each; esp.cpp, ah.cpp.
Drop seal_esp(const SealJob& job, Tools& tools);
Drop open_esp(OpenJob& job, Tools& tools);
Drop seal_ah(const AhSealJob& job, Tools& tools);
Drop open_ah(AhOpenJob& job, Tools& tools);

// Bytes of ICV in a packet of this SA.
inline std::size_t icv_size(const Sa& sa)
{
    return (sa.cipher == nullptr ? 0u : sa.cipher->icv) + (sa.auth == nullptr ? 0u : sa.auth->icv);
}

// What esp_randpad may add to a packet of this SA, and in which steps.
struct PaddingRange {
    std::size_t most = 0, step = 1;
};
PaddingRange extra_padding_of(const Sa& sa, int limit);

}  // namespace latchkey::transform
