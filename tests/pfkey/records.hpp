// SPDX-License-Identifier: BSD-2-Clause
// Recorded PF_KEY traffic for the tests, and what they need to compare bytes without using the codec under test.
#pragma once

#include "pfkey/wire.hpp"

#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace latchkey::test {

using Record = std::vector<std::uint8_t>;

inline Record unhex(std::string_view text)
{
    const auto digit = [](char c) {
        return static_cast<unsigned>(c >= '0' && c <= '9'   ? c - '0'
                                     : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                                            : c - 'A' + 10);
    };
    Record out;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2)
        out.push_back(static_cast<std::uint8_t>(digit(text[i]) << 4 | digit(text[i + 1])));
    return out;
}

inline std::string hex(Bytes bytes)
{
    constexpr std::string_view digits = "0123456789abcdef";
    std::string out;
    for (const auto b : bytes) {
        out += digits[b >> 4];
        out += digits[b & 15];
    }
    return out;
}

// The messages of tests/data/pfkey/wire-bytes.*.jsonl: the strings of each line's "sent" list.
inline std::vector<Record> sent_by_setkey(const std::string& path)
{
    std::vector<Record> out;
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);) {
        constexpr std::string_view key = "\"sent\": [";
        const auto start = line.find(key);
        if (start == line.npos)
            continue;
        auto rest = std::string_view(line).substr(start + key.size());
        rest = rest.substr(0, rest.find(']'));
        for (auto quote = rest.find('"'); quote != rest.npos; quote = rest.find('"')) {
            rest.remove_prefix(quote + 1);
            out.push_back(unhex(rest.substr(0, rest.find('"'))));
            rest.remove_prefix(rest.find('"') + 1);
        }
    }
    return out;
}

// The lines of tests/data/pfkey/racoon-*.pfkey.log that start with `mark` (`>` to the host, `<` from it).
inline std::vector<Record> racoon_records(const std::string& path, char mark)
{
    std::vector<Record> out;
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);)
        if (line.size() > 2 && line[0] == mark)
            out.push_back(unhex(std::string_view(line).substr(2)));
    return out;
}

inline std::uint16_t u16(Bytes in, std::size_t at)
{
    return wire::load<std::uint16_t>(in.subspan(at).first<2>(), wire::Order::host);
}

struct Extension {
    std::size_t at, size;
    std::uint16_t type;
};

inline std::vector<Extension> extensions_of(Bytes record)
{
    std::vector<Extension> out;
    for (std::size_t at = 16; at < record.size(); at += out.back().size)
        out.push_back({at, std::size_t{u16(record, at)} * 8, u16(record, at + 2)});
    return out;
}

// Zeroes what carries no meaning: real clients leave garbage in sin_zero and in reserved fields.
inline Record masked(Record record)
{
    const auto zero = [&](std::size_t at, std::size_t n) { std::fill_n(record.begin() + static_cast<long>(at), n, 0); };
    const auto mask_sockaddr = [&](std::size_t at) -> std::size_t {
        if (u16(record, at) == 2) {
            zero(at + 8, 8);
            return 16;
        }
        zero(at + 4, 4);
        return 28;
    };
    for (const auto& [at, size, type] : extensions_of(record)) {
        if (type == 5 || type == 6 || type == 7 || type == 23) {
            zero(at + 6, 2);
            const auto used = 8 + mask_sockaddr(at + 8);
            zero(at + used, size - used);
        } else if (type == 8 || type == 9) {
            zero(at + 6, 2);
            const std::size_t used = 8 + (u16(record, at + 4) + 7u) / 8;
            zero(at + used, size - used);
        } else if (type == 19) {
            zero(at + 5, 3);
        } else if (type == 18) {
            zero(at + 7, 1);
            for (auto request = at + 16; request < at + size; request += u16(record, request)) {
                zero(request + 6, 2);
                zero(request + 12, 4);
                if (u16(record, request) > 16)
                    mask_sockaddr(request + 16 + mask_sockaddr(request + 16));
            }
        }
    }
    return record;
}

}  // namespace latchkey::test
