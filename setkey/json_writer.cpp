// SPDX-License-Identifier: BSD-2-Clause
#include "setkey/json_writer.hpp"

#include "setkey/text.hpp"

namespace latchkey::setkey {

namespace {

// How many bytes the character at the beginning of `text` has; 0: it is none (RFC 3629 §4).
std::size_t character_size(std::string_view text)
{
    const auto byte = [&](std::size_t at) -> unsigned {
        return at < text.size() ? static_cast<unsigned char>(text[at]) : 0u;
    };
    const auto tail = [&](std::size_t at) { return (byte(at) & 0xc0) == 0x80; };
    const auto first = byte(0), second = byte(1);
    if (first < 0x80)
        return 1;
    if (first >= 0xc2 && first < 0xe0)
        return tail(1) ? 2 : 0;
    // Not in the shortest form, a surrogate, or above U+10FFFF: the second byte tells.
    if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second >= 0xa0) || (first == 0xf0 && second < 0x90) ||
        (first == 0xf4 && second >= 0x90))
        return 0;
    if (first >= 0xe0 && first < 0xf0)
        return tail(1) && tail(2) ? 3 : 0;
    return first >= 0xf0 && first < 0xf5 && tail(1) && tail(2) && tail(3) ? 4 : 0;
}

}  // namespace

bool is_utf8(std::string_view text)
{
    while (!text.empty()) {
        const auto size = character_size(text);
        if (size == 0)
            return false;
        text.remove_prefix(size);
    }
    return true;
}

void append_json_text(std::string& out, std::string_view text)
{
    out += '"';
    while (!text.empty()) {
        const auto size = character_size(text);
        const char c = text.front();
        if (size == 0)
            out += "\\ufffd";
        else if (c == '"' || c == '\\')
            out.append("\\").append(1, c);
        else if (size == 1 && (static_cast<unsigned char>(c) < 0x20 || c == 0x7f))
            put(out, "\\u%04x", static_cast<unsigned>(c));
        else
            out.append(text.substr(0, size));
        text.remove_prefix(size == 0 ? 1 : size);
    }
    out += '"';
}

}  // namespace latchkey::setkey
