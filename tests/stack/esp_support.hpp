// SPDX-License-Identifier: BSD-2-Clause
// What the tests of ESP and its ciphers share: bytes from hex, a predictable random source, the GCM vectors.
#pragma once

#include "pfkey/engine.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <fstream>
#include <initializer_list>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace latchkey::test {

using Buffer = std::vector<std::uint8_t>;

inline Buffer from_hex(std::string_view text)
{
    const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
    Buffer bytes(text.size() / 2);
    for (std::size_t i = 0; i < bytes.size(); ++i)
        bytes[i] = static_cast<std::uint8_t>(digit(text[2 * i]) << 4 | digit(text[2 * i + 1]));
    return bytes;
}

inline Buffer counted(std::size_t n)
{
    Buffer bytes(n);
    for (std::size_t i = 0; i < n; ++i)
        bytes[i] = static_cast<std::uint8_t>(i * 7 + n);
    return bytes;
}

inline Buffer joined(std::initializer_list<Buffer> pieces)
{
    Buffer all;
    for (const auto& piece : pieces)
        all.insert(all.end(), piece.begin(), piece.end());
    return all;
}

// Repeats a pattern from its beginning at every fill(), so that the first IV of a backend is the pattern.
struct PatternRng : Rng {
    explicit PatternRng(Buffer bytes = counted(251)) : pattern(std::move(bytes)) {}
    void fill(MutableBytes out) override
    {
        for (std::size_t i = 0; i < out.size(); ++i)
            out[i] = pattern[i % pattern.size()];
    }
    Buffer pattern;
};

// Bytes of a column of tests/data/esp/: "-" stands for none.
inline Buffer column(const std::string& text)
{
    return text == "-" ? Buffer{} : from_hex(text);
}

// The rows of a table in tests/data/, without its comments.
inline std::vector<std::istringstream> rows_of(const std::string& name)
{
    std::ifstream file(LATCHKEY_TEST_DATA "/" + name);
    std::vector<std::istringstream> rows;
    for (std::string line; std::getline(file, line);)
        if (!line.empty() && line.front() != '#')
            rows.emplace_back(line);
    return rows;
}

struct GcmVector {
    Buffer key, nonce, plain, associated, sealed, icv;
};

// draft-mcgrew-gcm-test-01 §4; `plain` ends with the padding and trailer of ESP.
inline std::vector<GcmVector> gcm_vectors()
{
    std::vector<GcmVector> vectors;
    for (auto& row : rows_of("esp/gcm.tsv")) {
        std::string key, nonce, plain, associated, sealed, icv;
        row >> key >> nonce >> plain >> associated >> sealed >> icv;
        REQUIRE(row);
        vectors.push_back({from_hex(key), from_hex(nonce), from_hex(plain), from_hex(associated), from_hex(sealed),
                           from_hex(icv)});
    }
    REQUIRE(vectors.size() == 14);
    return vectors;
}

}  // namespace latchkey::test
