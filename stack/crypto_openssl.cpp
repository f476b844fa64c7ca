// SPDX-License-Identifier: BSD-2-Clause
#include "stack/crypto.hpp"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>

#include <cstring>

namespace latchkey::crypto {

namespace {

struct CipherRow {
    Primitive primitive;
    std::size_t key_size;
    const char* name;
};

constexpr std::array<CipherRow, 6> cipher_rows{{
    {Primitive::aes_gcm, 16, "AES-128-GCM"},
    {Primitive::aes_gcm, 24, "AES-192-GCM"},
    {Primitive::aes_gcm, 32, "AES-256-GCM"},
    {Primitive::aes_cbc, 16, "AES-128-CBC"},
    {Primitive::aes_cbc, 24, "AES-192-CBC"},
    {Primitive::aes_cbc, 32, "AES-256-CBC"},
}};

const char* digest_name(Primitive primitive)
{
    switch (primitive) {
    case Primitive::hmac_sha1: return "SHA1";
    case Primitive::hmac_sha256: return "SHA256";
    default: return nullptr;
    }
}

}  // namespace

bool Cipher::start(Bytes iv)
{
    constexpr int keep_direction = -1;
    return EVP_CipherInit_ex2(context_.get(), nullptr, nullptr, iv.data(), keep_direction, nullptr) == 1;
}

bool Cipher::associate(Bytes data)
{
    int ignored = 0;
    return EVP_CipherUpdate(context_.get(), nullptr, &ignored, data.data(), static_cast<int>(data.size())) == 1;
}

bool Cipher::update(Bytes in, MutableBytes out, std::size_t& written)
{
    if (in.empty())
        return true;
    int more = 0;
    auto* to = out.subspan(written).data();
    if (EVP_CipherUpdate(context_.get(), to, &more, in.data(), static_cast<int>(in.size())) != 1)
        return false;
    written += static_cast<std::size_t>(more);
    return true;
}

bool Cipher::finish()
{
    // Neither a stream mode nor CBC without padding has bytes left to write here.
    std::array<std::uint8_t, EVP_MAX_BLOCK_LENGTH> nothing;
    int ignored = 0;
    return EVP_CipherFinal_ex(context_.get(), nothing.data(), &ignored) == 1;
}

bool Cipher::expect_icv(MutableBytes icv)
{
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, icv.data(), icv.size()),
        OSSL_PARAM_END,
    };
    return EVP_CIPHER_CTX_set_params(context_.get(), parameters) == 1;
}

bool Cipher::read_icv(MutableBytes icv)
{
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, icv.data(), icv.size()),
        OSSL_PARAM_END,
    };
    return EVP_CIPHER_CTX_get_params(context_.get(), parameters) == 1;
}

bool Mac::compute(Bytes first, Bytes second, MutableBytes icv)
{
    std::array<std::uint8_t, max_size> whole;
    std::size_t size = 0;
    // Without a key the context starts again from the state that the key gave it.
    if (EVP_MAC_init(context_.get(), nullptr, 0, nullptr) != 1)
        return false;
    if (EVP_MAC_update(context_.get(), first.data(), first.size()) != 1)
        return false;
    if (!second.empty() && EVP_MAC_update(context_.get(), second.data(), second.size()) != 1)
        return false;
    if (EVP_MAC_final(context_.get(), whole.data(), &size, whole.size()) != 1 || size < icv.size())
        return false;
    std::memcpy(icv.data(), whole.data(), icv.size());
    return true;
}

Library::Library() : hmac_(EVP_MAC_fetch(nullptr, "HMAC", nullptr))
{
    for (std::size_t i = 0; i < ciphers_.size(); ++i)
        ciphers_[i].reset(EVP_CIPHER_fetch(nullptr, cipher_rows[i].name, nullptr));
}

const EVP_CIPHER* Library::find(Primitive primitive, std::size_t key_size) const
{
    for (std::size_t i = 0; i < cipher_rows.size(); ++i)
        if (cipher_rows[i].primitive == primitive && cipher_rows[i].key_size == key_size)
            return ciphers_[i].get();
    return nullptr;
}

std::optional<Cipher> Library::make_cipher(Primitive primitive, Bytes key, Cipher::Side side) const
{
    const auto* algorithm = find(primitive, key.size());
    Cipher::Context context(EVP_CIPHER_CTX_new());
    if (algorithm == nullptr || !context)
        return std::nullopt;
    if (EVP_CipherInit_ex2(context.get(), algorithm, key.data(), nullptr, static_cast<int>(side), nullptr) != 1)
        return std::nullopt;
    if (EVP_CIPHER_CTX_set_padding(context.get(), 0) != 1)
        return std::nullopt;
    return Cipher(std::move(context));
}

std::optional<Mac> Library::make_mac(Primitive primitive, Bytes key) const
{
    const char* digest = digest_name(primitive);
    if (digest == nullptr || !hmac_ || key.empty())
        return std::nullopt;
    Mac::Context context(EVP_MAC_CTX_new(hmac_.get()));
    if (!context)
        return std::nullopt;
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_utf8_string(OSSL_MAC_PARAM_DIGEST, const_cast<char*>(digest), std::strlen(digest)),
        OSSL_PARAM_END,
    };
    if (EVP_MAC_init(context.get(), key.data(), key.size(), parameters) != 1)
        return std::nullopt;
    return Mac(std::move(context));
}

bool equal_constant_time(Bytes a, Bytes b)
{
    return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace latchkey::crypto
