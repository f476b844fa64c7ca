// SPDX-License-Identifier: BSD-2-Clause
// Anti-replay window (RFC 4303 §3.4.3, the ring bitmap of RFC 6479): check before the ICV, accept after it.
#pragma once

#include <cstdint>
#include <vector>

namespace latchkey {

class ReplayWindow {
public:
    // packets: how far behind the highest sequence number a packet may be; 0: no check at all.
    explicit ReplayWindow(std::uint32_t packets = 0);

    bool fresh(std::uint64_t sequence) const;   // would accept() take it? sequence 0 is never fresh
    void accept(std::uint64_t sequence);        // only after the ICV was verified
    std::uint32_t size() const { return size_; }
    std::uint64_t highest() const { return highest_; }

private:
    std::uint32_t size_;
    std::uint64_t highest_ = 0;
    std::vector<std::uint64_t> ring_;   // a power of two of words, one more than the window needs
};

}  // namespace latchkey
