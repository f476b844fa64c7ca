// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/sa_rules.hpp"

#include <algorithm>

namespace latchkey {

namespace {

constexpr std::uint32_t max_replay_window = 4096;   // packets; bounds the memory of an SA
constexpr std::size_t max_identity = 1024;          // bytes, likewise

constexpr std::uint32_t unsupported_flags = SADB_X_EXT_OLD | SADB_X_EXT_IV4B | SADB_X_EXT_DERIV | SADB_X_SAFLAGS_ESN;
constexpr std::uint32_t known_flags = unsupported_flags | SADB_X_EXT_CYCSEQ | SADB_X_EXT_RAWCPI | SADB_X_EXT_PMASK |
                                      SADB_SAFLAGS_NOPMTUDISC | SADB_SAFLAGS_DECAP_DSCP | SADB_SAFLAGS_NOECN;

Result<void> check_flags(std::uint32_t flags)
{
    if ((flags & ~known_flags) != 0)
        return fail(Errc::bad_value, "sadb_sa_flags has a bit that has no meaning");
    if ((flags & SADB_X_SAFLAGS_ESN) != 0)
        return fail(Errc::unsupported, "extended sequence numbers are not offered");
    if ((flags & unsupported_flags) != 0)
        return fail(Errc::unsupported, "the old formats of RFC 1826 and RFC 1827 are not offered");
    return {};
}

Result<void> check_unsupported_extensions(const Message& m)
{
    if (m.natt_type || m.natt_source_port || m.natt_destination_port || m.natt_original)
        return fail(Errc::unsupported, "NAT traversal is not offered");
    if (m.sensitivity || m.security_context)
        return fail(Errc::unsupported, "security labels are not offered");
    if (m.new_source || m.new_destination)
        return fail(Errc::unsupported, "moving an SA to new addresses is not offered");
    return {};
}

Result<const Algorithm*> offered_algorithm(AlgorithmKind kind, unsigned id)
{
    const Algorithm* row = algorithm_by_id(kind, id);
    if (row == nullptr)
        return fail(Errc::unsupported, "no algorithm has this number", ENOSYS);
    if (!row->offered())
        return fail(Errc::unsupported, "the algorithm is known, but not offered by this host");
    return row;
}

Result<SecretBytes> key_for(const Algorithm& row, const std::optional<KeyExt>& key, std::string_view missing)
{
    if (!key && row.key_min != 0)
        return fail(Errc::bad_value, missing);
    if (!row.key_bits_ok(key ? key->bits : 0))
        return fail(Errc::bad_value, "the algorithm has no keys of this length");
    return SecretBytes(key ? key->key : Bytes{});
}

Result<void> set_authentication(const Message& m, Sa& sa)
{
    // SADB_X_AALG_NULL says the same as no algorithm: ESP without an ICV, or with the one of a combined mode.
    const bool none = m.sa->auth == SADB_AALG_NONE || m.sa->auth == SADB_X_AALG_NULL;
    if (none) {
        if (m.auth_key && m.auth_key->bits != 0)
            return fail(Errc::bad_value, "an authentication key came without an algorithm");
        return {};
    }
    if (sa.cipher->kind == AlgorithmKind::aead)
        return fail(Errc::bad_value, "a combined mode takes no authentication algorithm");
    const auto row = offered_algorithm(AlgorithmKind::auth, m.sa->auth);
    if (!row)
        return std::unexpected(row.error());
    auto key = key_for(**row, m.auth_key, "the authentication algorithm needs KEY_AUTH");
    if (!key)
        return std::unexpected(key.error());
    sa.auth = *row;
    sa.auth_key = std::move(*key);
    return {};
}

Result<void> set_esp_algorithms(const Message& m, Sa& sa)
{
    if (m.sa->encrypt == SADB_EALG_NONE)
        return fail(Errc::bad_value, "ESP needs an encryption algorithm (null is one)");
    const auto row = offered_algorithm(AlgorithmKind::cipher, m.sa->encrypt);
    if (!row)
        return std::unexpected(row.error());
    auto key = key_for(**row, m.cipher_key, "the encryption algorithm needs KEY_ENCRYPT");
    if (!key)
        return std::unexpected(key.error());
    sa.cipher = *row;
    sa.cipher_key = std::move(*key);
    if (auto set = set_authentication(m, sa); !set)
        return set;
    if (sa.cipher->primitive == Primitive::null && sa.auth == nullptr)   // RFC 4303 §3.2
        return fail(Errc::bad_value, "ESP must encrypt or authenticate: both algorithms are null");
    return {};
}

Result<void> set_identity(const std::optional<IdentityExt>& from, std::optional<Identity>& to)
{
    if (!from)
        return {};
    if (from->text.size() > max_identity)
        return fail(Errc::bad_value, "an identity has more than 1024 bytes");
    to = Identity{from->type, from->id, std::string(from->text)};
    return {};
}

Result<void> set_replay_window(const Message& m, Sa& sa)
{
    const std::uint32_t packets = m.sa_replay.value_or(m.sa->replay);
    if (packets > max_replay_window)
        return fail(Errc::bad_value, "the replay window has more than 4096 packets");
    sa.replay = ReplayWindow(packets);
    return {};
}

Result<void> check_header(const Message& m, std::uint8_t protocol)
{
    const auto& limits = sa_protocol(protocol);
    if (m.sa->spi < limits.spi_min || m.sa->spi > limits.spi_max)
        return fail(Errc::bad_value, "SPIs 0 to 255 are reserved, CPIs have 16 bits");
    if (m.sa->state != SADB_SASTATE_LARVAL && m.sa->state != SADB_SASTATE_MATURE)
        return fail(Errc::bad_value, "sadb_sa_state must be larval (0) or mature (1)");
    if (m.sa2 && m.sa2->mode > IPSEC_MODE_TUNNEL)
        return fail(Errc::bad_value, "the mode is none of any, transport, tunnel");
    return check_flags(m.sa->flags);
}

bool same_key(const std::optional<KeyExt>& given, const SecretBytes& have)
{
    return !given || std::ranges::equal(given->key, have.bytes());
}

}  // namespace

Result<void> check_offered(std::uint8_t protocol)
{
    if (sa_protocol(protocol).offered)
        return {};
    return fail(Errc::unsupported, protocol == ip_proto::ah ? "AH is not offered" : "IPComp is not offered");
}

Result<void> check_addresses(const AddressExt& source, const AddressExt& destination)
{
    const Address& a = source.endpoint.address;
    const Address& b = destination.endpoint.address;
    if (a.family() == Family::none || b.family() == Family::none)
        return fail(Errc::bad_family, "an address is neither IPv4 nor IPv6");
    if (a.family() != b.family())
        return fail(Errc::bad_value, "source and destination are of different families");
    if (source.prefix_length > a.bits() || destination.prefix_length > b.bits())
        return fail(Errc::bad_value, "a prefix is longer than the address");
    if (source.protocol != destination.protocol)
        return fail(Errc::bad_value, "source and destination name different protocols");
    return {};
}

Result<std::unique_ptr<Sa>> build_sa(const Message& m, std::uint8_t protocol)
{
    auto sa = std::make_unique<Sa>();
    sa->spi = m.sa->spi;
    sa->protocol = protocol;
    sa->mode = static_cast<Mode>(m.sa2 ? m.sa2->mode : IPSEC_MODE_ANY);
    sa->reqid = m.sa2 ? m.sa2->reqid : 0;
    sa->state = SaState::mature;
    sa->source = m.source->endpoint.address;
    sa->destination = m.destination->endpoint.address;
    sa->flags = m.sa->flags;
    sa->hard = m.hard.value_or(Lifetime{});
    sa->soft = m.soft.value_or(Lifetime{});
    sa->message_seq = m.seq;
    sa->message_pid = m.pid;
    if (m.proxy && m.proxy->endpoint.address.family() != Family::none)
        sa->proxy = Prefix{m.proxy->endpoint.address, m.proxy->prefix_length};

    auto checked = check_offered(protocol);
    for (const auto step :
         {+[](const Message&in, Sa&to) { return check_header(in, to.protocol); },
          +[](const Message&in, Sa&) { return check_addresses(*in.source, *in.destination); },
          +[](const Message&in, Sa&) { return check_unsupported_extensions(in); }, &set_esp_algorithms,
          &set_replay_window,
          +[](const Message&in, Sa&to) { return set_identity(in.source_identity, to.source_identity); },
          +[](const Message&in, Sa&to) { return set_identity(in.destination_identity, to.destination_identity); }})
        if (checked)
            checked = step(m, *sa);
    if (!checked)
        return std::unexpected(checked.error());
    return sa;
}

Result<void> check_update_of_mature(const Message& m, const Sa& sa)
{
    if (auto checked = check_unsupported_extensions(m); !checked)
        return checked;
    if (!same_key(m.cipher_key, sa.cipher_key) || !same_key(m.auth_key, sa.auth_key))
        return fail(Errc::bad_value, "the keys of a mature SA cannot change: delete it and add another");
    const bool same_cipher = m.sa->encrypt == 0 || (sa.cipher != nullptr && m.sa->encrypt == sa.cipher->sadb_id);
    const bool same_auth = m.sa->auth == 0 || m.sa->auth == SADB_X_AALG_NULL ||
                           (sa.auth != nullptr && m.sa->auth == sa.auth->sadb_id);
    if (!same_cipher || !same_auth)
        return fail(Errc::bad_value, "the algorithms of a mature SA cannot change: delete it and add another");
    if (m.sa2 && ((m.sa2->mode != IPSEC_MODE_ANY && m.sa2->mode != static_cast<std::uint8_t>(sa.mode)) ||
                  (m.sa2->reqid != 0 && m.sa2->reqid != sa.reqid)))
        return fail(Errc::bad_value, "mode and reqid of a mature SA cannot change");
    return {};
}

}  // namespace latchkey
