// SPDX-License-Identifier: BSD-2-Clause
// What protected a packet on its way in: one entry per transform that was taken off, outermost first. Travels with the
// packet (not with a global), so that the policy check and reassembly see the packet's own past.
#pragma once

#include "pfkey/sa.hpp"

#include <algorithm>
#include <array>
#include <span>

namespace latchkey {

struct Protection {
    std::uint8_t protocol = 0;          // esp, ah, ipcomp
    Mode mode = Mode::transport;        // as found in the packet
    std::uint32_t spi = 0;
    std::uint32_t reqid = 0;
    Address source, destination;        // of the header that carried it
};

class History {
public:
    static constexpr std::size_t depth = 4;

    bool push(const Protection& p)      // false: too many transforms around one packet
    {
        if (used_ == depth)
            return false;
        entries_[used_++] = p;
        return true;
    }
    std::span<const Protection> entries() const { return {entries_.data(), used_}; }
    bool clear() const { return used_ == 0 && !loopback_; }
    // Did ESP or AH protect it? IPComp alone is no protection.
    bool secured() const
    {
        return std::ranges::any_of(entries(), [](const Protection& p) { return p.protocol != ip_proto::ipcomp; });
    }

    // A packet of this host to itself never saw a wire: it counts as protected, without cryptography.
    void mark_loopback() { loopback_ = true; }
    bool loopback() const { return loopback_; }

    // Key for reassembly: 0 is clear, every other past has its own value.
    std::uint64_t provenance() const
    {
        std::uint64_t h = loopback_ ? 1 : 0;
        for (const auto& p : entries())
            h = mix(h ^ mix((std::uint64_t{p.spi} << 16) | (std::uint64_t{p.protocol} << 8) | 1u) ^ p.destination.hash());
        return h;
    }

private:
    std::array<Protection, depth> entries_{};
    std::uint8_t used_ = 0;
    bool loopback_ = false;
};

}  // namespace latchkey
