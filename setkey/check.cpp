// SPDX-License-Identifier: BSD-2-Clause
#include "setkey/check.hpp"

#include "setkey/protocols.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <tuple>

namespace latchkey::setkey {

namespace {

// One pass over a script. It remembers what the script itself has made so far, nothing else is known of the tables.
class Checker {
public:
    Checker(const Source& source, const Offers& offers, CheckReport& report)
        : source_(source), offers_(offers), report_(report)
    {
    }

    void check(const Command& command);
    void error(const Diagnostic& diagnostic) { report_.errors.push_back(diagnostic); }

private:
    void check_numbers(Verb verb, const SaSpec& sa);
    void check_protection(const SaSpec& sa);
    void check_algorithm(const Algorithm* row, std::size_t at);
    void check_counter_key(const SaSpec& sa);
    void track_sa(const Command& command, const SaSpec& sa);

    void check_selector(const PolicySpec& spec);
    void check_end(const SelectorEnd& end);
    void check_policy(const PolicySpec& spec);
    void track_policy(const Command& command, const PolicySpec& spec);

    void wrong(std::size_t at, std::string text)
    {
        report_.errors.push_back({Diagnostic::Kind::value, at, std::move(text)});
    }
    void warn(std::size_t at, std::string text)
    {
        report_.warnings.push_back({Diagnostic::Kind::warning, at, std::move(text)});
    }
    std::string line_of(std::size_t offset) const { return "line " + std::to_string(source_.locate(offset).line); }

    using SaKey = std::tuple<std::uint8_t, Address, std::uint32_t>;   // SA type, destination, SPI
    struct Made {
        Address source;   // deleteall asks for it
        std::size_t offset;
    };
    using EndKey = std::tuple<Address, std::uint8_t, std::uint16_t>;                 // prefix, its length, port
    using PolicyKey = std::tuple<std::uint8_t, EndKey, EndKey, std::uint8_t>;   // direction, ends, protocol
    static EndKey key_of(const SelectorEnd& end);

    const Source& source_;
    const Offers& offers_;
    CheckReport& report_;
    std::map<SaKey, Made> sas_;
    std::map<PolicyKey, std::size_t> policies_;
    std::map<std::size_t, std::size_t> counter_keys_;   // hash of a key: where it was given
};

void Checker::check(const Command& command)
{
    ++report_.commands;
    report_.warnings.insert(report_.warnings.end(), command.notes.begin(), command.notes.end());
    const bool makes_sa = command.verb == Verb::add || command.verb == Verb::update || command.verb == Verb::getspi;
    if (const auto* sa = std::get_if<SaSpec>(&command.body)) {
        if (makes_sa) {
            check_numbers(command.verb, *sa);
            check_protection(*sa);
        }
        return track_sa(command, *sa);
    }
    if (const auto* policy = std::get_if<PolicySpec>(&command.body)) {
        check_selector(*policy);
        if (command.verb != Verb::spd_erase)
            check_policy(*policy);
        return track_policy(command, *policy);
    }
    if (command.verb == Verb::spd_flush)
        policies_.clear();
    if (command.verb == Verb::flush) {
        const auto satype = std::get<TableSpec>(command.body).satype;
        std::erase_if(sas_, [&](const auto& sa) { return satype == 0 || std::get<0>(sa.first) == satype; });
    }
}

// ---- security associations ------------------------------------------------------------------------------------------

void Checker::check_numbers(Verb verb, const SaSpec& sa)
{
    const bool ipcomp = sa.protocol->satype == SADB_X_SATYPE_IPCOMP;
    // RFC 4303 §2.1: 0 is never sent, 1 to 255 are IANA's. getspi 0 lets the host choose.
    if (!(verb == Verb::getspi && sa.spi == 0) && sa.spi < (ipcomp ? 1u : 256u))
        wrong(sa.at.spi, ipcomp ? std::string("SPI 0 is reserved")
                                : "SPI " + std::to_string(sa.spi) + " is reserved: 0 to 255 are");
    const auto late = [](std::uint64_t soft, std::uint64_t hard) { return soft != 0 && hard != 0 && soft >= hard; };
    if (late(sa.soft.addtime, sa.hard.addtime) || late(sa.soft.bytes, sa.hard.bytes))
        warn(sa.at.lifetime, "the soft limit is not below the hard one, so that nobody renews the SA in time");
    if ((sa.protocol->flags & SADB_X_EXT_OLD) != 0)
        warn(sa.at.protocol, std::string(sa.protocol->word) + " is a format of 1995 that hosts refuse by now");
    if (sa.reqid > IPSEC_MANUAL_REQID_MAX)
        warn(sa.at.reqid, "request ids above " + std::to_string(IPSEC_MANUAL_REQID_MAX) + " are the host's to give");
}

void Checker::check_protection(const SaSpec& sa)
{
    check_algorithm(sa.cipher, sa.at.cipher);
    check_algorithm(sa.auth, sa.at.auth);
    check_algorithm(sa.compression, sa.at.compression);
    check_counter_key(sa);
    if (sa.cipher == nullptr || sa.cipher->kind == AlgorithmKind::aead)
        return;
    if (sa.auth != nullptr && sa.auth->primitive != Primitive::null)
        return;
    // RFC 8221 §4
    if (sa.cipher->primitive == Primitive::null)
        warn(sa.at.cipher, "this SA neither encrypts nor authenticates");
    else
        warn(sa.at.cipher, std::string(sa.cipher->name) + " without -A: anybody can change what it encrypts");
}

void Checker::check_algorithm(const Algorithm* row, std::size_t at)
{
    if (row == nullptr)
        return;
    const std::string name(row->name);
    if (offers_ ? !offers_(*row) : !row->offered())
        return wrong(at, name + " is not supported by this stack");
    if (row->legacy)
        warn(at, name + " is weak by today's judgement");
}

// A counter mode is broken as soon as two packets share a key and a counter, and every SA counts from 1
// (RFC 3686 §2.1, RFC 4106 §2).
void Checker::check_counter_key(const SaSpec& sa)
{
    if (sa.cipher == nullptr || !sa.cipher->counts() || sa.cipher_key.empty())
        return;
    const auto bytes = sa.cipher_key.bytes();
    const std::string_view key(static_cast<const char*>(static_cast<const void*>(bytes.data())), bytes.size());
    const auto [first, fresh] = counter_keys_.emplace(std::hash<std::string_view>()(key), sa.at.cipher);
    if (!fresh)
        warn(sa.at.cipher, std::string(sa.cipher->name) + " has the same key as in " + line_of(first->second) +
                               ": two SAs with one key give both away");
}

void Checker::track_sa(const Command& command, const SaSpec& sa)
{
    const auto satype = sa.protocol->satype;
    for (const auto& destination : sa.destinations)
        for (const auto& source : sa.sources) {
            const auto &to = destination.address, &from = source.address;
            if (command.verb == Verb::erase) {
                sas_.erase({satype, to, sa.spi});
            } else if (command.verb == Verb::erase_all) {
                auto at = sas_.lower_bound({satype, to, 0});
                while (at != sas_.end() && std::get<0>(at->first) == satype && std::get<1>(at->first) == to)
                    at = at->second.source == from ? sas_.erase(at) : std::next(at);
            } else if (command.verb == Verb::add) {
                const auto [first, fresh] = sas_.try_emplace({satype, to, sa.spi}, Made{from, command.offset});
                if (!fresh && first->second.offset != command.offset)
                    warn(sa.at.spi, "this SPI is taken: " + line_of(first->second.offset) + " adds the same SA");
            }
        }
}

// ---- policies -------------------------------------------------------------------------------------------------------

void Checker::check_selector(const PolicySpec& spec)
{
    if (spec.source.addresses.empty() || spec.destination.addresses.empty())
        return;
    check_end(spec.source);
    check_end(spec.destination);
    const auto& source = spec.source.addresses.front();
    const auto& destination = spec.destination.addresses.front();
    const bool ports = source.port != 0 || destination.port != 0;
    if (ports && !carries_ports(spec.protocol) && !has_type_and_code(spec.protocol) && spec.protocol != gre)
        warn(spec.protocol_at, upper_protocol_name(spec.protocol) + " has no ports: no packet matches");
    const bool wrong_icmp = source.address.is_v6() ? spec.protocol == ip_proto::icmp
                                                   : spec.protocol == ip_proto::icmpv6;
    if (wrong_icmp)
        warn(spec.protocol_at, source.address.is_v6() ? "IPv6 has icmp6, not icmp: no packet matches"
                                                      : "IPv4 has icmp, not icmp6: no packet matches");
}

void Checker::check_end(const SelectorEnd& end)
{
    const auto& address = end.addresses.front().address;
    if (!end.prefix_length && address.is_unspecified())
        warn(end.offset, address.text() + " without a length is that one address; all addresses are " +
                             address.text() + "/0");
    const auto network = address.masked(end.prefix_length.value_or(static_cast<std::uint8_t>(address.bits())));
    if (network != address)
        warn(end.offset, address.text() + "/" + std::to_string(*end.prefix_length) +
                             " has bits beyond its length: the network is " + network.text());
}

void Checker::check_policy(const PolicySpec& spec)
{
    const auto& policy = spec.policy;
    if (!spec.has_action)
        return warn(spec.policy_at, "no action is given: 'discard' is taken");
    if (policy.type == IPSEC_POLICY_ENTRUST || policy.type == IPSEC_POLICY_BYPASS)
        return wrong(spec.policy_at, "'entrust' and 'bypass' are for sockets, not for the SPD");
    if (policy.type == IPSEC_POLICY_IPSEC && policy.requests.empty())
        return wrong(spec.policy_at, "'ipsec' needs a rule, such as esp/transport//require");
    if (policy.type != IPSEC_POLICY_IPSEC && !policy.requests.empty())
        warn(spec.policy_at, "the rules have no effect: the action is not 'ipsec'");
    for (const auto& request : policy.requests)
        if (request.level == Level::unique && request.reqid > IPSEC_MANUAL_REQID_MAX)
            warn(spec.policy_at, "unique:" + std::to_string(request.reqid) + ": ids above " +
                                     std::to_string(IPSEC_MANUAL_REQID_MAX) + " are the host's to give");
}

Checker::EndKey Checker::key_of(const SelectorEnd& end)
{
    const auto& endpoint = end.addresses.front();
    const auto length = end.prefix_length.value_or(static_cast<std::uint8_t>(endpoint.address.bits()));
    return {endpoint.address.masked(length), length, endpoint.port};
}

void Checker::track_policy(const Command& command, const PolicySpec& spec)
{
    if (spec.source.addresses.empty() || spec.destination.addresses.empty())
        return;
    const PolicyKey key{spec.policy.direction, key_of(spec.source), key_of(spec.destination), spec.protocol};
    if (command.verb == Verb::spd_erase) {
        policies_.erase(key);
    } else {
        const auto [first, fresh] = policies_.try_emplace(key, command.offset);
        if (!fresh && command.verb == Verb::spd_add)
            warn(command.offset, "this selector is taken: " + line_of(first->second) + " adds a policy with it");
    }
}

}  // namespace

CheckReport check_script(const Source& source, const ParseOptions& options, const Offers& offers)
{
    CheckReport report;
    Checker checker(source, offers, report);
    for (Parser parser(source, options);;) {
        const auto command = parser.next();
        if (command && (!*command || (*command)->verb == Verb::quit))
            break;
        if (command)
            checker.check(**command);
        else
            checker.error(command.error());
        if (!command && !parser.recover())
            break;
    }
    const auto by_place = [](const Diagnostic& a, const Diagnostic& b) {
        return std::tie(a.offset, a.text) < std::tie(b.offset, b.text);
    };
    std::ranges::sort(report.errors, by_place);
    std::ranges::sort(report.warnings, by_place);
    return report;
}

}  // namespace latchkey::setkey
