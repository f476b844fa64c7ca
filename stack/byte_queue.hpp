// SPDX-License-Identifier: BSD-2-Clause
// A first-in first-out queue of bytes in one ring that grows by doubling up to a limit. Sockets keep received data
// here: packet buffers go back to their pool at once, and a reader that does not read holds exactly the bytes it has
// not read.
#pragma once

#include "pfkey/wire.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <memory>

namespace latchkey {

class ByteQueue {
public:
    std::size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }

    // Room for n bytes at the end, in at most two pieces, already counted as queued.
    std::array<MutableBytes, 2> extend(std::size_t n)
    {
        grow(size_ + n);
        const auto at = (head_ + size_) & (capacity_ - 1);
        size_ += n;
        const auto first = std::min(n, capacity_ - at);
        return {MutableBytes{ring_.get() + at, first}, MutableBytes{ring_.get(), n - first}};
    }

    void push(Bytes data)
    {
        for (const auto piece : extend(data.size())) {
            if (!piece.empty())
                std::memcpy(piece.data(), data.data(), piece.size());
            data = data.subspan(piece.size());
        }
    }

    // n queued bytes from offset `at` on, in at most two pieces; at + n <= size().
    std::array<Bytes, 2> view(std::size_t at, std::size_t n) const
    {
        if (n == 0)
            return {};
        const auto from = (head_ + at) & (capacity_ - 1);
        const auto first = std::min(n, capacity_ - from);
        return {Bytes{ring_.get() + from, first}, Bytes{ring_.get(), n - first}};
    }

    void peek(std::size_t at, MutableBytes to) const
    {
        for (const auto piece : view(at, to.size())) {
            if (!piece.empty())
                std::memcpy(to.data(), piece.data(), piece.size());
            to = to.subspan(piece.size());
        }
    }

    void pop(std::size_t n)
    {
        head_ = (head_ + n) & (capacity_ - 1);
        size_ -= n;
        if (size_ == 0)
            head_ = 0;   // the next burst is contiguous again
        if (size_ == 0 && capacity_ > keep)
            clear();
    }

    void clear()
    {
        ring_.reset();
        capacity_ = head_ = size_ = 0;
    }

private:
    static constexpr std::size_t keep = 64 * 1024;   // an idle socket gives larger rings back

    void grow(std::size_t wanted)
    {
        if (wanted <= capacity_)
            return;
        const auto larger = std::bit_ceil(std::max<std::size_t>(wanted, 4096));
        auto ring = std::make_unique_for_overwrite<std::uint8_t[]>(larger);
        peek(0, {ring.get(), size_});
        ring_ = std::move(ring);
        capacity_ = larger;
        head_ = 0;
    }

    std::unique_ptr<std::uint8_t[]> ring_;
    std::size_t capacity_ = 0;   // a power of two, or 0
    std::size_t head_ = 0;
    std::size_t size_ = 0;
};

}  // namespace latchkey
