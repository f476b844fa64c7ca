// SPDX-License-Identifier: BSD-2-Clause
// "unix:/run/lan,pcap=lan.pcap,loss=1" -> WireSpec -> Wire.
#include "stack/wire/wire.hpp"

#include <charconv>
#include <chrono>
#include <set>

namespace latchkey {

namespace {

using Parsed = std::expected<void, std::string>;

std::string quoted(std::string_view text)
{
    return "\"" + std::string(text) + "\"";
}

std::unexpected<std::string> bad(std::string_view option, std::string_view value, std::string_view expected)
{
    return std::unexpected(std::string(option) + "=" + std::string(value) + ": expected " + std::string(expected));
}

template <class Number> bool to_number(std::string_view text, Number& out)
{
    const auto end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, out);
    return error == std::errc{} && stop == end;
}

Parsed parse_pcap(WireSpec& spec, std::string_view name, std::string_view value)
{
    if (value.empty())
        return bad(name, value, "the name of a file");
    spec.pcap = value;
    return {};
}

Parsed parse_seed(WireSpec& spec, std::string_view name, std::string_view value)
{
    if (!to_number(value, spec.seed))
        return bad(name, value, "a number from 0 to 18446744073709551615");
    return {};
}

template <double WireSpec::*member> Parsed parse_percent(WireSpec& spec, std::string_view name, std::string_view value)
{
    double percent = 0;
    // The negated comparison refuses NaN too.
    if (!to_number(value, percent) || !(percent >= 0 && percent <= 100))
        return bad(name, value, "a percentage from 0 to 100");
    spec.*member = percent / 100;
    return {};
}

struct Option {
    std::string_view name;
    Parsed (*parse)(WireSpec& spec, std::string_view name, std::string_view value);
};

constexpr Option options[] = {
    {"pcap", parse_pcap},
    {"loss", parse_percent<&WireSpec::loss>},
    {"duplicate", parse_percent<&WireSpec::duplicate>},
    {"reorder", parse_percent<&WireSpec::reorder>},
    {"corrupt", parse_percent<&WireSpec::corrupt>},
    {"seed", parse_seed},
};

std::string option_names()
{
    std::string names;
    for (const auto& option : options)
        names += (names.empty() ? "" : ", ") + std::string(option.name);
    return names;
}

struct Kind {
    std::string_view name, target;
    std::expected<std::unique_ptr<Wire>, std::string> (*open)(const std::string& target);
};

constexpr Kind kinds[] = {
    {"tap", "the name of an interface", open_tap},
    {"unix", "the path of a directory", open_segment},
};

const Kind* find_kind(std::string_view name)
{
    for (const auto& kind : kinds)
        if (kind.name == name)
            return &kind;
    return nullptr;
}

std::unexpected<std::string> no_such_kind(std::string_view text)
{
    return std::unexpected(quoted(text) + ": expected tap:NAME or unix:DIRECTORY");
}

Parsed parse_option(WireSpec& spec, std::string_view text, std::set<std::string_view>& seen)
{
    const auto equals = text.find('=');
    const auto name = text.substr(0, equals);
    for (const auto& option : options) {
        if (option.name != name)
            continue;
        if (equals == text.npos)
            return std::unexpected(quoted(text) + ": expected " + std::string(name) + "=VALUE");
        if (!seen.insert(option.name).second)
            return std::unexpected(std::string(name) + " is given twice");
        return option.parse(spec, name, text.substr(equals + 1));
    }
    return std::unexpected(quoted(text) + ": expected one of the options " + option_names());
}

// What turns this process's monotonic time into the time of day.
std::int64_t wall_offset_seconds()
{
    using namespace std::chrono;
    return duration_cast<seconds>(system_clock::now().time_since_epoch() - steady_clock::now().time_since_epoch())
        .count();
}

}  // namespace

std::expected<WireSpec, std::string> parse_wire_spec(std::string_view text)
{
    auto rest = text;
    const auto next = [&rest] {
        const auto comma = rest.find(',');
        const auto part = rest.substr(0, comma);
        rest = comma == rest.npos ? std::string_view{} : rest.substr(comma + 1);
        return std::pair{part, comma != part.npos};
    };

    auto [head, more] = next();
    const auto colon = head.find(':');
    const auto kind = colon == head.npos ? nullptr : find_kind(head.substr(0, colon));
    if (!kind)
        return no_such_kind(head);
    WireSpec spec;
    spec.kind = kind->name;
    spec.target = head.substr(colon + 1);
    if (spec.target.empty())
        return std::unexpected(quoted(head) + ": expected " + std::string(kind->target) + " after the colon");

    std::set<std::string_view> seen;
    while (more) {
        const auto [option, comma] = next();
        more = comma;
        if (const auto parsed = parse_option(spec, option, seen); !parsed)
            return std::unexpected(parsed.error());
    }
    return spec;
}

std::expected<std::unique_ptr<Wire>, std::string> open_wire(const WireSpec& spec)
{
    const auto kind = find_kind(spec.kind);
    if (!kind)
        return no_such_kind(spec.kind);
    auto wire = kind->open(spec.target);
    if (wire && !spec.pcap.empty())
        wire = add_pcap(std::move(*wire), spec.pcap, wall_offset_seconds());
    if (wire && (spec.loss > 0 || spec.duplicate > 0 || spec.reorder > 0 || spec.corrupt > 0))
        wire = add_faults(std::move(*wire), spec);
    return wire;
}

}  // namespace latchkey
