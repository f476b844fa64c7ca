// SPDX-License-Identifier: BSD-2-Clause
// The pfkey_send_ functions of <libpfkey.h> about security associations.
#include "pfkey/libpfkey_record.hpp"
#include "pfkey/libpfkey_supported.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <limits>

using namespace latchkey;
using namespace latchkey::ipsec;

int libipsec_opt = LIBIPSEC_OPT_NATT | LIBIPSEC_OPT_FRAG;

namespace {

// SADB_X_LIFETIME_ALLOCATIONS, BYTES, ADDTIME, USETIME
std::array<std::atomic<unsigned>, 4> soft_rates{PFKEY_SOFT_LIFETIME_RATE, PFKEY_SOFT_LIFETIME_RATE,
                                                PFKEY_SOFT_LIFETIME_RATE, PFKEY_SOFT_LIFETIME_RATE};

// Rounded down; large counts do not overflow on the way.
template <class Count> Count share(Count hard, unsigned type)
{
    const unsigned rate = soft_rates[type];
    return static_cast<Count>(hard / 100 * rate + hard % 100 * rate / 100);
}

Lifetime soft_of(const Lifetime& hard)
{
    return {share(hard.allocations, SADB_X_LIFETIME_ALLOCATIONS), share(hard.bytes, SADB_X_LIFETIME_BYTES),
            share(hard.addtime, SADB_X_LIFETIME_ADDTIME), share(hard.usetime, SADB_X_LIFETIME_USETIME)};
}

std::uint32_t host_order(std::uint32_t spi)
{
    return wire::load<std::uint32_t>(std::bit_cast<std::array<std::uint8_t, 4>>(spi));
}

Bytes bytes_of(const char* data, std::size_t size)
{
    return {static_cast<const std::uint8_t*>(static_cast<const void*>(data)), size};
}

// Everything else about algorithms is the host's to say.
int check_algorithms(const pfkey_send_sa_args& a)
{
    constexpr unsigned largest = std::numeric_limits<std::uint8_t>::max();
    if (a.e_type > largest || a.a_type > largest)
        return refuse(EIPSEC_INVAL_ALGS, "the number of an algorithm is above 255");
    switch (a.satype) {
    case SADB_SATYPE_ESP:
        return a.e_type == SADB_EALG_NONE ? refuse(EIPSEC_NO_ALGS, "ESP needs an encryption algorithm") : 0;
    case SADB_SATYPE_AH:
        if (a.e_type != SADB_EALG_NONE)
            return refuse(EIPSEC_INVAL_ALGS, "AH takes no encryption algorithm");
        return a.a_type == SADB_AALG_NONE ? refuse(EIPSEC_NO_ALGS, "AH needs an authentication algorithm") : 0;
    case SADB_X_SATYPE_IPCOMP:
        if (a.e_type == SADB_X_CALG_NONE)
            return refuse(EIPSEC_INVAL_ALGS, "IPComp needs a compression algorithm");
        return a.a_type != SADB_AALG_NONE ? refuse(EIPSEC_NO_ALGS, "IPComp takes no authentication algorithm") : 0;
    case SADB_X_SATYPE_TCPSIGNATURE:
        if (a.e_type != SADB_EALG_NONE || a.a_type != SADB_X_AALG_TCP_MD5)
            return refuse(EIPSEC_INVAL_ALGS, "TCP signatures take the authentication algorithm tcp-md5 alone");
        return 0;
    default: return refuse(EIPSEC_INVAL_SATYPE, "expected AH, ESP, IPComp or TCP signatures");
    }
}

int check_keys(const pfkey_send_sa_args& a)
{
    constexpr unsigned longest = 0xffff / 8;   // sadb_key_bits
    if (a.e_keylen > longest || a.a_keylen > longest)
        return refuse(EIPSEC_INVAL_KEYLEN, "a key has more bits than sadb_key_bits can say");
    if (a.keymat == nullptr && (a.e_keylen != 0 || a.a_keylen != 0))
        return refuse(EIPSEC_INVAL_ARGUMENT, "expected key material, got NULL");
    return 0;
}

void add_keys(Record& record, const pfkey_send_sa_args& a)
{
    const auto key = [&](std::uint16_t type, const char* at, unsigned size) {
        record.add<formats::KeyFormat>(type, KeyExt{static_cast<std::uint16_t>(size * 8), bytes_of(at, size)});
    };
    if (a.e_type != SADB_EALG_NONE && a.satype != SADB_X_SATYPE_IPCOMP)
        key(SADB_EXT_KEY_ENCRYPT, a.keymat, a.e_keylen);
    if (a.a_type != SADB_AALG_NONE)
        key(SADB_EXT_KEY_AUTH, a.a_keylen == 0 ? a.keymat : a.keymat + a.e_keylen, a.a_keylen);
}

void add_security_context(Record& record, const pfkey_send_sa_args& a)
{
    std::vector<std::uint8_t> body(4 + std::size_t{a.ctxstrlen});
    wire::Writer out(body, wire::Order::host);
    out.put<std::uint8_t>(a.ctxalg);
    out.put<std::uint8_t>(a.ctxdoi);
    out.put<std::uint16_t>(a.ctxstrlen);
    out.put(bytes_of(a.ctxstr, a.ctxstrlen));
    record.add<formats::OpaqueFormat>(SADB_X_EXT_SEC_CTX, Bytes(body));
}

void add_nat_traversal(Record& record, std::uint8_t type, std::uint16_t source, std::uint16_t destination)
{
    record.add<formats::NattTypeFormat>(SADB_X_EXT_NAT_T_TYPE, type);
    record.add<formats::PortFormat>(SADB_X_EXT_NAT_T_SPORT, source);
    record.add<formats::PortFormat>(SADB_X_EXT_NAT_T_DPORT, destination);
}

// SADB_ADD, SADB_UPDATE. The lifetime of `a` is in `hard`, whole.
int send_sa(const pfkey_send_sa_args& a, const Lifetime& hard)
{
    const auto ends = ends_of(a.src, a.dst);
    if (!ends || check_algorithms(a) != 0 || check_keys(a) != 0)
        return -1;
    std::optional<Endpoint> original;
    if (a.l_natt_type != 0) {
        if (a.satype != SADB_SATYPE_ESP && a.satype != SADB_X_SATYPE_IPCOMP)
            return refuse(EIPSEC_NO_ALGS, "only ESP goes in UDP");
        if (a.l_natt_oa != nullptr && !(original = endpoint_of(a.l_natt_oa)))
            return refuse(EIPSEC_INVAL_FAMILY, "expected AF_INET or AF_INET6 as the original address");
    }

    Record record(a.type, a.satype, a.seq, std::size_t{a.e_keylen} + a.a_keylen + a.ctxstrlen);
    const auto window = static_cast<std::uint8_t>(std::min(a.wsize, 255u));
    record.add<formats::SaFormat>(
        SADB_EXT_SA, SaExt{host_order(a.spi), window, SADB_SASTATE_LARVAL, static_cast<std::uint8_t>(a.a_type),
                           static_cast<std::uint8_t>(a.e_type), a.flags});
    record.add<formats::Sa2Format>(SADB_X_EXT_SA2, Sa2Ext{static_cast<std::uint8_t>(a.mode), 0, a.reqid});
    record.add_address(SADB_EXT_ADDRESS_SRC, ends->source);
    record.add_address(SADB_EXT_ADDRESS_DST, ends->destination);
    add_keys(record, a);
    record.add<formats::LifetimeFormat>(SADB_EXT_LIFETIME_HARD, hard);
    record.add<formats::LifetimeFormat>(SADB_EXT_LIFETIME_SOFT, soft_of(hard));
    if (a.ctxstr != nullptr)
        add_security_context(record, a);
    if (a.l_natt_type != 0) {
        add_nat_traversal(record, a.l_natt_type, a.l_natt_sport, a.l_natt_dport);
        if (original)
            record.add_address(SADB_X_EXT_NAT_T_OA, *original);
        if (a.l_natt_frag != 0)
            record.add<formats::NumberFormat<std::uint16_t>>(SADB_X_EXT_NAT_T_FRAG, a.l_natt_frag);
    }
    if (a.wsize > window)
        record.add<formats::NumberFormat<std::uint32_t>>(SADB_X_EXT_SA_REPLAY, std::uint32_t{a.wsize});
    return record.send(a.so);
}

int send_args(pfkey_send_sa_args* a, unsigned type)
{
    if (a == nullptr)
        return refuse(EIPSEC_INVAL_ARGUMENT, "expected the arguments, got NULL");
    a->type = type;
    return send_sa(*a, {a->l_alloc, a->l_bytes, a->l_addtime, a->l_usetime});
}

// SADB_GET, SADB_DELETE; without an SPI the DELETE is about every SA of the pair.
int send_about(int so, unsigned type, unsigned satype, const sockaddr* src, const sockaddr* dst,
               std::optional<std::uint32_t> spi)
{
    const auto ends = ends_of(src, dst);
    if (!ends)
        return -1;
    Record record(type, satype, 0);
    if (spi)
        record.add<formats::SaFormat>(SADB_EXT_SA, SaExt{.spi = host_order(*spi)});
    record.add_address(SADB_EXT_ADDRESS_SRC, ends->source);
    record.add_address(SADB_EXT_ADDRESS_DST, ends->destination);
    return record.send(so);
}

int send_bare(int so, unsigned type, unsigned satype)
{
    switch (satype) {
    case SADB_SATYPE_UNSPEC:
    case SADB_SATYPE_AH:
    case SADB_SATYPE_ESP:
    case SADB_X_SATYPE_IPCOMP:
    case SADB_X_SATYPE_TCPSIGNATURE: return Record(type, satype, 0).send(so);
    default: return refuse(EIPSEC_INVAL_SATYPE, "expected AH, ESP, IPComp, TCP signatures, or none for all");
    }
}

}  // namespace

// ---- lifetimes ------------------------------------------------------------------------------------------------------

unsigned pfkey_set_softrate(unsigned type, unsigned rate)
{
    if (type >= soft_rates.size())
        return refuse(EIPSEC_INVAL_ARGUMENT, "expected SADB_X_LIFETIME_*"), 1;
    soft_rates[type] = rate == 0 || rate > 100 ? 100 : rate;
    return accept(0u);
}

unsigned pfkey_get_softrate(unsigned type)
{
    return type < soft_rates.size() ? soft_rates[type].load() : ~0u;
}

// ---- messages -------------------------------------------------------------------------------------------------------

int pfkey_send_getspi_nat(int so, unsigned satype, unsigned mode, sockaddr* src, sockaddr* dst, std::uint8_t natt_type,
                          std::uint16_t sport, std::uint16_t dport, std::uint32_t min, std::uint32_t max,
                          std::uint32_t reqid, std::uint32_t seq)
{
    constexpr std::uint32_t last_reserved = 255;   // RFC 4303 §2.1: reserved by IANA
    const auto ends = ends_of(src, dst);
    if (!ends)
        return -1;
    if (min > max || (min > 0 && min <= last_reserved))
        return refuse(EIPSEC_INVAL_SPI, "expected min <= max, and min 0 (any) or above 255");

    Record record(SADB_GETSPI, satype, seq);
    record.add<formats::Sa2Format>(SADB_X_EXT_SA2, Sa2Ext{static_cast<std::uint8_t>(mode), 0, reqid});
    record.add_address(SADB_EXT_ADDRESS_SRC, ends->source);
    record.add_address(SADB_EXT_ADDRESS_DST, ends->destination);
    if (natt_type != 0)
        add_nat_traversal(record, natt_type, sport, dport);
    if (min > last_reserved && max < ~std::uint32_t{0})
        record.add<formats::SpiRangeFormat>(SADB_EXT_SPIRANGE, SpiRangeExt{min, max});
    return record.send(so);
}

int pfkey_send_getspi(int so, unsigned satype, unsigned mode, sockaddr* src, sockaddr* dst, std::uint32_t min,
                      std::uint32_t max, std::uint32_t reqid, std::uint32_t seq)
{
    return pfkey_send_getspi_nat(so, satype, mode, src, dst, 0, 0, 0, min, max, reqid, seq);
}

int pfkey_send_update2(pfkey_send_sa_args* args)
{
    return send_args(args, SADB_UPDATE);
}

int pfkey_send_add2(pfkey_send_sa_args* args)
{
    return send_args(args, SADB_ADD);
}

int pfkey_send_delete(int so, unsigned satype, unsigned, sockaddr* src, sockaddr* dst, std::uint32_t spi)
{
    return send_about(so, SADB_DELETE, satype, src, dst, spi);
}

int pfkey_send_delete_all(int so, unsigned satype, unsigned, sockaddr* src, sockaddr* dst)
{
    return send_about(so, SADB_DELETE, satype, src, dst, std::nullopt);
}

int pfkey_send_get(int so, unsigned satype, unsigned, sockaddr* src, sockaddr* dst, std::uint32_t spi)
{
    return send_about(so, SADB_GET, satype, src, dst, spi);
}

// What the last answer said is not known to hold any more.
int pfkey_send_register(int so, unsigned satype)
{
    forget_supported(satype);
    return send_bare(so, SADB_REGISTER, satype);
}

int pfkey_send_flush(int so, unsigned satype)
{
    return send_bare(so, SADB_FLUSH, satype);
}

int pfkey_send_dump(int so, unsigned satype)
{
    return send_bare(so, SADB_DUMP, satype);
}

int pfkey_send_promisc_toggle(int so, int flag)
{
    return Record(SADB_X_PROMISC, flag != 0 ? 1 : 0, 0).send(so);
}

// ---- older forms: the same arguments one by one, with lifetimes of 64 bits ------------------------------------------

int pfkey_send_update(int so, unsigned satype, unsigned mode, sockaddr* src, sockaddr* dst, std::uint32_t spi,
                      std::uint32_t reqid, unsigned wsize, char* keymat, unsigned e_type, unsigned e_keylen,
                      unsigned a_type, unsigned a_keylen, unsigned flags, std::uint32_t l_alloc, std::uint64_t l_bytes,
                      std::uint64_t l_addtime, std::uint64_t l_usetime, std::uint32_t seq)
{
    return pfkey_send_update_nat(so, satype, mode, src, dst, spi, reqid, wsize, keymat, e_type, e_keylen, a_type,
                                 a_keylen, flags, l_alloc, l_bytes, l_addtime, l_usetime, seq, 0, 0, 0, nullptr, 0);
}

int pfkey_send_add(int so, unsigned satype, unsigned mode, sockaddr* src, sockaddr* dst, std::uint32_t spi,
                   std::uint32_t reqid, unsigned wsize, char* keymat, unsigned e_type, unsigned e_keylen,
                   unsigned a_type, unsigned a_keylen, unsigned flags, std::uint32_t l_alloc, std::uint64_t l_bytes,
                   std::uint64_t l_addtime, std::uint64_t l_usetime, std::uint32_t seq)
{
    return pfkey_send_add_nat(so, satype, mode, src, dst, spi, reqid, wsize, keymat, e_type, e_keylen, a_type, a_keylen,
                              flags, l_alloc, l_bytes, l_addtime, l_usetime, seq, 0, 0, 0, nullptr, 0);
}

int pfkey_send_update_nat(int so, unsigned satype, unsigned mode, sockaddr* src, sockaddr* dst, std::uint32_t spi,
                          std::uint32_t reqid, unsigned wsize, char* keymat, unsigned e_type, unsigned e_keylen,
                          unsigned a_type, unsigned a_keylen, unsigned flags, std::uint32_t l_alloc,
                          std::uint64_t l_bytes, std::uint64_t l_addtime, std::uint64_t l_usetime, std::uint32_t seq,
                          std::uint8_t l_natt_type, std::uint16_t l_natt_sport, std::uint16_t l_natt_dport,
                          sockaddr* l_natt_oa, std::uint16_t l_natt_frag)
{
    const pfkey_send_sa_args args{so, SADB_UPDATE, satype, mode, src, dst, spi, reqid, wsize, keymat, e_type, e_keylen,
                                  a_type, a_keylen, flags, 0, 0, 0, 0, seq, l_natt_type, l_natt_sport, l_natt_dport,
                                  l_natt_oa, l_natt_frag, 0, 0, nullptr, 0};
    return send_sa(args, {l_alloc, l_bytes, l_addtime, l_usetime});
}

int pfkey_send_add_nat(int so, unsigned satype, unsigned mode, sockaddr* src, sockaddr* dst, std::uint32_t spi,
                       std::uint32_t reqid, unsigned wsize, char* keymat, unsigned e_type, unsigned e_keylen,
                       unsigned a_type, unsigned a_keylen, unsigned flags, std::uint32_t l_alloc, std::uint64_t l_bytes,
                       std::uint64_t l_addtime, std::uint64_t l_usetime, std::uint32_t seq, std::uint8_t l_natt_type,
                       std::uint16_t l_natt_sport, std::uint16_t l_natt_dport, sockaddr* l_natt_oa,
                       std::uint16_t l_natt_frag)
{
    const pfkey_send_sa_args args{so, SADB_ADD, satype, mode, src, dst, spi, reqid, wsize, keymat, e_type, e_keylen,
                                  a_type, a_keylen, flags, 0, 0, 0, 0, seq, l_natt_type, l_natt_sport, l_natt_dport,
                                  l_natt_oa, l_natt_frag, 0, 0, nullptr, 0};
    return send_sa(args, {l_alloc, l_bytes, l_addtime, l_usetime});
}
