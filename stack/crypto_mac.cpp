// SPDX-License-Identifier: BSD-2-Clause
#include "stack/crypto.hpp"

#include <algorithm>
#include <cstring>

namespace latchkey::crypto {

// ---- Mac ------------------------------------------------------------------------------------------------------------

bool Mac::start()
{
    return std::visit([](auto& kind) { return kind.start(); }, kind_);
}

bool Mac::update(Bytes data)
{
    return std::visit([&](auto& kind) { return kind.update(data); }, kind_);
}

bool Mac::finish(MutableBytes icv)
{
    std::array<std::uint8_t, max_size> whole;
    const auto truncated = [&](auto& kind) {
        const auto size = kind.size();
        return size <= whole.size() && icv.size() <= size && kind.finish(MutableBytes(whole).first(size));
    };
    if (!std::visit(truncated, kind_))
        return false;
    std::memcpy(icv.data(), whole.data(), icv.size());
    return true;
}

bool Mac::compute(Bytes first, Bytes second, MutableBytes icv)
{
    return start() && update(first) && (second.empty() || update(second)) && finish(icv);
}

// ---- HMAC (RFC 2104) ------------------------------------------------------------------------------------------------

Hmac::Hmac(Context context) : context_(std::move(context)), size_(EVP_MAC_CTX_get_mac_size(context_.get())) {}

bool Hmac::start()
{
    // Without a key the context starts again from the state that the key gave it.
    return EVP_MAC_init(context_.get(), nullptr, 0, nullptr) == 1;
}

bool Hmac::update(Bytes data)
{
    return EVP_MAC_update(context_.get(), data.data(), data.size()) == 1;
}

bool Hmac::finish(MutableBytes mac)
{
    std::size_t size = 0;
    return EVP_MAC_final(context_.get(), mac.data(), &size, mac.size()) == 1 && size == mac.size();
}

// ---- keyed digests (RFC 1828, RFC 1852) -----------------------------------------------------------------------------

std::optional<KeyedDigest> KeyedDigest::make(const EVP_MD* digest, bool little_endian, Bytes key)
{
    constexpr std::size_t length_field = 8;
    KeyedDigest made;
    made.context_.reset(EVP_MD_CTX_new());
    if (digest == nullptr || !made.context_ || key.size() >= block - length_field ||
        EVP_DigestInit_ex2(made.context_.get(), digest, nullptr) != 1)
        return std::nullopt;
    // The padding of the digest: one bit, zeros, the length in bits in the digest's byte order.
    std::ranges::copy(key, made.filled_key_.begin());
    made.filled_key_[key.size()] = 0x80;
    const auto bits = static_cast<std::uint64_t>(key.size() * 8);
    for (std::size_t i = 0; i < length_field; ++i)
        made.filled_key_[block - 1 - i] = static_cast<std::uint8_t>(bits >> 8 * (little_endian ? length_field - 1 - i : i));
    made.key_size_ = key.size();
    made.size_ = static_cast<std::size_t>(EVP_MD_get_size(digest));
    return made;
}

bool KeyedDigest::start()
{
    return EVP_DigestInit_ex2(context_.get(), nullptr, nullptr) == 1 && update(filled_key_);
}

bool KeyedDigest::update(Bytes data)
{
    return EVP_DigestUpdate(context_.get(), data.data(), data.size()) == 1;
}

bool KeyedDigest::finish(MutableBytes mac)
{
    unsigned size = 0;
    return update(Bytes(filled_key_).first(key_size_)) && EVP_DigestFinal_ex(context_.get(), mac.data(), &size) == 1 &&
           size == mac.size();
}

// ---- AES-XCBC-MAC (RFC 3566) ----------------------------------------------------------------------------------------

namespace {

constexpr std::array<std::uint8_t, Xcbc::block> no_iv{};

bool start_chain(EVP_CIPHER_CTX* context, const std::uint8_t* key)
{
    constexpr int encrypt = 1;
    return EVP_CipherInit_ex2(context, nullptr, key, no_iv.data(), encrypt, nullptr) == 1;
}

// One block under the key of the context; from a zero IV, CBC does what ECB would.
template <class Block> bool derive(EVP_CIPHER_CTX* context, std::uint8_t constant, Block& out)
{
    std::array<std::uint8_t, Xcbc::block> in;
    in.fill(constant);
    int size = 0;
    return start_chain(context, nullptr) && EVP_CipherUpdate(context, out.data(), &size, in.data(), in.size()) == 1;
}

}  // namespace

std::optional<Xcbc> Xcbc::make(const EVP_CIPHER* aes_cbc, Bytes key)
{
    Xcbc made;
    made.context_.reset(EVP_CIPHER_CTX_new());
    auto* context = made.context_.get();
    Wiped<block> chain_key;
    constexpr int encrypt = 1;
    if (aes_cbc == nullptr || context == nullptr || key.size() != block ||
        EVP_CipherInit_ex2(context, aes_cbc, key.data(), no_iv.data(), encrypt, nullptr) != 1 ||
        EVP_CIPHER_CTX_set_padding(context, 0) != 1 || !derive(context, 1, chain_key) ||
        !derive(context, 2, made.full_mask_) || !derive(context, 3, made.padded_mask_) ||
        !start_chain(context, chain_key.data()))
        return std::nullopt;
    return made;
}

bool Xcbc::start()
{
    pending_size_ = 0;
    return start_chain(context_.get(), nullptr);
}

bool Xcbc::update(Bytes data)
{
    std::array<std::uint8_t, block> chained;
    while (!data.empty()) {
        if (pending_size_ == block) {   // more comes: it was not the last block
            if (!chain(pending_, chained))
                return false;
            pending_size_ = 0;
        }
        if (pending_size_ == 0 && data.size() > block) {
            const auto whole = data.first((data.size() - 1) / block * block);
            if (!chain(whole, chained))
                return false;
            data = data.subspan(whole.size());
        }
        const auto piece = data.first(std::min(data.size(), block - pending_size_));
        std::ranges::copy(piece, pending_.begin() + static_cast<std::ptrdiff_t>(pending_size_));
        pending_size_ += piece.size();
        data = data.subspan(piece.size());
    }
    return true;
}

bool Xcbc::finish(MutableBytes mac)
{
    const auto& mask = pending_size_ == block ? full_mask_ : padded_mask_;
    if (pending_size_ < block) {
        std::ranges::fill(std::span(pending_).subspan(pending_size_), std::uint8_t{0});
        pending_[pending_size_] = 0x80;
    }
    for (std::size_t i = 0; i < block; ++i)
        pending_[i] ^= mask[i];
    return chain(pending_, mac);
}

// Whole blocks through the cipher; only the last one of the ciphertext is of interest.
bool Xcbc::chain(Bytes blocks, MutableBytes last)
{
    std::array<std::uint8_t, 32 * block> out;
    while (!blocks.empty()) {
        const auto piece = blocks.first(std::min(blocks.size(), out.size()));
        int size = 0;
        if (EVP_CipherUpdate(context_.get(), out.data(), &size, piece.data(), static_cast<int>(piece.size())) != 1 ||
            static_cast<std::size_t>(size) != piece.size())
            return false;
        blocks = blocks.subspan(piece.size());
        if (blocks.empty())
            std::ranges::copy(Bytes(out).first(piece.size()).last(block), last.begin());
    }
    return true;
}

}  // namespace latchkey::crypto
