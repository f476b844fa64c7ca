// SPDX-License-Identifier: BSD-2-Clause
// printf-style appending to a string (gcc 12 has no <format>).
#pragma once

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <string>

namespace latchkey::setkey {

// For numbers and short words; a line beyond 511 bytes is cut. Text of any length is appended as a string instead.
[[gnu::format(printf, 2, 3)]] inline void put(std::string& out, const char* format, ...)
{
    std::array<char, 512> line{};
    va_list arguments;
    va_start(arguments, format);
    const int n = std::vsnprintf(line.data(), line.size(), format, arguments);
    va_end(arguments);
    out.append(line.data(), std::min(static_cast<std::size_t>(n < 0 ? 0 : n), line.size() - 1));
}

// The same number for %llu, whatever std::uint64_t is called.
inline unsigned long long wide(std::uint64_t value)
{
    return value;
}

}  // namespace latchkey::setkey
