// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/sa_rules.hpp"

#include "pfkey/weak_keys.hpp"

#include <algorithm>

namespace latchkey {

namespace {

constexpr std::uint32_t max_replay_window = 4096;   // packets; bounds the memory of an SA
constexpr std::size_t max_identity = 1024;          // bytes, likewise
constexpr std::uint16_t natt_port = 4500;           // RFC 3948 §3.1
constexpr std::uint16_t min_natt_fragment = 68;     // bytes: no link is smaller (RFC 791 §3.2)
constexpr std::uint8_t encap_non_ike = 1, encap_esp_in_udp = 2;   // UDP_ENCAP_* of <netinet/udp.h>

constexpr std::uint32_t old_formats = SADB_X_EXT_OLD | SADB_X_EXT_IV4B | SADB_X_EXT_DERIV;
constexpr std::uint32_t known_flags = old_formats | SADB_X_EXT_CYCSEQ | SADB_X_EXT_RAWCPI | SADB_X_EXT_PMASK |
                                      SADB_X_SAFLAGS_ESN | SADB_SAFLAGS_NOPMTUDISC | SADB_SAFLAGS_DECAP_DSCP |
                                      SADB_SAFLAGS_NOECN;

Result<void> check_flags(std::uint32_t flags)
{
    if ((flags & ~known_flags) != 0)
        return fail(Errc::bad_value, "sadb_sa_flags has a bit that has no meaning");
    if ((flags & old_formats) != 0)
        return fail(Errc::unsupported, "the old formats of RFC 1826 and RFC 1827 are not offered");
    if ((flags & SADB_X_EXT_PMASK) == SADB_X_EXT_PMASK)
        return fail(Errc::bad_value, "padding is sequential, random or zero: PRAND and PZERO exclude each other");
    return {};
}

Result<void> check_labels(const Message& m)
{
    if (m.sensitivity || m.security_context)
        return fail(Errc::unsupported, "security labels are not offered");
    return {};
}

// ---- algorithms and keys ----------------------------------------------------------------------------------------

Result<const Algorithm*> offered_algorithm(AlgorithmKind kind, unsigned id, const AlgorithmSet& offered)
{
    const Algorithm* row = algorithm_by_id(kind, id);
    if (row == nullptr)
        return fail(Errc::unsupported, "no algorithm has this number", ENOSYS);
    if (!offers(offered, *row))
        return fail(Errc::unsupported, "the algorithm is known, but not offered by this host");
    return row;
}

Result<SecretBytes> key_for(const Algorithm& row, const std::optional<KeyExt>& key, std::string_view missing)
{
    if (!key && row.key_min != 0)
        return fail(Errc::bad_value, missing);
    if (!row.key_bits_ok(key ? key->bits : 0))
        return fail(Errc::bad_value, "the algorithm has no keys of this length");
    if (key)
        if (auto strong = check_weak_key(row.primitive, key->key); !strong)
            return std::unexpected(strong.error());
    return SecretBytes(key ? key->key : Bytes{});
}

bool names_no_authentication(const Message& m)
{
    return m.sa->auth == SADB_AALG_NONE || m.sa->auth == SADB_X_AALG_NULL;
}

bool has_key(const std::optional<KeyExt>& key)
{
    return key && key->bits != 0;   // setkey sends an empty one with null
}

Result<void> set_authentication(const Message& m, Sa& sa, const AlgorithmSet& offered)
{
    const auto row = offered_algorithm(AlgorithmKind::auth, m.sa->auth, offered);
    if (!row)
        return std::unexpected(row.error());
    auto key = key_for(**row, m.auth_key, "the authentication algorithm needs KEY_AUTH");
    if (!key)
        return std::unexpected(key.error());
    sa.auth = *row;
    sa.auth_key = std::move(*key);
    return {};
}

Result<void> set_esp_algorithms(const Message& m, Sa& sa, const AlgorithmSet& offered)
{
    if (m.sa->encrypt == SADB_EALG_NONE)
        return fail(Errc::bad_value, "ESP needs an encryption algorithm (null is one)");
    const auto row = offered_algorithm(AlgorithmKind::cipher, m.sa->encrypt, offered);
    if (!row)
        return std::unexpected(row.error());
    auto key = key_for(**row, m.cipher_key, "the encryption algorithm needs KEY_ENCRYPT");
    if (!key)
        return std::unexpected(key.error());
    sa.cipher = *row;
    sa.cipher_key = std::move(*key);

    // SADB_X_AALG_NULL says the same as no algorithm: ESP without an ICV, or with the one of a combined mode.
    if (!names_no_authentication(m)) {
        if (sa.cipher->kind == AlgorithmKind::aead)
            return fail(Errc::bad_value, "a combined mode takes no authentication algorithm");
        return set_authentication(m, sa, offered);
    }
    if (has_key(m.auth_key))
        return fail(Errc::bad_value, "an authentication key came without an algorithm");
    // Null alone protects nothing and RFC 4303 §3.2 forbids it, but KAME takes it and the BSDs' test suites rely on it.
    return {};
}

// Null is an algorithm here, as in KAME: whoever names it wants to see AH without cryptography. An encryption algorithm
// and its key mean nothing and are not kept: OpenIKED sends them, and Linux lets them pass (KAME: EINVAL).
Result<void> set_ah_algorithm(const Message& m, Sa& sa, const AlgorithmSet& offered)
{
    if (m.sa->auth == SADB_AALG_NONE)
        return fail(Errc::bad_value, "AH needs an authentication algorithm");
    return set_authentication(m, sa, offered);
}

Result<void> set_ipcomp_algorithm(const Message& m, Sa& sa, const AlgorithmSet& offered)
{
    if (!names_no_authentication(m) || has_key(m.auth_key) || has_key(m.cipher_key))
        return fail(Errc::bad_value, "IPComp takes neither an authentication algorithm nor keys");
    if (m.sa->encrypt == SADB_X_CALG_NONE)
        return fail(Errc::bad_value, "IPComp needs a compression algorithm, in the place of the encryption algorithm");
    const auto row = offered_algorithm(AlgorithmKind::compression, m.sa->encrypt, offered);
    if (!row)
        return std::unexpected(row.error());
    sa.cipher = *row;
    return {};
}

Result<void> set_algorithms(const Message& m, Sa& sa, const AlgorithmSet& offered)
{
    switch (sa.protocol) {
    case ip_proto::ah: return set_ah_algorithm(m, sa, offered);
    case ip_proto::ipcomp: return set_ipcomp_algorithm(m, sa, offered);
    default: return set_esp_algorithms(m, sa, offered);
    }
}

// ---- the other extensions ---------------------------------------------------------------------------------------

Result<void> check_mode(const Message& m)
{
    if (m.sa2 && m.sa2->mode > IPSEC_MODE_TUNNEL)
        return fail(Errc::bad_value, "the mode is none of any, transport, tunnel");
    return {};
}

// Without RAWCPI the packets carry the algorithm's well-known CPI, and the SPI is only a name (KAME, setkey -R).
Result<void> check_spi(const Message& m, std::uint8_t protocol)
{
    const auto& limits = sa_protocol(protocol);
    const bool only_a_name = protocol == ip_proto::ipcomp && (m.sa->flags & SADB_X_EXT_RAWCPI) == 0;
    if (m.sa->spi < limits.spi_min || (m.sa->spi > limits.spi_max && !only_a_name))
        return fail(Errc::bad_value, "SPIs 0 to 255 are reserved, CPIs have 16 bits");
    return {};
}

Result<void> check_header(const Message& m, Sa& sa, const AlgorithmSet&)
{
    if (auto checked = check_spi(m, sa.protocol); !checked)
        return checked;
    if (m.sa->state != SADB_SASTATE_LARVAL && m.sa->state != SADB_SASTATE_MATURE)
        return fail(Errc::bad_value, "sadb_sa_state must be larval (0) or mature (1)");
    return check_flags(m.sa->flags);
}

Result<void> set_replay_window(const Message& m, Sa& sa, const AlgorithmSet&)
{
    const std::uint32_t packets = m.sa_replay.value_or(m.sa->replay);
    if (packets > max_replay_window)
        return fail(Errc::bad_value, "the replay window has more than 4096 packets");
    if (sa.extended() && sa.protocol == ip_proto::ipcomp)
        return fail(Errc::bad_value, "IPComp has no sequence numbers to extend");
    if (sa.extended() && packets == 0)   // RFC 4303 §2.2.1 and appendix A; Linux refuses it too
        return fail(Errc::bad_value, "extended sequence numbers need a replay window: it tells their upper half");
    sa.replay = ReplayWindow(packets);
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

Result<void> set_identities(const Message& m, Sa& sa, const AlgorithmSet&)
{
    if (auto set = set_identity(m.source_identity, sa.source_identity); !set)
        return set;
    return set_identity(m.destination_identity, sa.destination_identity);
}

Result<std::optional<Address>> original_address(const std::optional<AddressExt>& from, Family family)
{
    if (!from)
        return std::nullopt;
    const Address& address = from->endpoint.address;
    if (address.family() == Family::none)
        return fail(Errc::bad_family, "an address is neither IPv4 nor IPv6");
    if (address.family() != family)
        return fail(Errc::bad_value, "an original address is of another family than the SA");
    return address.is_unspecified() ? std::nullopt : std::optional(address);
}

bool same_key(const std::optional<KeyExt>& given, const SecretBytes& have)
{
    return !given || std::ranges::equal(given->key, have.bytes());
}

}  // namespace

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

Result<std::unique_ptr<NatTraversal>> natt_of(const Message& m, std::uint8_t protocol, Family family)
{
    if (!m.natt_type)
        return nullptr;
    if (protocol != ip_proto::esp)
        return fail(Errc::bad_value, "only ESP goes in UDP");
    if (*m.natt_type == encap_non_ike)
        return fail(Errc::unsupported, "the non-IKE marker of the NAT traversal drafts is not offered");
    if (*m.natt_type != encap_esp_in_udp)
        return fail(Errc::bad_value, "the NAT traversal type is not ESP in UDP (2)");
    if (m.natt_fragment && *m.natt_fragment != 0 && *m.natt_fragment < min_natt_fragment)
        return fail(Errc::bad_value, "NAT_T_FRAG is 0 or at least 68 bytes");

    auto natt = std::make_unique<NatTraversal>();
    natt->type = *m.natt_type;
    const auto port = [](std::optional<std::uint16_t> given) { return given.value_or(0) == 0 ? natt_port : *given; };
    natt->source_port = port(m.natt_source_port);
    natt->destination_port = port(m.natt_destination_port);
    natt->fragment = m.natt_fragment.value_or(0);
    const auto original = original_address(m.natt_original, family);
    const auto remote = original_address(m.natt_original_remote, family);
    if (!original || !remote)
        return std::unexpected(original ? remote.error() : original.error());
    natt->original = *original;
    natt->original_remote = *remote;
    return natt;
}

Result<std::unique_ptr<Sa>> build_larval(const Message& m, std::uint8_t protocol)
{
    auto checked = check_addresses(*m.source, *m.destination);
    for (const auto step : {&check_labels, &check_mode})
        if (checked)
            checked = step(m);
    if (!checked)
        return std::unexpected(checked.error());
    auto natt = natt_of(m, protocol, m.source->endpoint.address.family());
    if (!natt)
        return std::unexpected(natt.error());

    auto sa = std::make_unique<Sa>();
    sa->protocol = protocol;
    sa->mode = static_cast<Mode>(m.sa2 ? m.sa2->mode : IPSEC_MODE_ANY);
    sa->reqid = m.sa2 ? m.sa2->reqid : 0;
    sa->source = m.source->endpoint.address;
    sa->destination = m.destination->endpoint.address;
    sa->natt = std::move(*natt);
    sa->message_seq = m.seq;
    sa->message_pid = m.pid;
    return sa;
}

Result<std::unique_ptr<Sa>> build_sa(const Message& m, std::uint8_t protocol, const AlgorithmSet& offered)
{
    auto built = build_larval(m, protocol);
    if (!built)
        return built;
    Sa& sa = **built;
    sa.spi = m.sa->spi;
    sa.state = SaState::mature;
    sa.flags = m.sa->flags;
    sa.hard = m.hard.value_or(Lifetime{});
    sa.soft = m.soft.value_or(Lifetime{});
    if (m.proxy && m.proxy->prefix_length > m.proxy->endpoint.address.bits())
        return fail(Errc::bad_value, "a prefix is longer than the address");
    if (m.proxy && m.proxy->endpoint.address.family() != Family::none)
        sa.proxy = Prefix{m.proxy->endpoint.address, m.proxy->prefix_length};
    for (const auto step : {&check_header, &set_algorithms, &set_replay_window, &set_identities})
        if (auto done = step(m, sa, offered); !done)
            return std::unexpected(done.error());
    return built;
}

Result<void> check_update_of_mature(const Message& m, const Sa& sa)
{
    if (auto checked = check_labels(m); !checked)
        return checked;
    const bool ah = sa.protocol == ip_proto::ah;   // has no cipher, whatever comes
    if ((!ah && !same_key(m.cipher_key, sa.cipher_key)) || !same_key(m.auth_key, sa.auth_key))
        return fail(Errc::bad_value, "the keys of a mature SA cannot change: delete it and add another");
    const bool same_cipher = ah || m.sa->encrypt == 0 || (sa.cipher != nullptr && m.sa->encrypt == sa.cipher->sadb_id);
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
