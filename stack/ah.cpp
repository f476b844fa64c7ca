// SPDX-License-Identifier: BSD-2-Clause
#include "stack/ah.hpp"

#include "stack/transform.hpp"

#include <algorithm>

namespace latchkey {

namespace {

using transform::Tools;

constexpr std::size_t fixed_size = 12;                // next header, length, reserved, SPI, sequence number
constexpr std::size_t v4_header = 20, v4_header_max = 60;
constexpr std::size_t v6_header = 40, v6_address = 16, v6_destination_at = 24;
constexpr std::size_t max_datagram = transform::max_packet + v6_header;

struct AhContext final : SaContext {
    std::shared_ptr<const crypto::Library> library;   // goes after what it made
    std::size_t icv = 0;
    bool esn = false;
    std::optional<crypto::Mac> mac;                   // none: authentication `null`
};

AhContext* context_of(Sa& sa, const Tools& tools);
bool sign(AhContext& context, Bytes datagram, std::size_t at, std::size_t size, std::uint64_t sequence,
          const AhRules& rules, MutableBytes icv);

constexpr std::size_t padded(std::size_t size, std::size_t unit)
{
    return (size + unit - 1) / unit * unit;
}

// RFC 4302 §2.2: the header is a multiple of 4 bytes in IPv4 and of 8 in IPv6.
constexpr std::size_t header_size(std::size_t icv, Family family)
{
    return padded(fixed_size + icv, family == Family::v6 ? 8 : 4);
}

// IPv4 peers may also send multiples of 8 (Linux does), so both are right there.
constexpr bool header_size_ok(std::size_t size, std::size_t icv, Family family)
{
    return size == padded(fixed_size + icv, 8) || (family == Family::v4 && size == header_size(icv, family));
}

Family family_of(Bytes datagram)
{
    switch (datagram.empty() ? 0 : datagram[0] >> 4) {
    case 4: return Family::v4;
    case 6: return Family::v6;
    default: return Family::none;
    }
}

// An AH stands behind an IP header of its family.
constexpr std::size_t first_place(Family family)
{
    return family == Family::v4 ? 20 : 40;
}

}  // namespace

std::size_t ah_size(const Sa& sa, Family family)
{
    return header_size(transform::icv_size(sa), family);
}

// ---- outbound (RFC 4302 §3.3) ---------------------------------------------------------------------------------------

Drop transform::seal_ah(const AhSealJob& job, Tools& tools)
{
    auto* context = context_of(*job.sa, tools);
    const auto family = family_of(job.datagram);
    if (context == nullptr || family == Family::none)
        return Drop::out_crypto;
    if (!may_send(*job.sa, job.sequence))
        return Drop::out_sequence_exhausted;
    if (job.datagram.size() > max_datagram)
        return Drop::out_too_big;
    const auto size = header_size(context->icv, family);
    if (job.at < first_place(family) || job.at > job.datagram.size() || size > job.datagram.size() - job.at)
        return Drop::out_crypto;

    wire::Writer header(job.datagram.subspan(job.at, size));
    header.put<std::uint8_t>(job.next_header);
    header.put<std::uint8_t>(static_cast<std::uint8_t>(size / 4 - 2));
    header.put<std::uint16_t>(0);
    header.put<std::uint32_t>(job.sa->spi);
    header.put<std::uint32_t>(static_cast<std::uint32_t>(job.sequence));
    const auto icv = header.reserve(context->icv);
    header.align(size);
    return sign(*context, job.datagram, job.at, size, job.sequence, job.rules, icv) ? Drop::none : Drop::out_crypto;
}

// ---- inbound (RFC 4302 §3.4) ----------------------------------------------------------------------------------------

Drop transform::open_ah(AhOpenJob& job, Tools& tools)
{
    auto& sa = *job.sa;
    job.size = 0;
    auto* context = context_of(sa, tools);
    if (context == nullptr)
        return Drop::in_sa_state;
    const auto family = family_of(job.datagram);
    if (family == Family::none || job.datagram.size() > max_datagram || job.at < first_place(family))
        return Drop::in_malformed;
    if (job.at > job.datagram.size() || fixed_size > job.datagram.size() - job.at)
        return Drop::in_truncated;
    const auto size = (std::size_t{job.datagram[job.at + 1]} + 2) * 4;
    if (size > job.datagram.size() - job.at || size < fixed_size + context->icv)
        return Drop::in_truncated;
    if (!header_size_ok(size, context->icv, family))
        return Drop::in_malformed;

    const auto low = wire::field<std::uint32_t>(job.datagram, job.at + 8);
    const auto sequence = received_sequence(sa.replay, low, context->esn);
    if (context->mac) {   // without one anyone could move the window
        if (!sequence || !sa.replay.fresh(*sequence))
            return Drop::in_replay;
        std::array<std::uint8_t, crypto::Mac::max_size> expected;
        const auto mine = MutableBytes(expected).first(context->icv);
        if (!sign(*context, job.datagram, job.at, size, *sequence, job.rules, mine))
            return Drop::in_malformed;
        if (!crypto::equal_constant_time(mine, job.datagram.subspan(job.at + fixed_size, context->icv)))
            return Drop::in_integrity;
        sa.replay.accept(*sequence);
    }
    job.size = size;
    job.next_header = job.datagram[job.at];
    return Drop::none;
}

// ---- what the ICV covers (RFC 4302 §3.3.3) --------------------------------------------------------------------------

namespace {

// Hands bytes to the MAC; small pieces are gathered, since each call into OpenSSL has its price.
class Signer {
public:
    explicit Signer(crypto::Mac& mac) : mac_(mac), ok_(mac.start()) {}

    void put(Bytes bytes)
    {
        if (bytes.size() > room_.size() - used_)
            flush();
        if (bytes.size() > room_.size()) {
            ok_ = ok_ && mac_.update(bytes);
            return;
        }
        std::ranges::copy(bytes, room_.begin() + static_cast<std::ptrdiff_t>(used_));
        used_ += bytes.size();
    }

    void zeros(std::size_t n)
    {
        constexpr std::array<std::uint8_t, 64> nothing{};
        for (; n > nothing.size(); n -= nothing.size())
            put(nothing);
        put(Bytes(nothing).first(n));
    }

    bool finish(MutableBytes icv)
    {
        flush();
        return ok_ && mac_.finish(icv);
    }

private:
    void flush()
    {
        ok_ = ok_ && (used_ == 0 || mac_.update(Bytes(room_).first(used_)));
        used_ = 0;
    }

    crypto::Mac& mac_;
    std::array<std::uint8_t, 192> room_;
    std::size_t used_ = 0;
    bool ok_;
};

bool cover_ipv4(Signer& out, Bytes header, const AhRules& rules);
bool cover_ipv6(Signer& out, Bytes headers);

// The ICV over a datagram whose AH of `size` bytes is at `at`. False: the headers before it are broken.
bool sign(AhContext& context, Bytes datagram, std::size_t at, std::size_t size, std::uint64_t sequence,
          const AhRules& rules, MutableBytes icv)
{
    if (!context.mac)
        return true;
    Signer out(*context.mac);
    const auto headers = datagram.first(at);
    if (!(family_of(datagram) == Family::v4 ? cover_ipv4(out, headers, rules) : cover_ipv6(out, headers)))
        return false;
    const auto icv_end = at + fixed_size + context.icv;
    out.put(datagram.subspan(at, fixed_size));
    out.zeros(context.icv);
    out.put(datagram.subspan(icv_end, at + size - icv_end));   // padding counts as it was sent
    out.put(datagram.subspan(at + size));
    out.put(transform::HighHalf(sequence, context.esn).bytes());
    return out.finish(icv);
}

// ---- IPv4 (§3.3.3.1.1, Appendix A1) ---------------------------------------------------------------------------------

// Options that no router changes: (extended, commercial) security, router alert, multi-destination delivery. All
// others count as zeros, those that nobody knows among them.
constexpr std::uint8_t immutable_options[] = {130, 133, 134, 148, 149};
constexpr std::uint8_t loose_source_route = 131, strict_source_route = 137;

// Where a source route that is not used up ends: that is what the destination field will hold on arrival.
Bytes final_destination(Bytes option)
{
    constexpr std::size_t route_at = 3, address = 4;
    if ((option[0] != loose_source_route && option[0] != strict_source_route) || option.size() < route_at + address)
        return {};
    const std::size_t pointer = option[2];   // counts from 1
    if (pointer <= route_at || pointer - 1 + address > option.size())
        return {};
    const auto count = (option.size() - route_at) / address;
    return option.subspan(route_at + (count - 1) * address, address);
}

bool settle_options(MutableBytes header)
{
    constexpr std::size_t destination_at = 16;
    for (std::size_t i = v4_header; i < header.size() && header[i] != 0;) {
        if (header[i] == 1) {   // no operation
            ++i;
            continue;
        }
        if (i + 2 > header.size() || header[i + 1] < 2 || header[i + 1] > header.size() - i)
            return false;
        const auto option = header.subspan(i, header[i + 1]);
        if (const auto last = final_destination(option); !last.empty())
            std::ranges::copy(last, header.begin() + destination_at);
        if (std::ranges::find(immutable_options, option[0]) == std::end(immutable_options))
            std::ranges::fill(option, std::uint8_t{0});
        i += option.size();
    }
    return true;
}

bool cover_ipv4(Signer& out, Bytes header, const AhRules& rules)
{
    constexpr std::size_t tos_at = 1, offset_at = 6, ttl_at = 8, checksum_at = 10;
    if (header.size() < v4_header || header.size() > v4_header_max || header.size() != (header[0] & 0x0fu) * 4)
        return false;
    std::array<std::uint8_t, v4_header_max> room;
    const auto copy = MutableBytes(room).first(header.size());
    std::ranges::copy(header, copy.begin());
    if (rules.clear_tos)
        copy[tos_at] = 0;
    const auto offset = wire::field<std::uint16_t>(header, offset_at);
    wire::set_field<std::uint16_t>(copy, offset_at, static_cast<std::uint16_t>(offset & rules.offset_mask));
    copy[ttl_at] = 0;
    wire::set_field<std::uint16_t>(copy, checksum_at, 0);
    if (!settle_options(copy))
        return false;
    out.put(copy);
    return true;
}

// ---- IPv6 (§3.3.3.1.2, Appendix A2) ---------------------------------------------------------------------------------

// Calls visit(type, bytes) for each extension header; false if the chain does not end where the AH begins.
template <class Visit> bool each_extension(Bytes headers, Visit visit)
{
    constexpr std::uint8_t fragment = 44;
    std::uint8_t type = headers[6];
    for (auto rest = headers.subspan(v6_header); !rest.empty();) {
        if (rest.size() < 8)
            return false;
        const std::size_t size = type == fragment ? 8 : (rest[1] + 1u) * 8u;
        if (size > rest.size() || !visit(type, rest.first(size)))
            return false;
        type = rest[0];
        rest = rest.subspan(size);
    }
    return type == ip_proto::ah;
}

// Routing headers of type 0, and 2 (RFC 6275 §6.4), whose change on the way is known. Others count as they stand.
struct Route {
    std::size_t addresses = 0, left = 0;

    bool changes() const { return left != 0; }
    static Bytes address(Bytes header, std::size_t i) { return header.subspan(8 + i * v6_address, v6_address); }

    // False: more segments are left than it has.
    bool parse(Bytes header)
    {
        const auto kind = header[2];
        if (kind != 0 && kind != 2)
            return true;
        addresses = header.size() / v6_address;   // the 8 bytes before them round down
        left = header[3];
        return left <= addresses;
    }
};

// As it will arrive: no segments left, the addresses moved on by one node each (RFC 8200 §4.4).
void cover_route(Signer& out, Bytes header, const Route& route, Bytes destination)
{
    constexpr std::size_t segments_at = 3, fixed = 8;
    out.put(header.first(segments_at));
    out.zeros(1);
    out.put(header.subspan(segments_at + 1, fixed - segments_at - 1));
    const auto passed = route.addresses - route.left;
    out.put(header.subspan(fixed, passed * v6_address));
    out.put(destination);
    out.put(header.subspan(fixed + passed * v6_address, (route.left - 1) * v6_address));
}

// Options with the third bit set may change on the way: their data counts as zeros.
bool cover_options(Signer& out, Bytes header)
{
    constexpr std::uint8_t pad1 = 0, may_change = 0x20;
    out.put(header.first(2));
    for (auto rest = header.subspan(2); !rest.empty();) {
        if (rest[0] == pad1) {
            out.put(rest.first(1));
            rest = rest.subspan(1);
            continue;
        }
        if (rest.size() < 2 || rest[1] > rest.size() - 2)
            return false;
        const auto data = rest.subspan(2, rest[1]);
        out.put(rest.first(2));
        if ((rest[0] & may_change) != 0)
            out.zeros(data.size());
        else
            out.put(data);
        rest = rest.subspan(2 + data.size());
    }
    return true;
}

bool cover_ipv6(Signer& out, Bytes headers)
{
    constexpr std::uint8_t hop_by_hop = 0, routing = 43, destination_options = 60;
    constexpr std::size_t hop_limit_at = 7;
    if (headers.size() < v6_header)
        return false;
    std::array<std::uint8_t, v6_header> base;
    std::ranges::copy(headers.first(v6_header), base.begin());
    wire::set_field<std::uint32_t>(base, 0, 0x60000000);   // traffic class and flow label
    base[hop_limit_at] = 0;

    const auto destination = headers.subspan(v6_destination_at, v6_address);
    const auto predict = [&](std::uint8_t type, Bytes header) {
        Route route;
        if (type != routing)
            return true;
        if (!route.parse(header))
            return false;
        if (route.changes())
            std::ranges::copy(Route::address(header, route.addresses - 1), base.begin() + v6_destination_at);
        return true;
    };
    if (!each_extension(headers, predict))
        return false;
    out.put(base);
    return each_extension(headers, [&](std::uint8_t type, Bytes header) {
        if (type == hop_by_hop || type == destination_options)
            return cover_options(out, header);
        Route route;
        if (type == routing && route.parse(header) && route.changes())
            cover_route(out, header, route, destination);
        else
            out.put(header);
        return true;
    });
}

// ---- keys -----------------------------------------------------------------------------------------------------------

// Null if the SA is not one for AH, has no key (yet), or wants the format of RFC 1826.
std::unique_ptr<AhContext> make_context(const Sa& sa, const Tools& tools)
{
    if (sa.protocol != ip_proto::ah || sa.cipher != nullptr || sa.auth == nullptr ||
        !transform::key_fits(*sa.auth, sa.auth_key) || transform::old_format(sa))
        return nullptr;
    auto context = std::make_unique<AhContext>();
    context->library = tools.library;
    context->icv = sa.auth->icv;
    context->esn = sa.extended();
    if (sa.auth->primitive == Primitive::null)
        return context;
    context->mac = tools.library->make_mac(sa.auth->primitive, sa.auth_key.bytes());
    return context->mac ? std::move(context) : nullptr;
}

AhContext* context_of(Sa& sa, const Tools& tools)
{
    if (!sa.context)
        sa.context = make_context(sa, tools);
    return static_cast<AhContext*>(sa.context.get());
}

}  // namespace

}  // namespace latchkey
