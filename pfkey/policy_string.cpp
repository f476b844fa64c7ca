// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/policy_string.hpp"

#include "pfkey/tables.hpp"

#include <algorithm>
#include <charconv>
#include <net/if.h>
#include <optional>

namespace latchkey {

namespace {

// ---- the words ------------------------------------------------------------------------------------------------------

constexpr NamedNumber directions[] = {
    {IPSEC_DIR_ANY, "any"}, {IPSEC_DIR_INBOUND, "in"}, {IPSEC_DIR_OUTBOUND, "out"}, {IPSEC_DIR_FWD, "fwd"}};
constexpr NamedNumber actions[] = {{IPSEC_POLICY_DISCARD, "discard"},
                                   {IPSEC_POLICY_NONE, "none"},
                                   {IPSEC_POLICY_IPSEC, "ipsec"},
                                   {IPSEC_POLICY_ENTRUST, "entrust"},
                                   {IPSEC_POLICY_BYPASS, "bypass"}};
constexpr NamedNumber protocols[] = {{ip_proto::esp, "esp"}, {ip_proto::ah, "ah"}, {ip_proto::ipcomp, "ipcomp"}};
constexpr NamedNumber modes[] = {
    {IPSEC_MODE_ANY, "any"}, {IPSEC_MODE_TRANSPORT, "transport"}, {IPSEC_MODE_TUNNEL, "tunnel"}};
constexpr NamedNumber levels[] = {{IPSEC_LEVEL_DEFAULT, "default"},
                                  {IPSEC_LEVEL_USE, "use"},
                                  {IPSEC_LEVEL_REQUIRE, "require"},
                                  {IPSEC_LEVEL_UNIQUE, "unique"}};

struct PriorityBase {
    std::string_view name;
    std::uint32_t value;
};
constexpr PriorityBase bases[] = {{"low", priority_low}, {"def", priority_default}, {"high", priority_high}};

// How far a priority may lie from the base it is given with: never past the ends of the 32 bits.
constexpr std::uint32_t max_raise = 0x40000000;
constexpr std::uint32_t max_lower = 0x3fffffff;

template <class Table> std::optional<std::uint8_t> number_of(const Table& table, std::string_view word)
{
    for (const auto& row : table)
        if (row.name == word)
            return row.number;
    return std::nullopt;
}

template <class Table> std::string word_of(const Table& table, unsigned number)
{
    for (const auto& row : table)
        if (row.number == number)
            return std::string(row.name);
    return std::to_string(number);
}

// ---- the scanner ----------------------------------------------------------------------------------------------------

bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

// Words and addresses overlap ("esp", "fec0::1"), so the parser says what it wants to read next.
class Scanner {
public:
    explicit Scanner(std::string_view text) : text_(text) { skip_space(); }

    bool at_end() const { return at_ == text_.size(); }
    std::size_t position() const { return at_; }
    char next() const { return at_end() ? '\0' : text_[at_]; }

    bool accept(char c)
    {
        if (next() != c)
            return false;
        advance(1);
        return true;
    }

    // Without moving.
    std::string_view word() const { return run(is_word); }

    bool accept(std::string_view word_wanted)
    {
        if (word() != word_wanted)
            return false;
        advance(word_wanted.size());
        return true;
    }

    template <class Table> std::optional<std::uint8_t> accept_one_of(const Table& table)
    {
        const auto found = number_of(table, word());
        if (found)
            advance(word().size());
        return found;
    }

    // The letters of an address, or of a zone; blanks may follow.
    std::string_view address()
    {
        const auto is_address = [](char c) { return is_word(c) || c == ':' || c == '.' || c == '%'; };
        const auto found = run(is_address);
        advance(found.size());
        return found;
    }

    std::optional<std::uint64_t> number(std::uint64_t max)
    {
        const auto digits = word();
        std::uint64_t value = 0;
        const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
        if (error != std::errc{} || end != digits.data() + digits.size() || value > max)
            return std::nullopt;
        advance(digits.size());
        return value;
    }

    // ":N" glued to the word before; `unique: N` is refused by every known parser.
    bool glued_colon()
    {
        if (next() != ':' || at_ == 0 || is_space(text_[at_ - 1]) || at_ + 1 >= text_.size() ||
            is_space(text_[at_ + 1]))
            return false;
        advance(1);
        return true;
    }

    PolicyStringError error(PolicyFault fault, std::string_view expected, std::size_t at) const
    {
        constexpr std::size_t shown = 24;
        const auto rest = text_.substr(at);
        const auto end = std::ranges::find_if(rest, is_space) - rest.begin();
        return {fault, at + 1, expected, std::string(rest.substr(0, std::min<std::size_t>(shown, std::size_t(end))))};
    }

private:
    template <class Is> std::string_view run(Is is) const
    {
        const auto rest = text_.substr(at_);
        const auto end = std::ranges::find_if_not(rest, is);
        return rest.substr(0, static_cast<std::size_t>(end - rest.begin()));
    }

    void advance(std::size_t n)
    {
        at_ += n;
        skip_space();
    }

    void skip_space()
    {
        while (!at_end() && is_space(text_[at_]))
            ++at_;
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

// ---- the parser -----------------------------------------------------------------------------------------------------

template <class T = void> using Parsed = std::expected<T, PolicyStringError>;

class Parser {
public:
    explicit Parser(std::string_view text) : in_(text) {}

    Parsed<PolicyExt> policy()
    {
        PolicyExt policy;
        const auto direction = in_.word() == "any" ? std::nullopt : in_.accept_one_of(directions);
        if (!direction)
            return expected("a direction (in, out or fwd)");
        policy.direction = *direction;
        direction_ = *direction;
        if (in_.at_end())   // a direction alone names a policy to delete
            return policy;

        policy.priority = priority_default;
        if (in_.accept("prio") || in_.accept("priority")) {
            const auto value = priority();
            if (!value)
                return std::unexpected(value.error());
            policy.priority = *value;
        }
        const auto action = in_.accept_one_of(actions);
        if (!action)
            return expected("an action (discard, none, ipsec, entrust or bypass)");
        policy.type = *action;
        return rules(std::move(policy));
    }

private:
    Parsed<PolicyExt> rules(PolicyExt policy)
    {
        while (!in_.at_end()) {
            const auto request = rule();
            if (!request)
                return std::unexpected(request.error());
            policy.requests.push_back(*request);
        }
        if (policy_size(policy) > max_record)
            return expected("fewer rules, that fit in a message");
        return policy;
    }

    // base [+|- N], or [-]N as an offset from def. A plus makes a policy come earlier, that is, lowers the number.
    Parsed<std::uint32_t> priority()
    {
        for (const auto& base : bases)
            if (in_.accept(base.name)) {
                const bool raise = in_.next() == '+';
                if (!in_.accept('+') && !in_.accept('-'))
                    return base.value;
                return offset(base.value, raise, raise ? max_raise : max_lower, PolicyFault::base_offset);
            }
        const bool raise = !in_.accept('-');
        const auto max = raise ? priority_default : ~priority_default;
        return offset(priority_default, raise, max, PolicyFault::priority_offset);
    }

    Parsed<std::uint32_t> offset(std::uint32_t base, bool raise, std::uint32_t max, PolicyFault fault)
    {
        const auto at = in_.position();
        if (in_.next() < '0' || in_.next() > '9')
            return expected("a priority (low, def, high or a number)");
        const auto value = in_.number(max);
        if (!value)
            return std::unexpected(in_.error(fault, "an offset within the range of priorities", at));
        const auto delta = static_cast<std::uint32_t>(*value);
        return raise ? base - delta : base + delta;
    }

    Parsed<Request> rule()
    {
        Request request;
        const auto protocol = in_.accept_one_of(protocols);
        if (!protocol)
            return expected("a protocol (esp, ah or ipcomp)");
        request.protocol = *protocol;
        const auto mode = in_.accept('/') && in_.word() != "any" ? in_.accept_one_of(modes) : std::nullopt;
        if (!mode)
            return expected("/ and a mode (transport or tunnel)", PolicyFault::too_few_arguments);
        request.mode = static_cast<Mode>(*mode);

        const auto at = in_.position();
        if (in_.accept('/')) {
            if (auto rest = end_points_and_level(request); !rest)
                return std::unexpected(rest.error());
        }
        if (request.mode == Mode::tunnel && request.tunnel_source.family() == Family::none)
            return std::unexpected(in_.error(PolicyFault::address, "the end points of the tunnel", at));
        return request;
    }

    // Behind the second slash: [source-destination] [/ [level]].
    Parsed<> end_points_and_level(Request& request)
    {
        if (in_.next() != '/' && !rule_ends())
            if (auto parsed = end_points(request); !parsed)
                return parsed;
        if (!in_.accept('/') || rule_ends())
            return {};
        const auto level = in_.accept_one_of(levels);
        if (!level)
            return expected("a level (default, use, require or unique)");
        request.level = static_cast<Level>(*level);
        if (request.level == Level::unique && in_.next() == ':')
            return reqid(request);
        return {};
    }

    bool rule_ends() const { return in_.at_end() || number_of(protocols, in_.word()).has_value(); }

    Parsed<> reqid(Request& request)
    {
        const auto at = in_.position();
        const auto value = in_.glued_colon() ? in_.number(0xffffffff) : std::nullopt;
        if (!value)
            return std::unexpected(in_.error(PolicyFault::reqid, "unique:N without blanks, N of at most 32 bits", at));
        request.reqid = static_cast<std::uint32_t>(*value);
        return {};
    }

    // me-any and any-me stand for "the addresses of the packet", which is what no addresses mean.
    Parsed<> end_points(Request& request)
    {
        const auto at = in_.position();
        if (in_.word() == "me" || in_.word() == "any") {
            const bool me_first = in_.accept("me");
            const bool complete = me_first ? in_.accept('-') && in_.accept("any")
                                           : in_.accept("any") && in_.accept('-') && in_.accept("me");
            if (!complete)
                return expected("me-any or any-me");
            if (direction_ != (me_first ? IPSEC_DIR_OUTBOUND : IPSEC_DIR_INBOUND))
                return std::unexpected(in_.error(PolicyFault::direction, "me-any with out, any-me with in", at));
            return {};
        }
        const auto source = end_point();
        if (!source)
            return std::unexpected(source.error());
        if (!in_.accept('-'))
            return expected("- and the second end point");
        const auto destination = end_point();
        if (!destination)
            return std::unexpected(destination.error());
        if (source->address.family() != destination->address.family())
            return std::unexpected(in_.error(PolicyFault::family_mismatch, "two addresses of one family", at));
        request.tunnel_source = source->address;
        request.tunnel_source_port = source->port;
        request.tunnel_source_scope = source->scope;
        request.tunnel_destination = destination->address;
        request.tunnel_destination_port = destination->port;
        request.tunnel_destination_scope = destination->scope;
        return {};
    }

    // ADDRESS[%zone][\[port\]]; names are not resolved, as in libipsec.
    Parsed<Endpoint> end_point()
    {
        const auto at = in_.position();
        const auto invalid = [&](std::string_view what) {
            return std::unexpected(in_.error(PolicyFault::address, what, at));
        };
        const auto text = in_.address();
        const auto percent = text.find('%');
        const auto address = Address::parse(text.substr(0, percent));
        if (!address)
            return invalid("an IPv4 or IPv6 address");
        Endpoint endpoint{*address, 0, 0};
        if (percent != text.npos) {
            const auto scope = address->is_v6() ? scope_of(text.substr(percent + 1)) : std::nullopt;
            if (!scope)
                return invalid("an address with an existing zone");
            endpoint.scope = *scope;
        }
        if (in_.accept('[')) {
            const auto port = in_.accept("any") ? std::optional<std::uint64_t>(0) : in_.number(0xffff);
            if (!port || !in_.accept(']'))
                return expected("a port and ]");
            endpoint.port = static_cast<std::uint16_t>(*port);
        }
        return endpoint;
    }

    static std::optional<std::uint32_t> scope_of(std::string_view zone)
    {
        std::uint32_t number = 0;
        const auto [end, error] = std::from_chars(zone.data(), zone.data() + zone.size(), number);
        if (error == std::errc{} && end == zone.data() + zone.size())
            return number;
        number = if_nametoindex(std::string(zone).c_str());
        return number != 0 ? std::optional(number) : std::nullopt;
    }

    std::unexpected<PolicyStringError> expected(std::string_view what, PolicyFault fault = PolicyFault::syntax) const
    {
        return std::unexpected(in_.error(fault, what, in_.position()));
    }

    Scanner in_;
    unsigned direction_ = IPSEC_DIR_ANY;
};

// ---- the printer ----------------------------------------------------------------------------------------------------

std::string end_point_text(const Address& address, std::uint32_t scope, std::uint16_t port, bool with_ports)
{
    std::string out = address.text();
    if (scope != 0) {
        std::array<char, IF_NAMESIZE> name{};
        out += '%';
        out += if_indextoname(scope, name.data()) != nullptr ? std::string(name.data()) : std::to_string(scope);
    }
    if (with_ports)
        out.append("[").append(port == 0 ? "any" : std::to_string(port)).append("]");
    return out;
}

std::string level_text(const Request& request)
{
    std::string out = word_of(levels, static_cast<unsigned>(request.level));
    if (request.level == Level::unique && request.reqid != 0)   // `#`: chosen by the host
        out += (request.reqid > IPSEC_MANUAL_REQID_MAX ? '#' : ':') + std::to_string(request.reqid);
    return out;
}

std::string request_text(const Request& r, bool with_ports)
{
    std::string out = word_of(protocols, r.protocol) + "/" + word_of(modes, static_cast<unsigned>(r.mode)) + "/";
    if (r.tunnel_source.family() != Family::none || r.tunnel_destination.family() != Family::none)
        out += end_point_text(r.tunnel_source, r.tunnel_source_scope, r.tunnel_source_port, with_ports) + "-" +
               end_point_text(r.tunnel_destination, r.tunnel_destination_scope, r.tunnel_destination_port, with_ports);
    return out + "/" + level_text(r);
}

}  // namespace

std::string PolicyStringError::text() const
{
    return "column " + std::to_string(column) + ": expected " + std::string(expected) +
           (found.empty() ? ", found the end" : ", found `" + found + "'");
}

std::expected<PolicyExt, PolicyStringError> parse_policy_string(std::string_view text)
{
    return Parser(text).policy();
}

std::string priority_text(std::uint32_t priority)
{
    if (priority == 0)
        return {};
    const auto distance = [&](const PriorityBase& base) {
        return priority > base.value ? priority - base.value : base.value - priority;
    };
    const auto base = *std::ranges::min_element(bases, {}, distance);
    std::string out = "prio " + std::string(base.name);
    if (priority != base.value)
        out += (priority < base.value ? " + " : " - ") + std::to_string(distance(base));
    return out;
}

std::string policy_text(const PolicyExt& policy, std::string_view delimiter, bool with_ports)
{
    std::string out = word_of(directions, policy.direction) + " ";
    if (const auto priority = priority_text(policy.priority); !priority.empty())
        out += priority + " ";
    out += word_of(actions, policy.type);
    for (const auto& request : policy.requests)
        (out += delimiter) += request_text(request, with_ports);
    return out;
}

}  // namespace latchkey
