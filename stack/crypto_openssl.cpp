// SPDX-License-Identifier: BSD-2-Clause
#include "stack/crypto.hpp"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>

#include <cstring>
#include <vector>

namespace latchkey::crypto {

namespace {

struct CipherRow {
    Primitive primitive;
    std::size_t key_size;   // 0: any that the table of algorithms allows
    const char* name;
};

constexpr CipherRow cipher_rows[] = {
    {Primitive::aes_gcm, 16, "AES-128-GCM"},
    {Primitive::aes_gcm, 24, "AES-192-GCM"},
    {Primitive::aes_gcm, 32, "AES-256-GCM"},
    {Primitive::aes_cbc, 16, "AES-128-CBC"},
    {Primitive::aes_cbc, 24, "AES-192-CBC"},
    {Primitive::aes_cbc, 32, "AES-256-CBC"},
    {Primitive::aes_ctr, 16, "AES-128-CTR"},
    {Primitive::aes_ctr, 24, "AES-192-CTR"},
    {Primitive::aes_ctr, 32, "AES-256-CTR"},
    {Primitive::aes_ccm, 16, "AES-128-CCM"},
    {Primitive::aes_ccm, 24, "AES-192-CCM"},
    {Primitive::aes_ccm, 32, "AES-256-CCM"},
    {Primitive::aes_gmac, 16, "AES-128-GCM"},
    {Primitive::aes_gmac, 24, "AES-192-GCM"},
    {Primitive::aes_gmac, 32, "AES-256-GCM"},
    {Primitive::chacha20_poly1305, 32, "ChaCha20-Poly1305"},
    {Primitive::camellia_cbc, 16, "CAMELLIA-128-CBC"},
    {Primitive::camellia_cbc, 24, "CAMELLIA-192-CBC"},
    {Primitive::camellia_cbc, 32, "CAMELLIA-256-CBC"},
    {Primitive::des3_cbc, 24, "DES-EDE3-CBC"},
    {Primitive::des_cbc, 8, "DES-CBC"},
    {Primitive::cast_cbc, 0, "CAST5-CBC"},
    {Primitive::blowfish_cbc, 0, "BF-CBC"},
};

struct HmacRow {
    Primitive primitive;
    const char* digest;
};

constexpr HmacRow hmac_rows[] = {
    {Primitive::hmac_md5, "MD5"},          {Primitive::hmac_sha1, "SHA1"},
    {Primitive::hmac_sha256, "SHA256"},    {Primitive::hmac_sha384, "SHA384"},
    {Primitive::hmac_sha512, "SHA512"},    {Primitive::hmac_ripemd160, "RIPEMD160"},
};

constexpr std::size_t ccm_nonce = 11;   // RFC 4309 §4

// Fetching what is not there leaves errors in OpenSSL's queue of this thread, which is not ours alone.
class QuietErrors {
public:
    QuietErrors() { ERR_set_mark(); }
    ~QuietErrors() { ERR_pop_to_mark(); }
    QuietErrors(const QuietErrors&) = delete;
    QuietErrors& operator=(const QuietErrors&) = delete;
};

// CCM has to know both sizes before its key.
bool set_ccm_sizes(EVP_CIPHER_CTX* context, std::size_t icv)
{
    return EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_IVLEN, static_cast<int>(ccm_nonce), nullptr) == 1 &&
           EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, static_cast<int>(icv), nullptr) == 1;
}

}  // namespace

// ---- a packet -------------------------------------------------------------------------------------------------------

bool Cipher::start(Bytes iv)
{
    constexpr int keep_direction = -1;
    return EVP_CipherInit_ex2(context_.get(), nullptr, nullptr, iv.data(), keep_direction, nullptr) == 1;
}

bool Cipher::expect_size(std::size_t size)
{
    int ignored = 0;
    return EVP_CipherUpdate(context_.get(), nullptr, &ignored, nullptr, static_cast<int>(size)) == 1;
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

// ---- keys -----------------------------------------------------------------------------------------------------------

Library::Library()
{
    static_assert(std::size(cipher_rows) == std::tuple_size_v<decltype(ciphers_)>);
    const QuietErrors quiet;
    own_.reset(OSSL_LIB_CTX_new());
    if (own_) {
        providers_[0].reset(OSSL_PROVIDER_load(own_.get(), "legacy"));
        providers_[1].reset(OSSL_PROVIDER_load(own_.get(), "default"));
    }
    for (std::size_t i = 0; i < ciphers_.size(); ++i) {
        const char* name = cipher_rows[i].name;
        ciphers_[i].reset(EVP_CIPHER_fetch(nullptr, name, nullptr));
        if (!ciphers_[i] && own_)
            ciphers_[i].reset(EVP_CIPHER_fetch(own_.get(), name, nullptr));
    }
    md5_.reset(EVP_MD_fetch(nullptr, "MD5", nullptr));
    sha1_.reset(EVP_MD_fetch(nullptr, "SHA1", nullptr));
    hmac_[0].reset(EVP_MAC_fetch(nullptr, "HMAC", nullptr));
    if (own_)
        hmac_[1].reset(EVP_MAC_fetch(own_.get(), "HMAC", nullptr));
}

const EVP_CIPHER* Library::find(Primitive primitive, std::size_t key_size) const
{
    for (std::size_t i = 0; i < ciphers_.size(); ++i) {
        const auto& row = cipher_rows[i];
        if (row.primitive == primitive && (row.key_size == key_size || (row.key_size == 0 && key_size != 0)))
            return ciphers_[i].get();
    }
    return nullptr;
}

std::optional<Cipher> Library::make_cipher(Primitive primitive, Bytes key, Cipher::Side side, std::size_t icv) const
{
    const auto* algorithm = find(primitive, key.size());
    Cipher::Context context(EVP_CIPHER_CTX_new());
    if (algorithm == nullptr || !context)
        return std::nullopt;
    const QuietErrors quiet;
    const int direction = static_cast<int>(side);
    if (EVP_CipherInit_ex2(context.get(), algorithm, nullptr, nullptr, direction, nullptr) != 1)
        return std::nullopt;
    if (primitive == Primitive::aes_ccm && !set_ccm_sizes(context.get(), icv))
        return std::nullopt;
    const int size = static_cast<int>(key.size());
    if (EVP_CIPHER_CTX_get_key_length(context.get()) != size &&
        EVP_CIPHER_CTX_set_key_length(context.get(), size) != 1)
        return std::nullopt;
    if (EVP_CipherInit_ex2(context.get(), nullptr, key.data(), nullptr, direction, nullptr) != 1)
        return std::nullopt;
    if (EVP_CIPHER_CTX_set_padding(context.get(), 0) != 1)
        return std::nullopt;
    return Cipher(std::move(context));
}

std::optional<Mac> Library::make_mac(Primitive primitive, Bytes key) const
{
    if (key.empty())
        return std::nullopt;
    const QuietErrors quiet;
    const auto wrapped = [](auto made) {
        return made ? std::optional(Mac(Mac::Kind(std::move(*made)))) : std::nullopt;
    };
    switch (primitive) {
    case Primitive::keyed_md5: return wrapped(KeyedDigest::make(md5_.get(), true, key));
    case Primitive::keyed_sha1: return wrapped(KeyedDigest::make(sha1_.get(), false, key));
    case Primitive::aes_xcbc: return wrapped(Xcbc::make(find(Primitive::aes_cbc, Xcbc::block), key));
    default: break;
    }
    for (const auto& row : hmac_rows)
        if (row.primitive == primitive)
            return make_hmac(row.digest, key);
    return std::nullopt;
}

std::optional<Mac> Library::make_hmac(const char* digest, Bytes key) const
{
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_utf8_string(OSSL_MAC_PARAM_DIGEST, const_cast<char*>(digest), std::strlen(digest)),
        OSSL_PARAM_END,
    };
    for (const auto& hmac : hmac_) {
        Hmac::Context context(hmac ? EVP_MAC_CTX_new(hmac.get()) : nullptr);
        if (context && EVP_MAC_init(context.get(), key.data(), key.size(), parameters) == 1)
            return Mac(Mac::Kind(Hmac(std::move(context))));
    }
    return std::nullopt;
}

bool Library::runs(const Algorithm& algorithm) const
{
    if (algorithm.primitive == Primitive::null || algorithm.kind == AlgorithmKind::compression)
        return algorithm.offered();
    for (const unsigned bits : {algorithm.key_min, algorithm.key_max}) {
        const std::vector<std::uint8_t> key(bits / 8 - algorithm.salt, 0x5a);
        const bool made = algorithm.kind == AlgorithmKind::auth
                              ? make_mac(algorithm.primitive, key).has_value()
                              : make_cipher(algorithm.primitive, key, Cipher::Side::encrypt, algorithm.icv).has_value();
        if (!made)
            return false;
    }
    return true;
}

bool equal_constant_time(Bytes a, Bytes b)
{
    return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace latchkey::crypto
