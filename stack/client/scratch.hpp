// SPDX-License-Identifier: BSD-2-Clause
// A short-lived buffer: on the stack if it is small, which it nearly always is. Used around control records.
#pragma once

#include "pfkey/wire.hpp"

#include <memory>
#include <new>

namespace latchkey::client {

template <std::size_t Small> class Scratch {
public:
    // n bytes, once per object; empty if there is no memory.
    MutableBytes take(std::size_t n)
    {
        if (n <= Small)
            return MutableBytes(small_).first(n);
        large_.reset(new (std::nothrow) std::uint8_t[n]);
        return large_ ? MutableBytes(large_.get(), n) : MutableBytes{};
    }

private:
    std::array<std::uint8_t, Small> small_;   // not cleared: it is written before it is read
    std::unique_ptr<std::uint8_t[]> large_;
};

}  // namespace latchkey::client
