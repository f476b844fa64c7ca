// SPDX-License-Identifier: BSD-2-Clause
// Keyed cipher and MAC contexts over OpenSSL's EVP. The key is set once, when an SA is first used; a packet sets its IV
// only. Used by the transforms (esp.cpp); private to stack/. A call that answers false has an OpenSSL failure behind it
// or an ICV that does not match; the context can be used for the next packet either way.
#pragma once

#include "pfkey/algorithms.hpp"
#include "pfkey/wire.hpp"

#include <openssl/evp.h>

#include <array>
#include <memory>
#include <optional>

namespace latchkey::crypto {

template <auto Function> struct Free {
    template <class T> void operator()(T* object) const { Function(object); }
};

// A cipher in one direction under one key: AES-CBC without padding of its own, or AES-GCM.
class Cipher {
public:
    enum class Side : std::uint8_t { decrypt = 0, encrypt = 1 };

    bool start(Bytes iv);                                   // the IV of the next packet
    bool expect_icv(MutableBytes icv);                      // GCM, decrypting: after start(); must live until finish()
    bool associate(Bytes data);                             // GCM: authenticated, not encrypted
    bool update(Bytes in, MutableBytes out, std::size_t& written);   // adds to `written`, the place in `out`
    bool finish();                                          // GCM, decrypting: false if the ICV does not match
    bool read_icv(MutableBytes icv);                        // GCM, encrypting: after finish()

private:
    friend class Library;
    using Context = std::unique_ptr<EVP_CIPHER_CTX, Free<EVP_CIPHER_CTX_free>>;
    explicit Cipher(Context context) : context_(std::move(context)) {}

    Context context_;
};

// HMAC under one key.
class Mac {
public:
    static constexpr std::size_t max_size = EVP_MAX_MD_SIZE;

    // The MAC over two pieces, the second one often empty; icv may be shorter than the MAC.
    bool compute(Bytes first, Bytes second, MutableBytes icv);

private:
    friend class Library;
    using Context = std::unique_ptr<EVP_MAC_CTX, Free<EVP_MAC_CTX_free>>;
    explicit Mac(Context context) : context_(std::move(context)) {}

    Context context_;
};

// The algorithm objects, fetched once: fetching is a search through the providers and costs more than a packet.
class Library {
public:
    Library();

    // The key without a salt. Nothing if the primitive is not a cipher, or the key's size is not one of its sizes.
    std::optional<Cipher> make_cipher(Primitive primitive, Bytes key, Cipher::Side side) const;
    std::optional<Mac> make_mac(Primitive primitive, Bytes key) const;

private:
    using CipherPointer = std::unique_ptr<EVP_CIPHER, Free<EVP_CIPHER_free>>;
    using MacPointer = std::unique_ptr<EVP_MAC, Free<EVP_MAC_free>>;

    const EVP_CIPHER* find(Primitive primitive, std::size_t key_size) const;

    std::array<CipherPointer, 6> ciphers_;
    MacPointer hmac_;
};

bool equal_constant_time(Bytes a, Bytes b);

}  // namespace latchkey::crypto
