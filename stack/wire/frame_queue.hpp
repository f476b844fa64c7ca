// SPDX-License-Identifier: BSD-2-Clause
// Frames that wait for a full socket: one growing block of bytes, each frame behind its length, oldest first.
#pragma once

#include "pfkey/wire.hpp"

#include <vector>

namespace latchkey {

class FrameQueue {
public:
    explicit FrameQueue(std::size_t limit) : limit_(limit) {}

    // False: no room, nothing was added.
    bool push(Bytes frame)
    {
        if (bytes_.size() - at_ + length_size + frame.size() > limit_)
            return false;
        if (at_ > bytes_.size() / 2) {   // less is moved than was taken out: cheap on average
            bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(at_));
            at_ = 0;
        }
        const auto start = bytes_.size();
        bytes_.resize(start + length_size);
        wire::set_field<std::uint32_t>(bytes_, start, static_cast<std::uint32_t>(frame.size()));
        bytes_.insert(bytes_.end(), frame.begin(), frame.end());
        return true;
    }

    bool empty() const { return at_ == bytes_.size(); }
    Bytes front() const { return Bytes(bytes_).subspan(at_ + length_size, front_size()); }

    void pop()
    {
        at_ += length_size + front_size();
        if (empty())
            clear();
    }

    void clear()
    {
        if (bytes_.capacity() > kept)
            bytes_ = {};
        bytes_.clear();
        at_ = 0;
    }

private:
    static constexpr std::size_t length_size = 4;
    static constexpr std::size_t kept = 64 * 1024;   // memory that stays after the queue ran empty
    std::size_t front_size() const { return wire::field<std::uint32_t>(bytes_, at_); }

    std::vector<std::uint8_t> bytes_;
    std::size_t at_ = 0;   // where the oldest frame begins
    std::size_t limit_;
};

}  // namespace latchkey
