// SPDX-License-Identifier: BSD-2-Clause
// spdadd, spdupdate, spddelete: selector, upper-layer protocol with its details, and the policy behind -P (whose own
// grammar is pfkey/policy_string.hpp's).
#include "setkey/parser.hpp"

#include "pfkey/policy_string.hpp"
#include "setkey/protocols.hpp"
#include "setkey/suggest.hpp"
#include "setkey/words.hpp"

#include <cctype>

namespace latchkey::setkey {

PolicySpec Parser::policy_command()
{
    PolicySpec spec;
    family_options();
    if (token().is("tagged")) {
        tagged_policy(spec);
        return spec;
    }
    spec.source = selector_end();
    spec.destination = selector_end();
    check_families(spec.source.addresses, spec.destination.addresses, spec.destination.offset);
    upper(spec);
    while (!failed() && token().is_word() && !token().is("-P"))
        if (token().is("-ctx"))
            security_context(lexer_.next().offset);
        else if (token().is("-hwif"))
            hardware_interface(lexer_.next().offset);
        else
            expected("-P and a policy");
    policy(spec);
    return spec;
}

// tagged "TAG" -P POLICY (KAME: packets that a packet filter marked)
void Parser::tagged_policy(PolicySpec& spec)
{
    const auto at = lexer_.next().offset;
    if (token().kind != TokenKind::quoted)
        return expected("a tag in quotes");
    lexer_.next();
    policy(spec);
    refuse(at, "'tagged' is not supported by this stack: it has no packet tags");
}

// ADDRESS[/LENGTH][PORT]
SelectorEnd Parser::selector_end()
{
    SelectorEnd end;
    end.offset = token().offset;
    end.addresses = {one_address("a policy")};
    const auto& address = end.addresses.front().address;
    if (const auto at = token().offset; accept('/')) {
        const auto length = number("a prefix length", 128);
        if (!failed() && length > address.bits())
            fail(at, "/" + std::to_string(length) + " is too long: " + address.text() + " has " +
                         std::to_string(address.bits()) + " bits");
        end.prefix_length = static_cast<std::uint8_t>(length);
    }
    end.addresses.front().port = optional_port();
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
    spec.protocol_at = word.offset;
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

// What the policy grammar expects it names like this: "an action (discard, none or ipsec)".
std::vector<std::string_view> words_in_brackets(std::string_view expected)
{
    std::vector<std::string_view> out;
    const auto open = expected.find('('), close = expected.find(')');
    if (open == expected.npos || close == expected.npos || close < open)
        return out;
    for (auto rest = expected.substr(open + 1, close - open - 1); !rest.empty();) {
        const auto end = std::min(rest.find_first_of(", "), rest.size());
        if (const auto word = rest.substr(0, end); !word.empty() && word != "or" && word != "a")
            out.push_back(word);
        rest.remove_prefix(std::min(rest.size(), end + 1));
    }
    return out;
}

std::string_view first_word(std::string_view text)
{
    return text.substr(0, text.find_first_of("/:[ "));
}

// Where an option stands between blanks; the size of the text if it does not.
std::size_t find_option(std::string_view text, std::string_view option)
{
    const auto at = text.find(option);
    const auto blank = [&](std::size_t i) {
        return i >= text.size() || std::isspace(static_cast<unsigned char>(text[i])) != 0;
    };
    return at != text.npos && at != 0 && blank(at - 1) && blank(at + option.size()) ? at : text.size();
}

bool is_more_than_a_word(std::string_view text)
{
    constexpr std::string_view blanks = " \t\r\n\f\v";
    const auto word = text.find_first_not_of(blanks);
    const auto gap = text.find_first_of(blanks, word);
    return text.find_first_not_of(blanks, gap) != text.npos;
}

}  // namespace

void Parser::policy(PolicySpec& spec)
{
    if (!accept("-P"))
        return expected("-P and a policy");
    spec.policy_at = token().offset;
    const auto text = policy_text();
    auto parsed = parse_policy_string(text);
    if (!parsed) {
        const auto& error = parsed.error();
        const auto found = error.found.empty() ? shown(token()) : shown({TokenKind::word, error.found, 0});
        return fail(spec.policy_at + error.column - 1,
                    "expected " + std::string(error.expected) + ", got " + found +
                        did_you_mean(first_word(error.found), words_in_brackets(error.expected)),
                    Diagnostic::Kind::syntax);
    }
    spec.policy = std::move(*parsed);
    spec.has_action = is_more_than_a_word(text);
    if (token().is("-hwif"))   // FreeBSD has it behind the policy
        hardware_interface(lexer_.next().offset);
}

// The text behind -P, up to the ';'. If that is missing, the text ends where a line begins with the next command.
std::string Parser::policy_text()
{
    const auto raw = lexer_.raw_until(';');
    auto text = without_comments(raw.text);
    const auto end = std::min(next_command_line(text), find_option(text, "-hwif"));
    if (end < text.size()) {
        text.resize(end);
        lexer_.seek(raw.offset + end);
    }
    return text;
}

}  // namespace latchkey::setkey
