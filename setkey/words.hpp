// SPDX-License-Identifier: BSD-2-Clause
// Keyword tables and numbers, for the parser and the command line: every table has a member `word`.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <iterator>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

namespace latchkey::setkey {

inline constexpr std::uint64_t max32 = std::numeric_limits<std::uint32_t>::max();
inline constexpr std::uint64_t max64 = std::numeric_limits<std::uint64_t>::max();

template <class Table> constexpr auto find_word(const Table& table, std::string_view word)
{
    const auto row = std::ranges::find(table, word, [](const auto& r) { return r.word; });
    return row == std::end(table) ? nullptr : &*row;
}

template <class Table> std::vector<std::string_view> words_of(const Table& table)
{
    std::vector<std::string_view> out;
    for (const auto& row : table)
        out.push_back(row.word);
    return out;
}

constexpr bool looks_hex(std::string_view text)
{
    return text.starts_with("0x") || text.starts_with("0X");
}

// Decimal or 0xHEX. Too big for 64 bits is still a number, the biggest: the caller has a limit of its own.
inline std::optional<std::uint64_t> parse_number(std::string_view text)
{
    const bool hex = looks_hex(text);
    const auto digits = hex ? text.substr(2) : text;
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, hex ? 16 : 10);
    if (end != digits.data() + digits.size() || digits.empty())
        return std::nullopt;
    return error == std::errc::result_out_of_range ? max64 : value;
}

}  // namespace latchkey::setkey
