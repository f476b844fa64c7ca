// SPDX-License-Identifier: BSD-2-Clause
// spdadd, spdupdate, spddelete: selector, upper-layer protocol with its details, and the policy behind -P (whose own
// grammar is pfkey/policy_string.hpp's).
#include "setkey/parser.hpp"

#include "pfkey/policy_string.hpp"
#include "setkey/protocols.hpp"
#include "setkey/words.hpp"

#include <cctype>

namespace latchkey::setkey {

PolicySpec Parser::policy_command()
{
    PolicySpec spec;
    family_options();
    if (const auto at = token().offset; accept("tagged")) {
        if (token().kind != TokenKind::quoted) {
            expected("a tag in quotes");
            return spec;
        }
        lexer_.next();
        if (accept("-P"))
            lexer_.raw_until(';');
        else
            expected("-P");
        fail(at, "'tagged' is not supported: this host has no packet tags", Diagnostic::Kind::refused);
        return spec;
    }
    spec.source = selector_end();
    const auto destination_at = token().offset;
    spec.destination = selector_end();
    check_families(spec.source.addresses, spec.destination.addresses, destination_at);
    upper(spec);
    if (!failed() && token().is("-ctx"))
        security_context();
    if (!accept("-P"))
        expected("-P and a policy");
    spec.policy = policy();
    return spec;
}

// ADDRESS[/LENGTH][PORT]
SelectorEnd Parser::selector_end()
{
    SelectorEnd end;
    end.addresses = addresses();
    if (const auto at = token().offset; accept('/')) {
        const auto length = number("a prefix length", 128);
        for (const auto& endpoint : end.addresses)
            if (length > endpoint.address.bits())
                fail(at, "/" + std::to_string(length) + " is too long: " + endpoint.address.text() + " has " +
                             std::to_string(endpoint.address.bits()) + " bits");
        end.prefix_length = static_cast<std::uint8_t>(length);
    }
    const auto port = optional_port();
    for (auto& endpoint : end.addresses)
        endpoint.port = port;
    return end;
}

// ---- upper-layer protocol -------------------------------------------------------------------------------------------

namespace {

std::string lower(std::string_view text)
{
    std::string out;
    for (const char c : text)
        out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return out;
}

void set_ports(SelectorEnd& end, std::uint16_t port)
{
    for (auto& endpoint : end.addresses)
        endpoint.port = port;
}

bool has_ports(const PolicySpec& spec)
{
    const auto set = [](const SelectorEnd& end) { return !end.addresses.empty() && end.addresses.front().port != 0; };
    return set(spec.source) || set(spec.destination);
}

std::optional<std::uint64_t> decimal(std::string_view text)
{
    return looks_hex(text) ? std::nullopt : parse_number(text);
}

// A GRE key: a number, or a dotted quad as ip(8) shows it.
std::optional<std::uint64_t> gre_key(std::string_view text)
{
    if (const auto quad = Address::parse(text); quad && quad->is_v4())
        return wire::field<std::uint32_t>(quad->bytes(), 0);
    return parse_number(text);
}

}  // namespace

void Parser::upper(PolicySpec& spec)
{
    if (failed())
        return;
    const auto word = token();
    const auto name = word.is_word() ? lower(word.text) : std::string();
    if (const auto value = decimal(name); value && *value <= 255) {
        spec.protocol = static_cast<std::uint8_t>(*value);
    } else if (const auto found = upper_protocol(name); found && !value) {
        spec.protocol = *found;
    } else {
        std::vector<std::string_view> names{"any", "icmp6"};
        for (const auto& row : upper_protocols)
            names.push_back(row.name);
        return expected_one_of("an upper-layer protocol, a number up to 255 or 'any'", names);
    }
    lexer_.next();
    if (token().is_word() && !token().text.starts_with('-'))
        upper_details(spec);
}

// What may follow the protocol; it travels in the two port fields, as in KAME.
void Parser::upper_details(PolicySpec& spec)
{
    const auto at = token().offset;
    const auto word = token().text;
    if (has_type_and_code(spec.protocol)) {
        const auto comma = word.find(',');
        const auto type = decimal(word.substr(0, comma));
        const auto code = comma == word.npos ? std::nullopt : decimal(word.substr(comma + 1));
        if (!type || !code)
            return expected("TYPE,CODE or -P");
        if (*type > 255 || *code > 255)
            return fail(at, shown(token()) + " is too big: type and code are at most 255");
        if (has_ports(spec))
            return fail(at, "type and code do not go with ports");
        set_ports(spec.source, static_cast<std::uint16_t>(*type));
        set_ports(spec.destination, static_cast<std::uint16_t>(*code));
    } else if (spec.protocol == gre) {
        const auto key = gre_key(word);
        if (!key)
            return expected("a GRE key or -P");
        if (*key > max32)
            return fail(at, shown(token()) + " is too big: a GRE key has 32 bits");
        if (has_ports(spec))
            return fail(at, "a GRE key does not go with ports");
        set_ports(spec.source, static_cast<std::uint16_t>(*key >> 16));
        set_ports(spec.destination, static_cast<std::uint16_t>(*key & 0xffff));
    } else {
        return expected("-P and a policy");
    }
    lexer_.next();
}

// ---- the policy -----------------------------------------------------------------------------------------------------

namespace {

// Comments inside the policy text become blanks: columns stay true.
std::string without_comments(std::string_view text)
{
    std::string out(text);
    for (auto at = out.find('#'); at != out.npos; at = out.find('#', at))
        for (; at < out.size() && out[at] != '\n'; ++at)
            out[at] = ' ';
    return out;
}

}  // namespace

PolicyExt Parser::policy()
{
    if (failed())
        return {};
    const auto raw = lexer_.raw_until(';');
    const bool commented = raw.text.find('#') != raw.text.npos;
    auto parsed = commented ? parse_policy_string(without_comments(raw.text)) : parse_policy_string(raw.text);
    if (!parsed) {
        const auto& error = parsed.error();
        const auto found = error.found.empty() ? (token().is(';') ? "';'" : "the end of the input")
                                               : shown({TokenKind::word, error.found, 0});
        fail(raw.offset + error.column - 1, "expected " + std::string(error.expected) + ", got " + found,
             Diagnostic::Kind::syntax);
        return {};
    }
    return std::move(*parsed);
}

}  // namespace latchkey::setkey
