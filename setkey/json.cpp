// SPDX-License-Identifier: BSD-2-Clause
#include "setkey/json.hpp"

#include "pfkey/policy_string.hpp"
#include "pfkey/tables.hpp"
#include "setkey/json_parts.hpp"
#include "setkey/print.hpp"
#include "setkey/protocols.hpp"
#include "setkey/text.hpp"

#include <cinttypes>

namespace latchkey::setkey {

// ---- parts ----------------------------------------------------------------------------------------------------------

std::string hex_text(Bytes bytes)
{
    std::string out;
    append_hex(out, bytes);
    return out;
}

void append_json(std::string& out, const Lifetime& lifetime)
{
    JsonObject object(out);
    object.add("allocations", lifetime.allocations);
    object.add("bytes", lifetime.bytes);
    object.add("addtime", lifetime.addtime);
    object.add("usetime", lifetime.usetime);
}

void append_json(std::string& out, const IdentityExt& identity)
{
    static constexpr NamedNumber types[] = {{SADB_IDENTTYPE_PREFIX, "prefix"},
                                            {SADB_IDENTTYPE_FQDN, "fqdn"},
                                            {SADB_IDENTTYPE_USERFQDN, "userfqdn"},
                                            {SADB_X_IDENTTYPE_ADDR, "address"}};
    auto type = std::to_string(identity.type);
    for (const auto& row : types)
        if (row.number == identity.type)
            type = row.name;
    JsonObject object(out);
    object.add("type", type);
    object.add("id", identity.id);
    object.add("text", identity.text);
    if (!is_utf8(identity.text)) {
        const std::vector<std::uint8_t> bytes(identity.text.begin(), identity.text.end());
        object.add("hex", hex_text(bytes));
    }
}

namespace {

struct FlagWord {
    std::uint32_t bits;
    std::string_view word;
};

constexpr FlagWord flag_words[] = {
    {SADB_X_EXT_OLD, "old"},
    {SADB_X_EXT_IV4B, "iv4b"},
    {SADB_X_EXT_DERIV, "deriv"},
    {SADB_X_EXT_CYCSEQ, "cyclic-seq"},
    {SADB_X_EXT_RAWCPI, "raw-cpi"},
    {SADB_X_EXT_PRAND, "random-pad"},
    {SADB_X_EXT_PZERO, "zero-pad"},
    {SADB_X_SAFLAGS_ESN, "esn"},
    {SADB_SAFLAGS_NOPMTUDISC, "no-pmtu-discovery"},
    {SADB_SAFLAGS_DECAP_DSCP, "decap-dscp"},
    {SADB_SAFLAGS_NOECN, "no-ecn"},
};

}  // namespace

// Bits without a name stay together as a hexadecimal number.
void append_json_flags(std::string& out, std::uint32_t flags)
{
    std::vector<std::string> words;
    for (const auto& row : flag_words)
        if ((flags & row.bits) != 0) {
            words.emplace_back(row.word);
            flags &= ~row.bits;
        }
    if (flags != 0)
        put(words.emplace_back(), "0x%" PRIx32, flags);
    append_json_list(out, words, append_json_text);
}

// ---- associations ---------------------------------------------------------------------------------------------------

namespace {

void append_endpoint(std::string& out, const Endpoint& endpoint)
{
    JsonObject object(out);
    object.add("address", address_text(endpoint));
    object.add("port", endpoint.port);
}

void append_address(std::string& out, const AddressExt& address)
{
    append_endpoint(out, address.endpoint);
}

void append_algorithm(std::string& out, AlgorithmKind kind, std::uint8_t id, const std::optional<KeyExt>& key,
                      const JsonOptions& options)
{
    JsonObject object(out);
    object.add("algorithm", algorithm_text(kind, id));
    object.add("id", id);
    if (kind == AlgorithmKind::compression)
        return;
    object.add("key_bits", key ? key->bits : std::uint16_t{0});
    if (options.keys)
        object.add("key", hex_text(key ? key->key : Bytes{}));
}

void append_end(std::string& out, const std::optional<AddressExt>& end, const std::optional<std::uint16_t>& natt_port)
{
    Endpoint shown = end ? end->endpoint : Endpoint{};
    shown.port = natt_port.value_or(shown.port);
    append_endpoint(out, shown);
}

void add_transforms(JsonObject& object, const Message& m, const JsonOptions& options)
{
    const bool compresses = m.satype == SADB_X_SATYPE_IPCOMP;
    const auto transform = [&](std::string_view name, bool has, AlgorithmKind kind, std::uint8_t id,
                               const std::optional<KeyExt>& key) {
        has ? append_algorithm(object.member(name), kind, id, key, options) : object.add_null(name);
    };
    transform("encryption", !compresses && m.sa->encrypt != SADB_EALG_NONE, AlgorithmKind::cipher, m.sa->encrypt,
              m.cipher_key);
    transform("authentication", m.sa->auth != SADB_AALG_NONE, AlgorithmKind::auth, m.sa->auth, m.auth_key);
    transform("compression", compresses, AlgorithmKind::compression, m.sa->encrypt, std::nullopt);
}

void append_nat_traversal(std::string& out, const Message& m)
{
    constexpr std::uint8_t non_ike = 1, esp_in_udp = 2;   // as udp.h numbers them
    const auto number = [](std::string& to, auto value) { to += std::to_string(value); };
    JsonObject object(out);
    object.add("type", *m.natt_type == esp_in_udp ? "esp-udp"
                       : *m.natt_type == non_ike  ? "esp-udp-non-ike"
                                                  : std::to_string(*m.natt_type));
    object.add_if("source_port", m.natt_source_port, number);
    object.add_if("destination_port", m.natt_destination_port, number);
    object.add_if("original_source", m.natt_original, append_address);
    object.add_if("original_destination", m.natt_original_remote, append_address);
    object.add_if("fragment", m.natt_fragment, number);
}

// A missing lifetime is one without limits.
void append_lifetimes(std::string& out, const Message& m)
{
    JsonObject object(out);
    append_json(object.member("current"), m.current.value_or(Lifetime{}));
    append_json(object.member("hard"), m.hard.value_or(Lifetime{}));
    append_json(object.member("soft"), m.soft.value_or(Lifetime{}));
}

void add_sa(JsonObject& object, const Message& m, const JsonOptions& options)
{
    object.add("protocol", satype_name(m.satype));
    object.add("mode", mode_text(m.sa2 ? m.sa2->mode : std::uint8_t{IPSEC_MODE_ANY}));
    object.add("spi", m.sa->spi);
    object.add("reqid", m.sa2 ? m.sa2->reqid : 0u);
    object.add("state", state_text(m.sa->state));
    append_json_flags(object.member("flags"), m.sa->flags);
    object.add("flags_value", m.sa->flags);
    add_transforms(object, m, options);
    {
        JsonObject replay(object.member("replay"));
        replay.add("window", m.sa_replay.value_or(m.sa->replay));
        replay.add("sequence", m.sa2 ? m.sa2->sequence : 0u);
    }
    m.natt_type ? append_nat_traversal(object.member("nat_traversal"), m) : object.add_null("nat_traversal");
    append_lifetimes(object.member("lifetimes"), m);
}

}  // namespace

void append_json_sa(std::string& out, const Message& m, const JsonOptions& options)
{
    JsonObject object(out);
    append_end(object.member("source"), m.source, m.natt_source_port);
    append_end(object.member("destination"), m.destination, m.natt_destination_port);
    if (!m.sa)
        return;
    add_sa(object, m, options);
    object.add_if("proxy", m.proxy, append_address);
    {
        const auto identity = [](std::string& to, const IdentityExt& value) { append_json(to, value); };
        JsonObject identities(object.member("identities"));
        identities.add_if("source", m.source_identity, identity);
        identities.add_if("destination", m.destination_identity, identity);
    }
    object.add("seq", m.seq);
    object.add("pid", m.pid);
}

// ---- policies -------------------------------------------------------------------------------------------------------

namespace {

// The words of a policy, where policy_text() has them: "DIRECTION [prio ...] ACTION" and "PROTOCOL/MODE/ENDS/LEVEL".
struct RuleWords {
    std::string protocol, mode, level;
};

std::string_view up_to(std::string_view text, std::string_view stops)
{
    return text.substr(0, text.find_first_of(stops));
}

std::string direction_word(const PolicyExt& policy)
{
    return std::string(up_to(policy_text(policy, "\n"), " \n"));
}

std::string action_word(const PolicyExt& policy)
{
    const auto text = policy_text(policy, "\n");
    const auto head = up_to(text, "\n");
    return std::string(head.substr(head.rfind(' ') + 1));
}

RuleWords words_of_rule(const Request& request)
{
    PolicyExt alone;
    alone.type = IPSEC_POLICY_IPSEC;
    alone.direction = IPSEC_DIR_OUTBOUND;
    alone.requests = {request};
    const auto text = policy_text(alone, "\n");
    const auto rule = std::string_view(text).substr(text.find('\n') + 1);
    RuleWords out;
    out.protocol = up_to(rule, "/");
    out.mode = up_to(rule.substr(std::min(out.protocol.size() + 1, rule.size())), "/");
    out.level = up_to(rule.substr(rule.rfind('/') + 1), ":#");
    return out;
}

void append_rule(std::string& out, const Request& request)
{
    const auto words = words_of_rule(request);
    JsonObject object(out);
    object.add("protocol", words.protocol);
    object.add("mode", words.mode);
    object.add("level", words.level);
    object.add("reqid", request.reqid);
    const auto end = [&](std::string_view name, const Address& address, std::uint16_t port, std::uint32_t scope) {
        address.family() == Family::none ? object.add_null(name)
                                         : append_endpoint(object.member(name), {address, port, scope});
    };
    end("source", request.tunnel_source, request.tunnel_source_port, request.tunnel_source_scope);
    end("destination", request.tunnel_destination, request.tunnel_destination_port, request.tunnel_destination_scope);
}

}  // namespace

void add_policy_members(JsonObject& object, const PolicyExt& policy)
{
    object.add("direction", direction_word(policy));
    object.add("action", action_word(policy));
    object.add("id", policy.id);
    object.add("priority", policy.priority);
    append_json_list(object.member("rules"), policy.requests, append_rule);
}

namespace {

void append_selector(std::string& out, const AddressExt& end)
{
    JsonObject object(out);
    object.add("address", address_text(end.endpoint));
    object.add("prefix_length", end.prefix_length);
    shows_ports(end.protocol) && end.endpoint.port != 0 ? object.add("port", end.endpoint.port)
                                                      : object.add_null("port");
}

void append_upper(std::string& out, const AddressExt& end)
{
    JsonObject object(out);
    object.add("number", end.protocol);
    object.add("name", end.protocol == ip_proto::any ? "any" : upper_protocol_name(end.protocol));
}

// What stands in the place of the ports.
void add_protocol_details(JsonObject& object, const AddressExt& source, const AddressExt& destination)
{
    const std::uint32_t a = source.endpoint.port, b = destination.endpoint.port;
    const bool given = a != 0 || b != 0;
    if (given && has_type_and_code(source.protocol)) {
        JsonObject icmp(object.member("icmp"));
        icmp.add("type", a);
        icmp.add("code", b);
    } else {
        object.add_null("icmp");
    }
    given && source.protocol == gre ? object.add("gre_key", a << 16 | b) : object.add_null("gre_key");
}

void add_selectors(JsonObject& object, const Message& m)
{
    object.add_if("source", m.source, append_selector);
    object.add_if("destination", m.destination, append_selector);
    object.add_if("protocol", m.source, append_upper);
    add_protocol_details(object, m.source.value_or(AddressExt{}), m.destination.value_or(AddressExt{}));
}

}  // namespace

void append_json_policy(std::string& out, const Message& m)
{
    JsonObject object(out);
    add_policy_members(object, m.policy.value_or(PolicyExt{}));
    object.add("per_socket", is_socket_policy(m));
    add_selectors(object, m);
    const auto current = m.current.value_or(Lifetime{}), hard = m.hard.value_or(Lifetime{});
    object.add("created", current.addtime);
    object.add("last_used", current.usetime);
    object.add("lifetime", hard.addtime);
    object.add("validtime", hard.usetime);
    object.add("seq", m.seq);
    object.add("pid", m.pid);
}

}  // namespace latchkey::setkey
