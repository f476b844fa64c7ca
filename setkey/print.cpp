// SPDX-License-Identifier: BSD-2-Clause
// Spaces at the ends of lines are part of the traditional formats.
#include "setkey/print.hpp"

#include "pfkey/policy_string.hpp"
#include "setkey/command.hpp"
#include "setkey/protocols.hpp"
#include "setkey/text.hpp"

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstring>
#include <ctime>
#include <net/if.h>

namespace latchkey::setkey {

std::string address_text(const Endpoint& endpoint)
{
    auto out = endpoint.address.text();
    if (endpoint.scope != 0) {
        std::array<char, IF_NAMESIZE> name{};
        out += '%';
        out += if_indextoname(endpoint.scope, name.data()) != nullptr ? std::string(name.data())
                                                                      : std::to_string(endpoint.scope);
    }
    return out;
}

std::string_view mode_text(std::uint8_t mode)
{
    for (const auto& row : mode_words)
        if (static_cast<std::uint8_t>(row.mode) == mode)
            return row.word;
    return "unknown";
}

std::string algorithm_text(AlgorithmKind kind, std::uint8_t id)
{
    const auto* row = algorithm_by_id(kind, id);
    return row != nullptr ? std::string(row->name) : std::to_string(id);
}

std::string_view state_text(std::uint8_t state)
{
    static constexpr std::array<std::string_view, 4> names{"larval", "mature", "dying", "dead"};
    return state < names.size() ? names[state] : "unknown";
}

std::string printable(std::string_view text)
{
    std::string out(text);
    std::ranges::replace_if(out, [](char c) { return c < 0x20 || c >= 0x7f; }, '.');
    return out;
}

void append_hex(std::string& out, Bytes bytes)
{
    static constexpr std::string_view digits = "0123456789abcdef";
    for (const auto byte : bytes) {
        out += digits[byte >> 4];
        out += digits[byte & 0xf];
    }
}

namespace {

std::string in_brackets(std::string_view text)
{
    return '[' + std::string(text) + ']';
}

// --oneline: white space of any length becomes one blank, and the entry ends where it should.
void fold(std::string& out, std::size_t from)
{
    auto to = from;
    for (auto at = from; at < out.size(); ++at) {
        const bool blank = out[at] == ' ' || out[at] == '\t' || out[at] == '\n';
        if (blank && (to == from || out[to - 1] == ' '))
            continue;
        out[to++] = blank ? ' ' : out[at];
    }
    out.resize(to > from && out[to - 1] == ' ' ? to - 1 : to);
    out += '\n';
}

// A missing lifetime counts as one without limits.
const Lifetime& lifetime_or_none(const std::optional<Lifetime>& lifetime)
{
    static const Lifetime none;
    return lifetime ? *lifetime : none;
}

std::uint64_t age(const Lifetime& current, std::int64_t now)
{
    const auto made = static_cast<std::int64_t>(current.addtime);
    return made == 0 || now < made ? 0 : static_cast<std::uint64_t>(now - made);
}

}  // namespace

std::string time_text(std::uint64_t seconds)
{
    if (seconds == 0)
        return std::string(20, ' ');
    const auto when = static_cast<std::time_t>(seconds);
    std::tm fields{};
    std::array<char, 64> text{};
    if (localtime_r(&when, &fields) == nullptr)
        return std::to_string(seconds);
    std::strftime(text.data(), text.size(), "%b %e %H:%M:%S %Y", &fields);
    return text.data();
}

// ---- security associations ------------------------------------------------------------------------------------------

namespace {

void append_ends(std::string& out, const Message& m, const PrintOptions& options)
{
    const auto end = [&](const AddressExt& address, const std::optional<std::uint16_t>& natt_port) {
        out += address_text(address.endpoint);
        if (m.natt_type && natt_port)
            out += in_brackets(std::to_string(*natt_port));
        else if (options.ports && address.endpoint.port != 0)
            out += in_brackets(std::to_string(address.endpoint.port));
        out += ' ';
    };
    end(*m.source, m.natt_source_port);
    end(*m.destination, m.natt_destination_port);
    out += '\n';
}

// Groups of four bytes, eight of them to a line; --oneline: all in one piece.
void append_key_line(std::string& out, std::string_view label, const std::string& algorithm, Bytes key, bool one_piece)
{
    out.append("\t").append(label).append(": ").append(algorithm).append(" ");
    if (one_piece)
        append_hex(out, key);
    else
        for (std::size_t i = 0; i < key.size(); i += 4) {
            out += i != 0 && i % 32 == 0 ? "\n " : " ";
            append_hex(out, key.subspan(i, std::min<std::size_t>(4, key.size() - i)));
        }
    out += '\n';
}

void append_transforms(std::string& out, const Message& m, bool one_line)
{
    if (m.satype == SADB_X_SATYPE_IPCOMP)
        out += "\tC: " + algorithm_text(AlgorithmKind::compression, m.sa->encrypt) + ' ';   // and no new line
    else if (m.satype == SADB_SATYPE_ESP && m.cipher_key)
        append_key_line(out, "E", algorithm_text(AlgorithmKind::cipher, m.sa->encrypt), m.cipher_key->key, one_line);
    if (m.auth_key)
        append_key_line(out, "A", algorithm_text(AlgorithmKind::auth, m.sa->auth), m.auth_key->key, one_line);
}

void append_lifetimes(std::string& out, const Message& m, std::int64_t now)
{
    const auto& current = *m.current;
    const auto& hard = lifetime_or_none(m.hard);
    const auto& soft = lifetime_or_none(m.soft);
    out += "\tcreated: " + time_text(current.addtime);
    out += "\tcurrent: " + time_text(static_cast<std::uint64_t>(now)) + '\n';
    put(out, "\tdiff: %llu(s)\thard: %llu(s)\tsoft: %llu(s)\n", wide(age(current, now)), wide(hard.addtime),
        wide(soft.addtime));
    out += "\tlast: " + time_text(current.usetime);
    put(out, "\thard: %llu(s)\tsoft: %llu(s)\n", wide(hard.usetime), wide(soft.usetime));
    put(out, "\tcurrent: %llu(bytes)\thard: %llu(bytes)\tsoft: %llu(bytes)\n", wide(current.bytes), wide(hard.bytes),
        wide(soft.bytes));
    put(out, "\tallocated: %" PRIu32 "\thard: %" PRIu32 "\tsoft: %" PRIu32 "\n", current.allocations, hard.allocations,
        soft.allocations);
}

// What every dumped SA must have; false: the reason is printed instead.
bool sa_is_complete(std::string& out, const Message& m)
{
    const auto* missing = !m.sa                           ? "no SA extension.\n"
                          : !m.source || !m.destination   ? "no ADDRESS extension.\n"
                          : !m.sa2                        ? "no SA2 extension.\n"
                          : !m.current                    ? "no LIFETIME_CURRENT extension.\n"
                                                          : nullptr;
    if (missing != nullptr)
        out += missing;
    return missing == nullptr;
}

}  // namespace

void append_sa(std::string& out, const Message& m, const PrintOptions& options)
{
    if (!sa_is_complete(out, m))
        return;
    const auto begin = out.size();
    append_ends(out, m, options);
    out.append("\t").append(m.natt_type ? "esp-udp" : satype_name(m.satype)).append(" mode=").append(
        mode_text(m.sa2->mode));
    put(out, " spi=%" PRIu32 "(0x%08" PRIx32 ") reqid=%" PRIu32 "(0x%08" PRIx32 ")\n", m.sa->spi, m.sa->spi,
        m.sa2->reqid, m.sa2->reqid);
    if (m.natt_type && m.natt_original)
        out += "\tNAT OA=" + address_text(m.natt_original->endpoint) + '\n';
    append_transforms(out, m, options.one_line);
    put(out, "\tseq=0x%08" PRIx32 " replay=%" PRIu32 " flags=0x%08" PRIx32 " state=", m.sa2->sequence,
        m.sa_replay.value_or(m.sa->replay), m.sa->flags);
    out.append(state_text(m.sa->state)).append(" \n");
    append_lifetimes(out, m, options.now);
    // The reference count is the reserved field of the header: no host that speaks the Linux layout fills it.
    put(out, "\tsadb_seq=%" PRIu32 " pid=%" PRIu32 " refcnt=0\n", m.seq, m.pid);
    if (options.one_line)
        fold(out, begin);
}

void append_short_heading(std::string& out)
{
    out += "time p    s spi      ltime    src -> dst\n";
}

void append_short_sa(std::string& out, const Message& m, const PrintOptions& options)
{
    if (!sa_is_complete(out, m))
        return;
    const auto now = static_cast<std::time_t>(options.now);
    std::tm fields{};
    localtime_r(&now, &fields);
    static constexpr std::string_view states = "LMDd";
    put(out, "%02d%02d %-4.*s %c %08" PRIx32 " %3llu/%-4llu ", fields.tm_hour, fields.tm_min,
        static_cast<int>(satype_name(m.satype).size()), satype_name(m.satype).data(),
        m.sa->state < states.size() ? states[m.sa->state] : '?', m.sa->spi, wide(age(*m.current, options.now)),
        wide(lifetime_or_none(m.hard).addtime));
    out += address_text(m.source->endpoint) + " -> " + address_text(m.destination->endpoint) + '\n';
}

// ---- policies -------------------------------------------------------------------------------------------------------

bool shows_ports(std::uint8_t protocol)
{
    return !has_type_and_code(protocol) && protocol != gre;
}

namespace {

std::string selector_text(const AddressExt& end)
{
    auto out = address_text(end.endpoint);
    if (end.prefix_length != end.endpoint.address.bits())
        out += '/' + std::to_string(end.prefix_length);
    if (shows_ports(end.protocol))
        out += in_brackets(end.endpoint.port == 0 ? "any" : std::to_string(end.endpoint.port));
    return out + ' ';
}

// The protocol, and what stands in its port fields when those are no ports.
std::string upper_text(const AddressExt& source, const AddressExt& destination)
{
    const auto protocol = source.protocol;
    auto out = upper_protocol_name(protocol);
    const unsigned a = source.endpoint.port, b = destination.endpoint.port;
    if (a == 0 && b == 0)
        return out;
    if (has_type_and_code(protocol))
        out += ' ' + std::to_string(a) + ',' + std::to_string(b);
    else if (protocol == gre)
        out += ' ' + std::to_string(a << 16 | b);
    return out;
}

}  // namespace

bool is_socket_policy(const Message& m)
{
    return !m.source || !m.destination;
}

void append_policy(std::string& out, const Message& m, const PrintOptions& options)
{
    if (!m.policy) {
        out += "no X_POLICY extension.\n";
        return;
    }
    const auto begin = out.size();
    if (is_socket_policy(m))
        // Linux' ids tell: three bits of direction, and those of a socket begin at 3.
        out += m.policy->id % 8 >= 3 ? "(per-socket policy)\n" : "(no selector, probably per-socket policy)\n";
    else
        out += selector_text(*m.source) + selector_text(*m.destination) + upper_text(*m.source, *m.destination) + '\n';
    out += '\t' + policy_text(*m.policy, "\n\t", options.ports) + '\n';
    const auto& current = lifetime_or_none(m.current);
    const auto& hard = lifetime_or_none(m.hard);
    out += "\tcreated: " + time_text(current.addtime) + "  lastused: " + time_text(current.usetime) + '\n';
    put(out, "\tlifetime: %llu(s) validtime: %llu(s)\n", wide(hard.addtime), wide(hard.usetime));
    put(out, "\tspid=%" PRIu32 " seq=%" PRIu32 " pid=%" PRIu32 "\n\trefcnt=0\n", m.policy->id, m.seq, m.pid);
    if (options.one_line)
        fold(out, begin);
}

// ---- one line per message -------------------------------------------------------------------------------------------

namespace {

bool is_about_policies(std::uint8_t type)
{
    return (type >= SADB_X_SPDUPDATE && type <= SADB_X_SPDDELETE2) || type == SADB_X_MIGRATE;
}

// What it is about: policies by their selectors, associations by their ends.
void append_subject(std::string& out, const Message& m)
{
    if (!m.source || !m.destination)
        return;
    if (is_about_policies(m.type)) {
        out += ' ' + selector_text(*m.source) + "-> " + selector_text(*m.destination) +
               upper_text(*m.source, *m.destination);
        return;
    }
    const auto end = [&](const AddressExt& address, const std::optional<std::uint16_t>& natt_port) {
        return address_text(address.endpoint) + (natt_port ? in_brackets(std::to_string(*natt_port)) : "");
    };
    out += ' ' + end(*m.source, m.natt_source_port) + " -> " + end(*m.destination, m.natt_destination_port);
}

void append_details(std::string& out, const Message& m)
{
    if (m.sa)
        put(out, " spi=0x%08" PRIx32, m.sa->spi);
    else if (m.spi_range)
        put(out, " spi=0x%08" PRIx32 "-0x%08" PRIx32, m.spi_range->min, m.spi_range->max);
    if (m.sa2)
        out.append(" mode=").append(mode_text(m.sa2->mode));
    if (m.sa2 && m.sa2->reqid != 0)
        put(out, " reqid=%" PRIu32, m.sa2->reqid);
    if (m.type == SADB_EXPIRE)
        out += m.hard ? " hard" : " soft";
    if (m.policy)
        out += ' ' + policy_text(*m.policy, " ");
    if (m.policy && m.policy->id != 0)
        put(out, " spid=%" PRIu32, m.policy->id);
}

}  // namespace

Bytes unwrapped(Bytes record)
{
    constexpr std::size_t header_size = 16;
    for (auto header = peek_header(record);
         header && header->type == SADB_X_PROMISC && record.size() > header_size; header = peek_header(record))
        record = record.subspan(header_size);
    return record;
}

void append_summary(std::string& out, Bytes record)
{
    record = unwrapped(record);
    const auto header = peek_header(record);
    if (!header)
        return put(out, "a record of %zu bytes is no PF_KEY message\n", record.size());
    out.append(message_name(header->type));
    if (header->satype != SADB_SATYPE_UNSPEC && header->type != SADB_X_PROMISC)
        out.append(" ").append(satype_name(header->satype));
    const auto message = Message::parse(record);
    if (message) {
        append_subject(out, *message);
        append_details(out, *message);
    }
    put(out, " seq=%" PRIu32 " pid=%" PRIu32, header->seq, header->pid);
    if (header->error != 0)
        out.append(": ").append(std::strerror(header->error));
    if (message && message->reason && !message->reason->empty())
        out.append(" (").append(printable(*message->reason)).append(")");
    if (!message)
        out.append(": malformed: ").append(message.error().reason);
    out += '\n';
}

}  // namespace latchkey::setkey
