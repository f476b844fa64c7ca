// SPDX-License-Identifier: BSD-2-Clause
// Appends JSON to a string. Text is always valid UTF-8, and a list or an object always closed; nothing else is checked.
#pragma once

#include <concepts>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace latchkey::setkey {

// Text in quotes; a byte that is not part of a UTF-8 character becomes U+FFFD.
void append_json_text(std::string& out, std::string_view text);
bool is_utf8(std::string_view text);

// Writes the members of one object; what is opened is closed at the end of its scope.
class JsonObject {
public:
    explicit JsonObject(std::string& out) : out_(out) { out_ += '{'; }
    ~JsonObject() { out_ += '}'; }
    JsonObject(const JsonObject&) = delete;
    JsonObject& operator=(const JsonObject&) = delete;

    // The place for the value of a member.
    std::string& member(std::string_view name)
    {
        if (!first_)
            out_ += ", ";
        first_ = false;
        append_json_text(out_, name);
        out_ += ": ";
        return out_;
    }

    void add(std::string_view name, std::string_view text) { append_json_text(member(name), text); }
    void add(std::string_view name, const char* text) { add(name, std::string_view(text)); }
    void add(std::string_view name, std::unsigned_integral auto number) { member(name) += std::to_string(number); }
    void add(std::string_view name, bool yes) { member(name) += yes ? "true" : "false"; }
    void add_null(std::string_view name) { member(name) += "null"; }

    // `write` appends the value that there is, or null.
    template <class T, class Write> void add_if(std::string_view name, const std::optional<T>& value, Write write)
    {
        auto& out = member(name);
        value ? write(out, *value) : void(out += "null");
    }

private:
    std::string& out_;
    bool first_ = true;
};

template <class List, class Write> void append_json_list(std::string& out, const List& list, Write write)
{
    out += '[';
    bool first = true;
    for (const auto& element : list) {
        out += std::exchange(first, false) ? "" : ", ";
        write(out, element);
    }
    out += ']';
}

}  // namespace latchkey::setkey
