// SPDX-License-Identifier: BSD-2-Clause
#include "stack/esp.hpp"

#include "stack/crypto.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <openssl/crypto.h>
#include <optional>

namespace latchkey {

namespace {

constexpr std::size_t header_size = 8;    // SPI, sequence number
constexpr std::size_t trailer_size = 2;   // pad length, next header
constexpr std::size_t max_block = 16;
constexpr std::size_t gcm_salt = 4;
constexpr std::size_t gcm_iv = 8;
constexpr std::size_t max_packet = 65535;            // what an IP packet can carry; so every length fits OpenSSL's int
constexpr std::uint64_t sequence_max = 0xffffffff;   // without extended sequence numbers

consteval bool table_fits()
{
    for (const auto& row : algorithms) {
        if (row.offered() && row.block > max_block)
            return false;
        if (row.primitive == Primitive::aes_gcm && (row.salt != gcm_salt || row.iv != gcm_iv))
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
    std::size_t body(std::size_t payload) const { return (payload + trailer_size + unit - 1) / unit * unit; }
};

// Random bytes, drawn from the host's source in blocks: a CBC IV must be unpredictable (RFC 3602 §3), and asking the
// source for 16 bytes at a time would cost more than the cipher.
class RandomPool {
public:
    explicit RandomPool(Rng& rng) : rng_(rng) {}

    void take(MutableBytes out)
    {
        if (out.size() > left_) {
            rng_.fill(pool_);
            left_ = pool_.size();
        }
        std::memcpy(out.data(), pool_.data() + (pool_.size() - left_), out.size());
        left_ -= out.size();
    }

private:
    Rng& rng_;
    std::array<std::uint8_t, 1024> pool_{};
    std::size_t left_ = 0;
};

// What an SA keeps for the transform. An SA serves one direction, so only one of the two ciphers is made in practice;
// both may exist where a host is its own peer.
struct EspContext final : SaContext {
    explicit EspContext(const Sa& sa) : layout(sa), aead(sa.cipher->kind == AlgorithmKind::aead) {}
    ~EspContext() override { OPENSSL_cleanse(salt.data(), salt.size()); }

    Layout layout;
    bool aead;
    bool encrypts = false;   // false: NULL (RFC 2410)
    bool esn = false;
    std::array<std::uint8_t, gcm_salt> salt{};
    std::optional<crypto::Cipher> sealing, opening;
    std::optional<crypto::Mac> mac;
};

// SPI and sequence number as GCM authenticates them: 32 or 64 bits of sequence (RFC 4106 §5).
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

// The high half of the sequence number is not sent but ends the input of a separate MAC (RFC 4303 §2.2.1).
class HighHalf {
public:
    HighHalf(std::uint64_t sequence, bool esn) : size_(esn ? 4 : 0)
    {
        wire::set_field<std::uint32_t>(bytes_, 0, static_cast<std::uint32_t>(sequence >> 32));
    }

    Bytes bytes() const { return Bytes(bytes_).first(size_); }

private:
    std::array<std::uint8_t, 4> bytes_{};
    std::size_t size_;
};

// The nonce of GCM: the salt, then the IV of the packet (RFC 4106 §4).
std::array<std::uint8_t, gcm_salt + gcm_iv> nonce_of(const EspContext& context, Bytes iv)
{
    std::array<std::uint8_t, gcm_salt + gcm_iv> nonce;
    std::memcpy(nonce.data(), context.salt.data(), gcm_salt);
    std::memcpy(nonce.data() + gcm_salt, iv.data(), gcm_iv);
    return nonce;
}

// The 64 bits behind the 32 that came, guessed from the window (RFC 4303 §A2.2). Nothing: it would lie before 0.
std::optional<std::uint64_t> extended_sequence(const ReplayWindow& window, std::uint32_t low)
{
    const auto top_low = static_cast<std::uint32_t>(window.highest());
    const auto top_high = static_cast<std::uint32_t>(window.highest() >> 32);
    const std::uint32_t reach = window.size() == 0 ? 0x7fffffff : window.size() - 1;   // no window: half the circle
    const std::uint32_t bottom = top_low - reach;   // modulo 2^32, as the RFC means it
    auto high = top_high;
    if (top_low >= reach)
        high += low >= bottom ? 0 : 1;
    else if (low >= bottom && high-- == 0)
        return std::nullopt;
    return std::uint64_t{high} << 32 | low;
}

class OpensslBackend final : public CipherBackend {
public:
    explicit OpensslBackend(Rng& rng) : random_(rng) {}

    void seal(std::span<SealJob> jobs) override
    {
        for (auto& job : jobs)
            job.result = seal_one(job);
    }

    void open(std::span<OpenJob> jobs) override
    {
        for (auto& job : jobs)
            job.result = open_one(job);
    }

private:
    Drop seal_one(const SealJob& job);
    void write_iv(const EspContext& context, std::uint64_t sequence, MutableBytes iv);
    Bytes write_trailer(const SealJob& job, std::size_t padding, std::span<std::uint8_t, max_block + 2> room);
    Drop open_one(OpenJob& job);
    EspContext* context_of(Sa& sa, crypto::Cipher::Side side) const;
    std::unique_ptr<EspContext> make_context(const Sa& sa) const;

    RandomPool random_;
    crypto::Library library_;
};

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
    if (context.aead) {
        auto& cipher = *context.sealing;
        const AssociatedData data(job.sa->spi, job.sequence, context.esn);
        return cipher.start(nonce_of(context, iv)) && cipher.associate(data.bytes()) &&
               encrypt(cipher, job, trailer, body) && cipher.read_icv(icv);
    }
    if (!context.encrypts)
        copy(job, trailer, body);
    else if (!context.sealing->start(iv) || !encrypt(*context.sealing, job, trailer, body))
        return false;
    if (!context.mac)
        return true;
    const HighHalf high(job.sequence, context.esn);
    return context.mac->compute(job.out.first(job.out.size() - layout.icv), high.bytes(), icv);
}

Drop OpensslBackend::seal_one(const SealJob& job)
{
    auto* context = context_of(*job.sa, crypto::Cipher::Side::encrypt);
    if (context == nullptr || job.part_count > job.parts.size())
        return Drop::out_crypto;
    const bool may_pass_32_bits = context->esn || (job.sa->flags & SADB_X_EXT_CYCSEQ) != 0;
    if (job.sequence == 0 || (job.sequence > sequence_max && !may_pass_32_bits))
        return Drop::out_sequence_exhausted;
    if (job.out.size() > max_packet)
        return Drop::out_too_big;

    std::size_t payload = 0;
    for (std::size_t i = 0; i < job.part_count; ++i)
        payload += job.parts[i].size();
    const auto& layout = context->layout;
    const auto body = layout.body(payload);
    if (job.out.size() != layout.overhead() + body)
        return Drop::out_crypto;

    wire::set_field<std::uint32_t>(job.out, 0, job.sa->spi);
    wire::set_field<std::uint32_t>(job.out, 4, static_cast<std::uint32_t>(job.sequence));
    write_iv(*context, job.sequence, job.out.subspan(header_size, layout.iv));
    std::array<std::uint8_t, max_block + 2> room;
    const auto trailer = write_trailer(job, body - payload - trailer_size, room);
    return protect(*context, job, trailer) ? Drop::none : Drop::out_crypto;
}

void OpensslBackend::write_iv(const EspContext& context, std::uint64_t sequence, MutableBytes iv)
{
    // RFC 4106 §3.1 asks for an IV that is never used twice under the key; the sequence number is one.
    if (context.aead)
        wire::set_field<std::uint64_t>(iv, 0, sequence);
    else if (!iv.empty())
        random_.take(iv);
}

Bytes OpensslBackend::write_trailer(const SealJob& job, std::size_t padding,
                                    std::span<std::uint8_t, max_block + 2> room)
{
    const auto pad = MutableBytes(room).first(padding);
    switch (job.sa->flags & SADB_X_EXT_PMASK) {
    case SADB_X_EXT_PZERO: std::ranges::fill(pad, std::uint8_t{0}); break;
    case SADB_X_EXT_PRAND: random_.take(pad); break;
    default: std::iota(pad.begin(), pad.end(), std::uint8_t{1}); break;
    }
    room[padding] = static_cast<std::uint8_t>(padding);
    room[padding + 1] = job.next_header;
    return Bytes(room).first(padding + trailer_size);
}

// ---- inbound (RFC 4303 §3.4) ----------------------------------------------------------------------------------------

// Verifies, then decrypts in place; GCM does both at once, and what it wrote is of no use if the ICV was wrong.
bool unprotect(EspContext& context, std::uint32_t spi, std::uint64_t sequence, MutableBytes packet)
{
    const auto& layout = context.layout;
    const auto iv = packet.subspan(header_size, layout.iv);
    const auto body = packet.subspan(header_size + layout.iv, packet.size() - layout.overhead());
    const auto icv = packet.last(layout.icv);
    std::size_t written = 0;
    if (context.aead) {
        auto& cipher = *context.opening;
        const AssociatedData data(spi, sequence, context.esn);
        return cipher.start(nonce_of(context, iv)) && cipher.expect_icv(icv) && cipher.associate(data.bytes()) &&
               cipher.update(body, body, written) && cipher.finish();
    }
    if (context.mac) {
        std::array<std::uint8_t, crypto::Mac::max_size> expected;
        const auto mine = MutableBytes(expected).first(layout.icv);
        const HighHalf high(sequence, context.esn);
        if (!context.mac->compute(packet.first(packet.size() - layout.icv), high.bytes(), mine) ||
            !crypto::equal_constant_time(mine, icv))
            return false;
    }
    if (!context.encrypts)
        return true;
    auto& cipher = *context.opening;
    return cipher.start(iv) && cipher.update(body, body, written) && cipher.finish() && written == body.size();
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

Drop OpensslBackend::open_one(OpenJob& job)
{
    auto& sa = *job.sa;
    job.payload = {};
    auto* context = context_of(sa, crypto::Cipher::Side::decrypt);
    if (context == nullptr)
        return Drop::in_sa_state;
    const auto& layout = context->layout;
    if (job.packet.size() < layout.overhead() + layout.unit)
        return Drop::in_truncated;
    const auto body_size = job.packet.size() - layout.overhead();
    if (body_size % layout.unit != 0)
        return Drop::in_truncated;
    if (job.packet.size() > max_packet)
        return Drop::in_malformed;

    const auto spi = wire::field<std::uint32_t>(job.packet, 0);
    const auto low = wire::field<std::uint32_t>(job.packet, 4);
    const auto sequence = context->esn ? extended_sequence(sa.replay, low) : std::optional<std::uint64_t>(low);
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

bool keys_fit(const Sa& sa)
{
    const auto fits = [](const Algorithm& algorithm, const SecretBytes& key) {
        return algorithm.offered() && algorithm.key_bits_ok(static_cast<unsigned>(key.size() * 8));
    };
    if (sa.cipher == nullptr || !fits(*sa.cipher, sa.cipher_key))
        return false;
    if (sa.cipher->kind == AlgorithmKind::aead)
        return sa.auth == nullptr;
    return sa.auth == nullptr || fits(*sa.auth, sa.auth_key);
}

// The context of an SA, with the cipher of this side keyed. Null if the SA has no keys (yet), or wants what this
// transform does not do: the packet formats before RFC 2406 among it.
EspContext* OpensslBackend::context_of(Sa& sa, crypto::Cipher::Side side) const
{
    if (!sa.context)
        sa.context = make_context(sa);
    auto* context = static_cast<EspContext*>(sa.context.get());
    if (context == nullptr || !context->encrypts)
        return context;
    auto& cipher = side == crypto::Cipher::Side::encrypt ? context->sealing : context->opening;
    if (!cipher) {
        const auto key = sa.cipher_key.bytes();
        cipher = library_.make_cipher(sa.cipher->primitive, key.first(key.size() - sa.cipher->salt), side);
    }
    return cipher ? context : nullptr;
}

std::unique_ptr<EspContext> OpensslBackend::make_context(const Sa& sa) const
{
    constexpr std::uint32_t old_formats = SADB_X_EXT_OLD | SADB_X_EXT_DERIV | SADB_X_EXT_IV4B;
    if (!keys_fit(sa) || (sa.flags & old_formats) != 0)
        return nullptr;
    auto context = std::make_unique<EspContext>(sa);
    context->encrypts = sa.cipher->primitive != Primitive::null;
    context->esn = (sa.flags & SADB_X_SAFLAGS_ESN) != 0;
    if (context->aead)
        std::ranges::copy(sa.cipher_key.bytes().last(sa.cipher->salt), context->salt.begin());
    if (sa.auth != nullptr && sa.auth->primitive != Primitive::null) {
        context->mac = library_.make_mac(sa.auth->primitive, sa.auth_key.bytes());
        if (!context->mac)
            return nullptr;
    }
    return context;
}

}  // namespace

std::unique_ptr<CipherBackend> make_openssl_backend(Rng& rng)
{
    return std::make_unique<OpensslBackend>(rng);
}

std::size_t esp_sealed_size(const Sa& sa, std::size_t n)
{
    const Layout layout(sa);
    return layout.overhead() + layout.body(n);
}

std::size_t esp_payload_room(const Sa& sa, std::size_t room)
{
    const Layout layout(sa);
    if (room < layout.overhead() + layout.unit)
        return 0;
    return (room - layout.overhead()) / layout.unit * layout.unit - trailer_size;
}

}  // namespace latchkey
