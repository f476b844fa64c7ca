// SPDX-License-Identifier: BSD-2-Clause
// Keyed cipher and MAC contexts over OpenSSL's EVP. The key is set once, when an SA is first used; a packet sets its IV
// only. Used by the transforms (esp.cpp, ah.cpp); private to stack/. A call that answers false has an OpenSSL failure
// behind it or an ICV that does not match; the context can be used for the next packet either way.
#pragma once

#include "pfkey/algorithms.hpp"
#include "pfkey/wire.hpp"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/provider.h>

#include <array>
#include <memory>
#include <optional>
#include <variant>

namespace latchkey::crypto {

template <auto Function> struct Free {
    template <class T> void operator()(T* object) const { Function(object); }
};

// Key material of fixed size, wiped when it goes.
template <std::size_t Size> struct Wiped : std::array<std::uint8_t, Size> {
    Wiped() : std::array<std::uint8_t, Size>{} {}
    Wiped(const Wiped&) = default;
    Wiped& operator=(const Wiped&) = default;
    ~Wiped() { OPENSSL_cleanse(this->data(), Size); }
};

// A cipher in one direction under one key: CBC without padding of its own, CTR, GCM, CCM or ChaCha20-Poly1305.
class Cipher {
public:
    enum class Side : std::uint8_t { decrypt = 0, encrypt = 1 };

    bool start(Bytes iv);                                   // the IV or nonce of the next packet
    bool expect_size(std::size_t size);                     // CCM: after start(), the bytes of its one update()
    bool expect_icv(MutableBytes icv);                      // combined modes, decrypting: after start(); lives on
    bool associate(Bytes data);                             // combined modes: authenticated, not encrypted
    bool update(Bytes in, MutableBytes out, std::size_t& written);   // adds to `written`, the place in `out`
    bool finish();                                          // combined modes, decrypting: false if the ICV is wrong
    bool read_icv(MutableBytes icv);                        // combined modes, encrypting: after finish()

private:
    friend class Library;
    using Context = std::unique_ptr<EVP_CIPHER_CTX, Free<EVP_CIPHER_CTX_free>>;
    explicit Cipher(Context context) : context_(std::move(context)) {}

    Context context_;
};

class Hmac {
public:
    using Context = std::unique_ptr<EVP_MAC_CTX, Free<EVP_MAC_CTX_free>>;
    explicit Hmac(Context context);   // with its key
    bool start();
    bool update(Bytes data);
    bool finish(MutableBytes mac);
    std::size_t size() const { return size_; }

private:
    Context context_;
    std::size_t size_;   // asked once: each question is a search through names
};

// RFC 1828 and RFC 1852: digest of key, fill, data, key. The fill is the digest's own padding of the key.
class KeyedDigest {
public:
    static constexpr std::size_t block = 64;
    using Context = std::unique_ptr<EVP_MD_CTX, Free<EVP_MD_CTX_free>>;

    // The key is shorter than a block by at least the padding; nothing if OpenSSL refuses.
    static std::optional<KeyedDigest> make(const EVP_MD* digest, bool little_endian, Bytes key);
    bool start();
    bool update(Bytes data);
    bool finish(MutableBytes mac);
    std::size_t size() const { return size_; }

private:
    Context context_;
    Wiped<block> filled_key_;
    std::size_t key_size_ = 0, size_ = 0;
};

// RFC 3566: AES in CBC over the data, the last block masked by one of two derived keys.
class Xcbc {
public:
    static constexpr std::size_t block = 16;
    using Context = std::unique_ptr<EVP_CIPHER_CTX, Free<EVP_CIPHER_CTX_free>>;

    static std::optional<Xcbc> make(const EVP_CIPHER* aes_cbc, Bytes key);
    bool start();
    bool update(Bytes data);
    bool finish(MutableBytes mac);
    static std::size_t size() { return block; }

private:
    bool chain(Bytes blocks, MutableBytes last);

    Context context_;
    Wiped<block> full_mask_, padded_mask_;
    std::array<std::uint8_t, block> pending_{};   // the block that may be the last one
    std::size_t pending_size_ = 0;
};

// A MAC under one key.
class Mac {
public:
    static constexpr std::size_t max_size = EVP_MAX_MD_SIZE;

    bool start();
    bool update(Bytes data);
    bool finish(MutableBytes icv);   // icv may be shorter than the MAC

    // The MAC over two pieces, the second one often empty.
    bool compute(Bytes first, Bytes second, MutableBytes icv);

private:
    friend class Library;
    using Kind = std::variant<Hmac, KeyedDigest, Xcbc>;
    explicit Mac(Kind kind) : kind_(std::move(kind)) {}

    Kind kind_;
};

// The algorithm objects, fetched once: fetching is a search through the providers and costs more than a packet. What
// the system's configuration does not offer (DES, CAST and Blowfish are OpenSSL's "legacy") is looked for in a context
// of our own, so that the program around us sees no provider that it did not load. Outlives what it made.
class Library {
public:
    Library();

    // The key without a salt. Nothing if the primitive is not a cipher, the key's size is not one of its sizes, or
    // OpenSSL here does not have it. `icv`: bytes of ICV, which CCM has to know with the key.
    std::optional<Cipher> make_cipher(Primitive primitive, Bytes key, Cipher::Side side, std::size_t icv = 0) const;
    std::optional<Mac> make_mac(Primitive primitive, Bytes key) const;

    // Can a row of algorithms[] be run? Answered by trying, with the smallest and the largest key.
    bool runs(const Algorithm& algorithm) const;

private:
    using Own = std::unique_ptr<OSSL_LIB_CTX, Free<OSSL_LIB_CTX_free>>;
    using CipherPointer = std::unique_ptr<EVP_CIPHER, Free<EVP_CIPHER_free>>;
    using DigestPointer = std::unique_ptr<EVP_MD, Free<EVP_MD_free>>;
    using MacPointer = std::unique_ptr<EVP_MAC, Free<EVP_MAC_free>>;
    using ProviderPointer = std::unique_ptr<OSSL_PROVIDER, Free<OSSL_PROVIDER_unload>>;

    const EVP_CIPHER* find(Primitive primitive, std::size_t key_size) const;
    std::optional<Mac> make_hmac(const char* digest, Bytes key) const;

    Own own_;
    std::array<ProviderPointer, 2> providers_;
    std::array<CipherPointer, 23> ciphers_;
    DigestPointer md5_, sha1_;
    std::array<MacPointer, 2> hmac_;   // of the system's configuration, of our own context
};

bool equal_constant_time(Bytes a, Bytes b);

}  // namespace latchkey::crypto
