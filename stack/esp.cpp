// SPDX-License-Identifier: BSD-2-Clause
#include "stack/esp.hpp"

#include "stack/transform.hpp"

#include <algorithm>
#include <numeric>

namespace latchkey {

namespace {

using transform::Tools;

constexpr std::size_t header_size = 8;    // SPI, sequence number
constexpr std::size_t trailer_size = 2;   // pad length, next header
constexpr std::size_t max_block = 16;
constexpr std::size_t max_padding = 255;  // what the pad length can say
constexpr std::size_t max_salt = 4;
constexpr std::size_t counted_iv = 8;     // of every algorithm whose IV is the sequence number
constexpr std::size_t counter_block = 16; // RFC 3686 §4: salt, IV, a block counter that begins with 1

// How a packet of an SA is put together.
enum class Scheme : std::uint8_t {
    clear,     // NULL (RFC 2410)
    chained,   // CBC: a random IV
    counter,   // AES-CTR
    aead,      // GCM (RFC 4106), ChaCha20-Poly1305 (RFC 7634)
    aead_once, // CCM (RFC 4309), which has to see its data in one piece
    signature, // GMAC (RFC 4543): all of it is associated data
};

constexpr Scheme scheme_of(Primitive primitive)
{
    switch (primitive) {
    case Primitive::aes_gcm:
    case Primitive::chacha20_poly1305: return Scheme::aead;
    case Primitive::aes_ccm: return Scheme::aead_once;
    case Primitive::aes_gmac: return Scheme::signature;
    case Primitive::aes_ctr: return Scheme::counter;
    case Primitive::null: return Scheme::clear;
    default: return Scheme::chained;
    }
}

consteval bool table_fits()
{
    for (const auto& row : algorithms) {
        if (row.offered() && row.block > max_block)
            return false;
        if (row.offered() && row.counts() && (row.salt > max_salt || row.iv != counted_iv))
            return false;
    }
    return true;
}
static_assert(table_fits(), "an algorithm row does not fit the buffers and the nonce of this transform");

// The sizes that an SA's algorithms give its packets: header, IV, body (payload, padding, trailer), ICV.
struct Layout {
    std::size_t iv = 0;
    std::size_t icv = 0;
    std::size_t unit = 4;   // the body is a multiple of it: a cipher block, and never less than 4 (RFC 4303 §2.4)

    explicit Layout(const Sa& sa)
    {
        if (sa.cipher != nullptr) {
            iv = sa.cipher->iv;
            icv = sa.cipher->icv;
            unit = std::max<std::size_t>(unit, sa.cipher->block);
        }
        if (sa.auth != nullptr)
            icv += sa.auth->icv;
    }

    std::size_t overhead() const { return header_size + iv + icv; }
    std::size_t body(std::size_t payload) const { return whole_units(payload + trailer_size + unit - 1); }
    std::size_t whole_units(std::size_t size) const { return size & ~(unit - 1); }   // a power of two: the table's rule
    // The most that esp_randpad adds to a body. With what a full block asks for, never more than 255 (a pad length).
    std::size_t extra(int limit) const
    {
        return limit < 0 ? 0 : whole_units(std::min(static_cast<std::size_t>(limit), max_padding));
    }
};

// What an SA keeps for the transform. An SA serves one direction, so only one of the two ciphers is made in practice;
// both may exist where a host is its own peer.
struct EspContext final : SaContext {
    explicit EspContext(const Sa& sa) : layout(sa), scheme(scheme_of(sa.cipher->primitive)) {}

    std::shared_ptr<const crypto::Library> library;   // goes after what it made
    Layout layout;
    Scheme scheme;
    bool esn = false;
    crypto::Wiped<max_salt> salt;
    std::size_t salt_size = 0;
    std::optional<crypto::Cipher> sealing, opening;
    std::optional<crypto::Mac> mac;
};

// SPI and sequence number as a combined mode authenticates them: 32 or 64 bits of sequence (RFC 4106 §5).
class AssociatedData {
public:
    AssociatedData(std::uint32_t spi, std::uint64_t sequence, bool esn) : size_(esn ? 12 : 8)
    {
        wire::set_field<std::uint32_t>(bytes_, 0, spi);
        if (esn)
            wire::set_field<std::uint64_t>(bytes_, 4, sequence);
        else
            wire::set_field<std::uint32_t>(bytes_, 4, static_cast<std::uint32_t>(sequence));
    }

    Bytes bytes() const { return Bytes(bytes_).first(size_); }

private:
    std::array<std::uint8_t, 12> bytes_{};
    std::size_t size_;
};

// The nonce of a counting algorithm: the salt, then the IV of the packet (RFC 4106 §4), for CTR also the block counter.
class Nonce {
public:
    Nonce(const EspContext& context, Bytes iv) : size_(context.salt_size + counted_iv)
    {
        std::memcpy(bytes_.data(), context.salt.data(), max_salt);
        std::memcpy(bytes_.data() + context.salt_size, iv.data(), counted_iv);
        if (context.scheme == Scheme::counter) {
            bytes_[counter_block - 1] = 1;
            size_ = counter_block;
        }
    }

    Bytes bytes() const { return Bytes(bytes_).first(size_); }

private:
    std::array<std::uint8_t, counter_block> bytes_{};
    std::size_t size_;
};

EspContext* context_of(Sa& sa, const Tools& tools, crypto::Cipher::Side side);

// ---- outbound (RFC 4303 §3.3) ---------------------------------------------------------------------------------------

// The one pass over the payload: reads the parts, writes ciphertext into the body.
bool encrypt(crypto::Cipher& cipher, const SealJob& job, Bytes trailer, MutableBytes body)
{
    std::size_t written = 0;
    for (std::size_t i = 0; i < job.part_count; ++i)
        if (!cipher.update(job.parts[i], body, written))
            return false;
    return cipher.update(trailer, body, written) && cipher.finish() && written == body.size();
}

void copy(const SealJob& job, Bytes trailer, MutableBytes body)
{
    wire::Writer writer(body);
    for (std::size_t i = 0; i < job.part_count; ++i)
        writer.put(job.parts[i]);
    writer.put(trailer);
}

// Fills body and ICV; header and IV are already in job.out.
bool protect(EspContext& context, const SealJob& job, Bytes trailer)
{
    const auto& layout = context.layout;
    const auto iv = job.out.subspan(header_size, layout.iv);
    const auto body = job.out.subspan(header_size + layout.iv, job.out.size() - layout.overhead());
    const auto icv = job.out.last(layout.icv);
    const AssociatedData data(job.sa->spi, job.sequence, context.esn);
    std::size_t written = 0;
    switch (context.scheme) {
    case Scheme::aead: {
        auto& cipher = *context.sealing;
        return cipher.start(Nonce(context, iv).bytes()) && cipher.associate(data.bytes()) &&
               encrypt(cipher, job, trailer, body) && cipher.read_icv(icv);
    }
    case Scheme::aead_once: {
        auto& cipher = *context.sealing;
        copy(job, trailer, body);
        return cipher.start(Nonce(context, iv).bytes()) && cipher.expect_size(body.size()) &&
               cipher.associate(data.bytes()) && cipher.update(body, body, written) && cipher.finish() &&
               cipher.read_icv(icv);
    }
    case Scheme::signature: {
        auto& cipher = *context.sealing;
        copy(job, trailer, body);
        return cipher.start(Nonce(context, iv).bytes()) && cipher.associate(data.bytes()) &&
               cipher.associate(job.out.subspan(header_size, iv.size() + body.size())) && cipher.finish() &&
               cipher.read_icv(icv);
    }
    case Scheme::counter:
        if (!context.sealing->start(Nonce(context, iv).bytes()) || !encrypt(*context.sealing, job, trailer, body))
            return false;
        break;
    case Scheme::chained:
        if (!context.sealing->start(iv) || !encrypt(*context.sealing, job, trailer, body))
            return false;
        break;
    case Scheme::clear: copy(job, trailer, body); break;
    }
    if (!context.mac)
        return true;
    const transform::HighHalf high(job.sequence, context.esn);
    return context.mac->compute(job.out.first(job.out.size() - layout.icv), high.bytes(), icv);
}

void write_iv(const EspContext& context, std::uint64_t sequence, MutableBytes iv, Tools& tools)
{
    // RFC 4106 §3.1 asks for an IV that is never used twice under the key; the sequence number is one.
    if (context.scheme == Scheme::chained)
        tools.random.take(iv);
    else if (context.scheme != Scheme::clear)
        wire::set_field<std::uint64_t>(iv, 0, sequence);
}

using TrailerRoom = std::array<std::uint8_t, max_padding + trailer_size>;

Bytes write_trailer(const SealJob& job, std::size_t padding, TrailerRoom& room, Tools& tools)
{
    const auto pad = MutableBytes(room).first(padding);
    switch (job.sa->flags & SADB_X_EXT_PMASK) {
    case SADB_X_EXT_PZERO: std::ranges::fill(pad, std::uint8_t{0}); break;
    case SADB_X_EXT_PRAND: tools.random.take(pad); break;
    default: std::iota(pad.begin(), pad.end(), std::uint8_t{1}); break;
    }
    room[padding] = static_cast<std::uint8_t>(padding);
    room[padding + 1] = job.next_header;
    return Bytes(room).first(padding + trailer_size);
}

}  // namespace

Drop transform::seal_esp(const SealJob& job, Tools& tools)
{
    auto* context = context_of(*job.sa, tools, crypto::Cipher::Side::encrypt);
    if (context == nullptr || job.part_count > job.parts.size())
        return Drop::out_crypto;
    if (!may_send(*job.sa, job.sequence))
        return Drop::out_sequence_exhausted;
    if (job.out.size() > max_packet)
        return Drop::out_too_big;

    std::size_t payload = 0;
    for (std::size_t i = 0; i < job.part_count; ++i)
        payload += job.parts[i].size();
    const auto& layout = context->layout;
    if (job.out.size() < layout.overhead() + layout.body(payload))
        return Drop::out_crypto;
    const auto body = job.out.size() - layout.overhead();
    const auto padding = body - payload - trailer_size;
    if (body != layout.whole_units(body) || padding > max_padding)
        return Drop::out_crypto;

    wire::set_field<std::uint32_t>(job.out, 0, job.sa->spi);
    wire::set_field<std::uint32_t>(job.out, 4, static_cast<std::uint32_t>(job.sequence));
    write_iv(*context, job.sequence, job.out.subspan(header_size, layout.iv), tools);
    TrailerRoom room;
    const auto trailer = write_trailer(job, padding, room, tools);
    return protect(*context, job, trailer) ? Drop::none : Drop::out_crypto;
}

// ---- inbound (RFC 4303 §3.4) ----------------------------------------------------------------------------------------

namespace {

// The ICV of a separate MAC.
bool authentic(EspContext& context, std::uint64_t sequence, Bytes packet)
{
    const auto size = context.layout.icv;
    std::array<std::uint8_t, crypto::Mac::max_size> expected;
    const auto mine = MutableBytes(expected).first(size);
    const transform::HighHalf high(sequence, context.esn);
    return context.mac->compute(packet.first(packet.size() - size), high.bytes(), mine) &&
           crypto::equal_constant_time(mine, packet.last(size));
}

// Verifies, then decrypts in place. A combined mode does both at once: what it wrote is of no use if the ICV was wrong.
bool unprotect(EspContext& context, std::uint32_t spi, std::uint64_t sequence, MutableBytes packet)
{
    const auto& layout = context.layout;
    const auto iv = packet.subspan(header_size, layout.iv);
    const auto body = packet.subspan(header_size + layout.iv, packet.size() - layout.overhead());
    const auto icv = packet.last(layout.icv);
    const AssociatedData data(spi, sequence, context.esn);
    std::size_t written = 0;
    if (context.mac && !authentic(context, sequence, packet))
        return false;
    switch (context.scheme) {
    case Scheme::aead: {
        auto& cipher = *context.opening;
        return cipher.start(Nonce(context, iv).bytes()) && cipher.expect_icv(icv) && cipher.associate(data.bytes()) &&
               cipher.update(body, body, written) && cipher.finish();
    }
    case Scheme::aead_once: {
        auto& cipher = *context.opening;
        return cipher.start(Nonce(context, iv).bytes()) && cipher.expect_icv(icv) && cipher.expect_size(body.size()) &&
               cipher.associate(data.bytes()) && cipher.update(body, body, written) && cipher.finish();
    }
    case Scheme::signature: {
        auto& cipher = *context.opening;
        return cipher.start(Nonce(context, iv).bytes()) && cipher.expect_icv(icv) && cipher.associate(data.bytes()) &&
               cipher.associate(packet.subspan(header_size, iv.size() + body.size())) && cipher.finish();
    }
    case Scheme::counter: {
        auto& cipher = *context.opening;
        return cipher.start(Nonce(context, iv).bytes()) && cipher.update(body, body, written) && cipher.finish();
    }
    case Scheme::chained: {
        auto& cipher = *context.opening;
        return cipher.start(iv) && cipher.update(body, body, written) && cipher.finish() && written == body.size();
    }
    case Scheme::clear: break;
    }
    return true;
}

// Takes padding and trailer off the decrypted body.
Drop strip_trailer(OpenJob& job, MutableBytes body)
{
    const std::size_t padding = body[body.size() - 2];
    job.next_header = body[body.size() - 1];
    if (padding + trailer_size > body.size())
        return Drop::in_padding;
    job.payload = body.first(body.size() - padding - trailer_size);
    if ((job.sa->flags & SADB_X_EXT_PMASK) == SADB_X_EXT_PSEQ) {
        const auto pad = body.subspan(job.payload.size(), padding);
        for (std::size_t i = 0; i < pad.size(); ++i)
            if (pad[i] != i + 1)
                return Drop::in_padding;
    }
    return job.next_header == ip_proto::no_next ? Drop::in_dummy : Drop::none;
}

}  // namespace

Drop transform::open_esp(OpenJob& job, Tools& tools)
{
    auto& sa = *job.sa;
    job.payload = {};
    auto* context = context_of(sa, tools, crypto::Cipher::Side::decrypt);
    if (context == nullptr)
        return Drop::in_sa_state;
    const auto& layout = context->layout;
    if (job.packet.size() < layout.overhead() + layout.unit)
        return Drop::in_truncated;
    const auto body_size = job.packet.size() - layout.overhead();
    if (body_size != layout.whole_units(body_size))
        return Drop::in_truncated;
    if (job.packet.size() > max_packet)
        return Drop::in_malformed;

    const auto spi = wire::field<std::uint32_t>(job.packet, 0);
    const auto low = wire::field<std::uint32_t>(job.packet, 4);
    const auto sequence = received_sequence(sa.replay, low, context->esn);
    // Without an ICV anyone could move the window (RFC 4303 §3.4.3: anti-replay only together with integrity).
    const bool numbered = layout.icv != 0;
    if (numbered && (!sequence || !sa.replay.fresh(*sequence)))
        return Drop::in_replay;
    if (!unprotect(*context, spi, sequence.value_or(low), job.packet))
        return Drop::in_integrity;
    if (numbered)
        sa.replay.accept(*sequence);
    const auto verdict = strip_trailer(job, job.packet.subspan(header_size + layout.iv, body_size));
    if (verdict != Drop::none)
        job.payload = {};
    return verdict;
}

// ---- keys -----------------------------------------------------------------------------------------------------------

namespace {

bool keys_fit(const Sa& sa)
{
    if (sa.cipher == nullptr || sa.cipher->kind == AlgorithmKind::compression ||
        !transform::key_fits(*sa.cipher, sa.cipher_key))
        return false;
    if (sa.cipher->kind == AlgorithmKind::aead)   // `null` beside it says the same as none (FreeBSD, libreswan)
        return sa.auth == nullptr || sa.auth->primitive == Primitive::null;
    return sa.auth == nullptr || transform::key_fits(*sa.auth, sa.auth_key);
}

// Null if the SA has no keys (yet), or wants what this transform does not do: the formats before RFC 2406 among it.
std::unique_ptr<EspContext> make_context(const Sa& sa, const Tools& tools)
{
    if (sa.protocol != ip_proto::esp || !keys_fit(sa) || transform::old_format(sa))
        return nullptr;
    auto context = std::make_unique<EspContext>(sa);
    context->library = tools.library;
    context->esn = sa.extended();
    if (sa.cipher->counts()) {
        context->salt_size = std::min<std::size_t>(sa.cipher->salt, max_salt);
        std::memcpy(context->salt.data(), sa.cipher_key.bytes().last(context->salt_size).data(), context->salt_size);
    }
    if (sa.auth != nullptr && sa.auth->primitive != Primitive::null) {
        context->mac = tools.library->make_mac(sa.auth->primitive, sa.auth_key.bytes());
        if (!context->mac)
            return nullptr;
    }
    return context;
}

// The context of an SA, with the cipher of this side keyed.
EspContext* context_of(Sa& sa, const Tools& tools, crypto::Cipher::Side side)
{
    if (!sa.context)
        sa.context = make_context(sa, tools);
    auto* context = static_cast<EspContext*>(sa.context.get());
    if (context == nullptr || context->scheme == Scheme::clear)
        return context;
    auto& cipher = side == crypto::Cipher::Side::encrypt ? context->sealing : context->opening;
    if (!cipher) {
        const auto key = sa.cipher_key.bytes();
        cipher = tools.library->make_cipher(sa.cipher->primitive, key.first(key.size() - sa.cipher->salt), side,
                                            sa.cipher->icv);
    }
    return cipher ? context : nullptr;
}

}  // namespace

// ---- sizes ----------------------------------------------------------------------------------------------------------

transform::PaddingRange transform::extra_padding_of(const Sa& sa, int limit)
{
    const Layout layout(sa);
    return {layout.extra(limit), layout.unit};
}

std::size_t esp_sealed_size(const Sa& sa, std::size_t n)
{
    const Layout layout(sa);
    return layout.overhead() + layout.body(n);
}

std::size_t esp_payload_room(const Sa& sa, std::size_t room, int limit)
{
    const Layout layout(sa);
    room -= std::min(room, layout.extra(limit));
    if (room < layout.overhead() + layout.unit)
        return 0;
    return layout.whole_units(room - layout.overhead()) - trailer_size;
}

}  // namespace latchkey
