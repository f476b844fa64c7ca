// SPDX-License-Identifier: BSD-2-Clause
#include "setkey/suggest.hpp"

#include <algorithm>
#include <array>
#include <cstddef>

namespace latchkey {

namespace {

constexpr std::size_t longest = 64;   // no word of a language is longer
constexpr std::size_t most_slips = 2;

char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool same(char a, char b)
{
    return lower(a) == lower(b);
}

// Edit distance where two neighbours in the wrong order count once (optimal string alignment).
std::size_t distance(std::string_view a, std::string_view b)
{
    using Row = std::array<std::size_t, longest + 1>;
    Row before{}, above{}, row{};
    for (std::size_t j = 0; j <= b.size(); ++j)
        above[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            row[j] = std::min({above[j - 1] + (same(a[i - 1], b[j - 1]) ? 0 : 1), above[j] + 1, row[j - 1] + 1});
            if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]))
                row[j] = std::min(row[j], before[j - 2] + 1);
        }
        before = above;
        above = row;
    }
    return above[b.size()];
}

// In a word of two letters every slip makes another word.
std::size_t slips_allowed(std::string_view word, std::string_view candidate)
{
    const auto length = std::max(word.size(), candidate.size());
    return length < 3 ? 0 : length < 5 ? 1 : most_slips;
}

}  // namespace

std::string_view nearest(std::string_view word, std::span<const std::string_view> legal)
{
    std::string_view best;
    auto fewest = most_slips + 1;
    for (const auto candidate : legal) {
        const auto shorter = std::min(word.size(), candidate.size()), longer = std::max(word.size(), candidate.size());
        if (shorter == 0 || longer > longest || longer - shorter > most_slips)
            continue;
        const auto slips = distance(word, candidate);
        if (slips < fewest && slips <= slips_allowed(word, candidate)) {
            best = candidate;
            fewest = slips;
        }
    }
    return best;
}

std::string did_you_mean(std::string_view word, std::span<const std::string_view> legal)
{
    const auto meant = nearest(word, legal);
    return meant.empty() ? std::string() : " (did you mean '" + std::string(meant) + "'?)";
}

}  // namespace latchkey
