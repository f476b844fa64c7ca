// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/replay.hpp"

#include <algorithm>
#include <bit>

namespace latchkey {

namespace {

constexpr std::uint32_t word_bits = 64;

// One word more than the window needs: the word that `highest` stands in is rarely full (RFC 6479 §2).
std::size_t ring_words(std::uint32_t packets)
{
    return packets == 0 ? 0 : std::bit_ceil(std::size_t{(packets + word_bits - 1) / word_bits} + 1);
}

constexpr std::uint64_t bit_of(std::uint64_t sequence)
{
    return std::uint64_t{1} << (sequence % word_bits);
}

}  // namespace

ReplayWindow::ReplayWindow(std::uint32_t packets) : size_(packets), ring_(ring_words(packets)) {}

bool ReplayWindow::fresh(std::uint64_t sequence) const
{
    if (size_ == 0)
        return true;
    if (sequence == 0)   // RFC 4303 §2.2: the first packet of an SA has number 1
        return false;
    if (sequence > highest_)
        return true;
    if (highest_ - sequence >= size_)
        return false;
    return (ring_[(sequence / word_bits) & (ring_.size() - 1)] & bit_of(sequence)) == 0;
}

void ReplayWindow::accept(std::uint64_t sequence)
{
    if (size_ == 0) {
        highest_ = std::max(highest_, sequence);
        return;
    }
    const std::uint64_t mask = ring_.size() - 1;
    if (sequence > highest_) {
        const std::uint64_t top = highest_ / word_bits;
        const std::uint64_t steps = std::min<std::uint64_t>(sequence / word_bits - top, ring_.size());
        for (std::uint64_t i = 1; i <= steps; ++i)
            ring_[(top + i) & mask] = 0;
        highest_ = sequence;
    } else if (highest_ - sequence >= size_) {
        return;
    }
    ring_[(sequence / word_bits) & mask] |= bit_of(sequence);
}

}  // namespace latchkey
