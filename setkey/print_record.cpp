// SPDX-License-Identifier: BSD-2-Clause
// -v and -x: a record field by field, in the manner of kdebug_sadb(). What is no proper message is shown as far as it
// can be read.
#include "setkey/print.hpp"
#include "setkey/text.hpp"

#include <array>
#include <cinttypes>

namespace latchkey::setkey {

namespace {

void append_text(std::string& out, const SaExt& sa)
{
    put(out, "sadb_sa{ spi=%" PRIu32 " replay=%u state=%u\n  auth=%u encrypt=%u flags=0x%08" PRIx32 " }\n", sa.spi,
        sa.replay, sa.state, sa.auth, sa.encrypt, sa.flags);
}

void append_text(std::string& out, const Lifetime& lifetime)
{
    put(out, "sadb_lifetime{ alloc=%" PRIu32 ", bytes=%llu\n  addtime=%llu, usetime=%llu }\n", lifetime.allocations,
        wide(lifetime.bytes), wide(lifetime.addtime), wide(lifetime.usetime));
}

void append_text(std::string& out, const AddressExt& address)
{
    put(out, "sadb_address{ proto=%u prefixlen=%u }\n", address.protocol, address.prefix_length);
    put(out, "sockaddr{ %s port=%u scope=%" PRIu32 " }\n", address.endpoint.address.text().c_str(),
        address.endpoint.port, address.endpoint.scope);
}

void append_text(std::string& out, const KeyExt& key)
{
    put(out, "sadb_key{ bits=%u }\n", key.bits);
}

void append_text(std::string& out, const IdentityExt& identity)
{
    put(out, "sadb_ident{ type=%u id=%llu\n  '", identity.type, wide(identity.id));
    for (const char c : identity.text)
        out += c >= 0x20 && c < 0x7f ? c : '.';
    out += "' }\n";
}

void append_text(std::string& out, const ProposalExt& proposal)
{
    put(out, "sadb_prop{ replay=%u\n", proposal.replay);
    for (const auto& c : proposal.combinations)
        put(out, "sadb_comb{ auth=%u encrypt=%u flags=0x%04x\n  auth_minbits=%u auth_maxbits=%u encrypt_minbits=%u "
                 "encrypt_maxbits=%u }\n",
            c.auth, c.encrypt, c.flags, c.auth_min, c.auth_max, c.encrypt_min, c.encrypt_max);
    out += "}\n";
}

void append_text(std::string& out, const std::vector<SupportedAlgorithm>& supported)
{
    out += "sadb_sup{\n";
    for (const auto& row : supported)
        put(out, "  { id=%u ivlen=%u min=%u max=%u }\n", row.id, row.iv, row.min_bits, row.max_bits);
    out += "}\n";
}

void append_text(std::string& out, const SpiRangeExt& range)
{
    put(out, "sadb_spirange{ min=0x%08" PRIx32 " max=0x%08" PRIx32 " }\n", range.min, range.max);
}

void append_text(std::string& out, const Sa2Ext& sa2)
{
    put(out, "sadb_x_sa2{ mode=%u reqid=%" PRIu32 " sequence=%" PRIu32 " }\n", sa2.mode, sa2.reqid, sa2.sequence);
}

void append_text(std::string& out, const PolicyExt& policy)
{
    put(out, "sadb_x_policy{ type=%u dir=%u id=%" PRIx32 " priority=%" PRIu32 " }\n", policy.type, policy.direction,
        policy.id, policy.priority);
    for (const auto& request : policy.requests) {
        put(out, " { proto=%u mode=%u level=%u reqid=%" PRIu32, request.protocol, static_cast<unsigned>(request.mode),
            static_cast<unsigned>(request.level), request.reqid);
        if (request.tunnel_source.family() != Family::none)
            out += ' ' + request.tunnel_source.text() + '-' + request.tunnel_destination.text();
        out += " }\n";
    }
}

void append_text(std::string& out, std::uint8_t natt_type)
{
    put(out, "sadb_x_nat_t_type{ type=%u }\n", natt_type);
}

void append_text(std::string& out, std::uint16_t natt_port)
{
    put(out, "sadb_x_nat_t_port{ port=%u }\n", natt_port);
}

// One extension alone: wrapped as a message of its own, so that the codec reads it.
template <class... Member> bool append_first(std::string& out, const Message& m, Member... member)
{
    bool done = false;
    const auto one = [&](const auto& value) {
        if (value && !done) {
            append_text(out, *value);
            done = true;
        }
    };
    (one(m.*member), ...);
    return done;
}

void append_extension(std::string& out, Bytes header, Bytes extension)
{
    std::vector<std::uint8_t> alone(header.begin(), header.end());
    alone.insert(alone.end(), extension.begin(), extension.end());
    wire::Writer(alone, wire::Order::host).put_at<std::uint16_t>(4, static_cast<std::uint16_t>(alone.size() / 8));
    const auto message = Message::parse(alone);
    if (!message) {
        out.append("malformed: ").append(message.error().reason).append("\n");
        return;
    }
    append_first(out, *message, &Message::sa, &Message::current, &Message::hard, &Message::soft, &Message::source,
                 &Message::destination, &Message::proxy, &Message::auth_key, &Message::cipher_key,
                 &Message::source_identity, &Message::destination_identity, &Message::proposal,
                 &Message::supported_auth, &Message::supported_encrypt, &Message::spi_range, &Message::policy,
                 &Message::sa2, &Message::natt_type, &Message::natt_source_port, &Message::natt_destination_port,
                 &Message::natt_original);
}

}  // namespace

void append_record(std::string& out, Bytes record)
{
    constexpr std::size_t header_size = 16;
    auto header = peek_header(record);
    // What X_PROMISC wraps is shown in its place.
    while (header && header->type == SADB_X_PROMISC && record.size() > header_size) {
        record = record.subspan(header_size);
        header = peek_header(record);
    }
    if (!header)
        return put(out, "a record of %zu bytes is no PF_KEY message\n", record.size());
    put(out, "sadb_msg{ version=%u type=%u errno=%u satype=%u\n  len=%u reserved=0 seq=%" PRIu32 " pid=%" PRIu32 " }\n",
        header->version, header->type, header->error, header->satype, header->units, header->seq, header->pid);
    auto rest = record.subspan(header_size);
    while (!rest.empty()) {
        wire::Reader in(rest, wire::Order::host);
        const std::size_t units = in.get<std::uint16_t>();
        const auto type = in.get<std::uint16_t>();
        if (!in.ok() || units == 0 || units * 8 > rest.size()) {
            out += "malformed: the length of an extension is wrong\n";
            return;
        }
        put(out, "sadb_ext{ len=%zu type=%u }\n", units, type);
        append_extension(out, record.first(header_size), rest.first(units * 8));
        rest = rest.subspan(units * 8);
    }
}

void append_hex_dump(std::string& out, Bytes record)
{
    for (std::size_t i = 0; i < record.size(); ++i)
        put(out, "%s%02x", i == 0 ? "" : i % 32 == 0 ? "\n" : i % 4 == 0 ? " " : "", record[i]);
    out += '\n';
}

}  // namespace latchkey::setkey
