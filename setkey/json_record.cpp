// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/tables.hpp"
#include "setkey/json.hpp"
#include "setkey/json_parts.hpp"
#include "setkey/print.hpp"
#include "setkey/text.hpp"

#include <cinttypes>
#include <concepts>

namespace latchkey::setkey {

namespace {

// One overload per kind of extension; `m` tells what the numbers mean.
void append_value(std::string& out, const SaExt& sa, const Message& m, const JsonOptions&)
{
    const bool compresses = m.satype == SADB_X_SATYPE_IPCOMP;
    JsonObject object(out);
    object.add("spi", sa.spi);
    object.add("replay", sa.replay);
    object.add("state", state_text(sa.state));
    object.add("encrypt", algorithm_text(compresses ? AlgorithmKind::compression : AlgorithmKind::cipher, sa.encrypt));
    object.add("auth", algorithm_text(AlgorithmKind::auth, sa.auth));
    append_json_flags(object.member("flags"), sa.flags);
    object.add("flags_value", sa.flags);
}

void append_value(std::string& out, const Lifetime& lifetime, const Message&, const JsonOptions&)
{
    append_json(out, lifetime);
}

void append_value(std::string& out, const AddressExt& address, const Message&, const JsonOptions&)
{
    JsonObject object(out);
    object.add("address", address_text(address.endpoint));
    object.add("prefix_length", address.prefix_length);
    object.add("port", address.endpoint.port);
    object.add("protocol", address.protocol);
}

void append_value(std::string& out, const KeyExt& key, const Message&, const JsonOptions& options)
{
    JsonObject object(out);
    object.add("bits", key.bits);
    if (options.keys)
        object.add("key", hex_text(key.key));
}

void append_value(std::string& out, const IdentityExt& identity, const Message&, const JsonOptions&)
{
    append_json(out, identity);
}

void append_value(std::string& out, const ProposalExt& proposal, const Message&, const JsonOptions&)
{
    JsonObject object(out);
    object.add("replay", proposal.replay);
    append_json_list(object.member("combinations"), proposal.combinations, [](std::string& to, const Combination& c) {
        JsonObject one(to);
        one.add("encrypt", algorithm_text(AlgorithmKind::cipher, c.encrypt));
        one.add("encrypt_min_bits", c.encrypt_min);
        one.add("encrypt_max_bits", c.encrypt_max);
        one.add("auth", algorithm_text(AlgorithmKind::auth, c.auth));
        one.add("auth_min_bits", c.auth_min);
        one.add("auth_max_bits", c.auth_max);
    });
}

void append_value(std::string& out, const std::vector<SupportedAlgorithm>& list, const Message&, const JsonOptions&)
{
    append_json_list(out, list, [](std::string& to, const SupportedAlgorithm& row) {
        JsonObject one(to);
        one.add("id", row.id);
        one.add("iv_bytes", row.iv);
        one.add("min_bits", row.min_bits);
        one.add("max_bits", row.max_bits);
    });
}

void append_value(std::string& out, const SpiRangeExt& range, const Message&, const JsonOptions&)
{
    JsonObject object(out);
    object.add("min", range.min);
    object.add("max", range.max);
}

void append_value(std::string& out, const Sa2Ext& sa2, const Message&, const JsonOptions&)
{
    JsonObject object(out);
    object.add("mode", mode_text(sa2.mode));
    object.add("reqid", sa2.reqid);
    object.add("sequence", sa2.sequence);
}

void append_value(std::string& out, const PolicyExt& policy, const Message&, const JsonOptions&)
{
    JsonObject object(out);
    add_policy_members(object, policy);
}

void append_value(std::string& out, std::unsigned_integral auto number, const Message&, const JsonOptions&)
{
    out += std::to_string(number);
}

void append_value(std::string& out, std::string_view text, const Message&, const JsonOptions&)
{
    append_json_text(out, text);
}

// PF_KEY does not look into it, and it may hold anything.
void append_value(std::string& out, Bytes opaque, const Message&, const JsonOptions& options)
{
    JsonObject object(out);
    object.add("size", opaque.size());
    if (options.keys)
        object.add("hex", hex_text(opaque));
}

std::string lower_case(std::string_view name)
{
    std::string out(name);
    for (char& c : out)
        c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    return out;
}

void add_extensions(JsonObject& object, const Message& m, const JsonOptions& options)
{
    const auto add = [&](const auto& row) {
        if (m.*row.member)
            append_value(object.member(lower_case(row.name)), *(m.*row.member), m, options);
    };
    std::apply([&](const auto&... row) { (add(row), ...); }, extensions);
}

}  // namespace

void append_json_record(std::string& out, Bytes record, std::int64_t microseconds, const JsonOptions& options)
{
    record = unwrapped(record);
    JsonObject object(out);
    if (microseconds >= 0)
        put(object.member("time"), "%" PRId64 ".%06" PRId64, microseconds / 1'000'000, microseconds % 1'000'000);
    const auto message = Message::parse(record);
    if (!message) {
        object.add("malformed", message.error().reason);
        object.add("size", record.size());
        if (options.keys)
            object.add("hex", hex_text(record));
        return;
    }
    object.add("message", message_name(message->type));
    object.add("type", message->type);
    const auto satype = satype_name(message->satype);
    object.add("satype", satype == "?" ? std::to_string(message->satype) : std::string(satype));
    object.add("errno", message->error);
    object.add("seq", message->seq);
    object.add("pid", message->pid);
    add_extensions(object, *message, options);
}

}  // namespace latchkey::setkey
