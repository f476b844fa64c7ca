// SPDX-License-Identifier: BSD-2-Clause
// What ESP and AH cost per packet, against the bare OpenSSL calls that any implementation on OpenSSL has to make, measured in
// the same run. Prints ns per packet and the ratio. With --check R: exit status 1 if any ratio is above R, 77 (skipped)
// in a build whose times mean nothing.
#include "stack/esp.hpp"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <sodium.h>
#include <string>
#include <string_view>
#include <vector>

using namespace latchkey;

namespace {

using Buffer = std::vector<std::uint8_t>;

constexpr int packets = 4000;   // per slot
constexpr int slots = 15;       // the best one counts: the others were disturbed

constexpr int skipped = 77;

#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
constexpr bool meaningful = true;
#else
constexpr bool meaningful = false;
#endif

struct SodiumRng : Rng {
    void fill(MutableBytes out) override { randombytes_buf(out.data(), out.size()); }
};

double thread_ns()
{
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

[[noreturn]] void broken(const char* what)
{
    std::fprintf(stderr, "esp_bench: %s failed\n", what);
    std::exit(2);
}

struct Times {
    double bare = 1e18;
    double ours = 1e18;
};

// The two are measured in turns, so that a disturbance of the machine meets both. `prepare` stays outside the clock.
template <class Prepare, class Bare, class Ours> Times compare(Prepare prepare, Bare bare, Ours ours)
{
    Times best;
    for (int slot = 0; slot < slots; ++slot) {
        const auto measure = [&](auto& work) {
            prepare();
            const auto start = thread_ns();
            for (int i = 0; i < packets; ++i)
                work(i);
            return (thread_ns() - start) / packets;
        };
        best.bare = std::min(best.bare, measure(bare));
        best.ours = std::min(best.ours, measure(ours));
    }
    return best;
}

// The least that one packet needs from OpenSSL: IV, data, ICV. Contexts are keyed before; no framing, no copies.
class Bare {
public:
    Bare(const Sa& sa, const char* cipher, bool encrypting) : aead_(sa.auth == nullptr), encrypting_(encrypting)
    {
        const auto key = sa.cipher_key.bytes();
        cipher_.reset(EVP_CIPHER_CTX_new());
        const std::unique_ptr<EVP_CIPHER, decltype(&EVP_CIPHER_free)> algorithm(
            EVP_CIPHER_fetch(nullptr, cipher, nullptr), EVP_CIPHER_free);
        if (EVP_CipherInit_ex2(cipher_.get(), algorithm.get(), key.data(), nullptr, encrypting, nullptr) != 1)
            broken("EVP_CipherInit_ex2");
        EVP_CIPHER_CTX_set_padding(cipher_.get(), 0);
        if (!aead_)
            key_mac(sa);
    }

    // AH: the signature alone.
    explicit Bare(const Sa& sa) : aead_(false), encrypting_(false) { key_mac(sa); }

    bool authenticate(const Buffer& packet, std::size_t size)
    {
        std::size_t length = 0;
        return EVP_MAC_init(mac_.get(), nullptr, 0, nullptr) == 1 &&
               EVP_MAC_update(mac_.get(), packet.data(), size) == 1 &&
               EVP_MAC_final(mac_.get(), spare_.data(), &length, spare_.size()) == 1;
    }

    // Whole packets without their ICVs; out may be in. What they hold does not matter: the ICV of GCM is not judged.
    bool run(std::uint64_t number, const Buffer& in, Buffer& out, std::size_t size)
    {
        const std::size_t head = aead_ ? 16 : 24;
        std::memcpy(iv_.data() + 4, &number, sizeof number);
        int more = 0;
        const int length = static_cast<int>(size - head);
        if (!aead_ && !encrypting_ && !authenticate(in, size))
            return false;
        if (EVP_CipherInit_ex2(cipher_.get(), nullptr, nullptr, iv_.data(), -1, nullptr) != 1)
            return false;
        if (aead_ && !encrypting_ && EVP_CIPHER_CTX_set_params(cipher_.get(), tag_) != 1)
            return false;
        if (aead_ && EVP_CipherUpdate(cipher_.get(), nullptr, &more, header_.data(), 8) != 1)
            return false;
        if (EVP_CipherUpdate(cipher_.get(), out.data() + head, &more, in.data() + head, length) != 1)
            return false;
        const bool ended = EVP_CipherFinal_ex(cipher_.get(), spare_.data(), &more) == 1;
        if (aead_)
            return !encrypting_ || (ended && EVP_CIPHER_CTX_get_params(cipher_.get(), tag_) == 1);
        return ended && (!encrypting_ || authenticate(out, size));
    }

private:
    void key_mac(const Sa& sa)
    {
        std::string digest = sa.auth->primitive == Primitive::hmac_sha1 ? "SHA1" : "SHA256";
        const OSSL_PARAM parameters[] = {
            OSSL_PARAM_utf8_string(OSSL_MAC_PARAM_DIGEST, digest.data(), digest.size()), OSSL_PARAM_END};
        const std::unique_ptr<EVP_MAC, decltype(&EVP_MAC_free)> hmac(EVP_MAC_fetch(nullptr, "HMAC", nullptr),
                                                                     EVP_MAC_free);
        mac_.reset(EVP_MAC_CTX_new(hmac.get()));
        if (EVP_MAC_init(mac_.get(), sa.auth_key.bytes().data(), sa.auth_key.size(), parameters) != 1)
            broken("EVP_MAC_init");
    }

    bool aead_, encrypting_;
    std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> cipher_{nullptr, EVP_CIPHER_CTX_free};
    std::unique_ptr<EVP_MAC_CTX, decltype(&EVP_MAC_CTX_free)> mac_{nullptr, EVP_MAC_CTX_free};
    std::array<std::uint8_t, 16> iv_{}, header_{}, icv_{};
    std::array<std::uint8_t, 64> spare_{};
    OSSL_PARAM tag_[2] = {OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, icv_.data(), icv_.size()),
                          OSSL_PARAM_END};
};

struct Suite {
    const char* name;
    const char* evp;
    const char* cipher;
    std::size_t key;
    const char* auth;
};

Sa make_sa(const Suite& suite)
{
    Sa sa;
    sa.spi = 0x1001;
    sa.state = SaState::mature;
    sa.protocol = suite.cipher == nullptr ? ip_proto::ah : ip_proto::esp;
    if (suite.cipher != nullptr) {
        sa.cipher = algorithm_by_name(AlgorithmKind::cipher, suite.cipher);
        sa.cipher_key = SecretBytes(Buffer(suite.key, 0x42));
    }
    if (suite.auth != nullptr) {
        sa.auth = algorithm_by_name(AlgorithmKind::auth, suite.auth);
        sa.auth_key = SecretBytes(Buffer(sa.auth->key_min / 8u, 0x17));
    }
    sa.replay = ReplayWindow(64);
    return sa;
}

std::size_t icv_size(const Sa& sa)
{
    return sa.auth != nullptr ? sa.auth->icv : sa.cipher->icv;
}

SealJob seal_job(Sa& sa, const Buffer& payload, Buffer& packet)
{
    SealJob job;
    job.sa = &sa;
    job.next_header = ip_proto::ipv4;
    job.parts[0] = payload;
    job.part_count = 1;
    job.out = packet;
    return job;
}

Times outbound(const Suite& suite, std::size_t size)
{
    SodiumRng rng;
    const auto backend = make_openssl_backend(rng);
    auto sa = make_sa(suite);
    Bare bare(sa, suite.evp, true);
    const Buffer payload(size, 0xa5);
    Buffer packet(esp_sealed_size(sa, size)), plain(packet.size()), out(packet.size());
    const auto covered = packet.size() - icv_size(sa);
    auto job = seal_job(sa, payload, packet);
    return compare(
        [] {},
        [&](int i) {
            if (!bare.run(static_cast<std::uint64_t>(i), plain, out, covered))
                broken("bare encryption");
        },
        [&](int) {
            job.sequence = ++sa.sequence;
            backend->seal({&job, 1});
            if (job.result != Drop::none)
                broken("seal");
        });
}

Times inbound(const Suite& suite, std::size_t size)
{
    SodiumRng rng;
    const auto backend = make_openssl_backend(rng);
    auto sender = make_sa(suite), receiver = make_sa(suite);
    Bare bare(receiver, suite.evp, false);
    const Buffer payload(size, 0xa5);
    const auto length = esp_sealed_size(sender, size);
    const auto covered = length - icv_size(sender);
    std::vector<Buffer> all(packets, Buffer(length));
    OpenJob job;
    job.sa = &receiver;
    return compare(
        [&] {
            for (auto& packet : all) {
                auto out = seal_job(sender, payload, packet);
                out.sequence = ++sender.sequence;
                backend->seal({&out, 1});
            }
        },
        [&](int i) {
            auto& packet = all[static_cast<std::size_t>(i)];
            if (!bare.run(static_cast<std::uint64_t>(i), packet, packet, covered))
                broken("bare decryption");
        },
        [&](int i) {
            job.packet = all[static_cast<std::size_t>(i)];
            backend->open({&job, 1});
            if (job.result != Drop::none)
                broken("open");
        });
}

// AH: our own signature is checked again and again, with the window off.
Times signature(const Suite& suite, std::size_t size, bool out)
{
    constexpr std::size_t at = 20;
    SodiumRng rng;
    const auto backend = make_openssl_backend(rng);
    auto sa = make_sa(suite);
    sa.replay = ReplayWindow();
    Bare bare(sa);
    Buffer datagram(at + ah_size(sa, Family::v4) + size, 0xa5);
    datagram[0] = 0x45;
    AhSealJob seal;
    seal.sa = &sa;
    seal.datagram = datagram;
    seal.at = at;
    AhOpenJob open;
    open.sa = &sa;
    open.datagram = datagram;
    open.at = at;
    const auto sign = [&] {
        seal.sequence = ++sa.sequence;
        backend->seal({&seal, 1});
        if (seal.result != Drop::none)
            broken("AH seal");
    };
    const auto verify = [&] {
        backend->open({&open, 1});
        if (open.result != Drop::none)
            broken("AH open");
    };
    return compare(
        sign,
        [&](int) {
            if (!bare.authenticate(datagram, datagram.size()))
                broken("bare signature");
        },
        [&](int) { out ? sign() : verify(); });
}

}  // namespace

int main(int argc, char** argv)
{
    if (sodium_init() < 0)
        return 2;
    const bool checking = argc == 3 && std::string_view(argv[1]) == "--check";
    const double limit = checking ? std::atof(argv[2]) : 1e9;
    if (checking && !meaningful)
        return skipped;
    static constexpr Suite suites[] = {
        {"AES-128-GCM", "AES-128-GCM", "aes-gcm-16", 20, nullptr},
        {"ChaCha20-Poly1305", "ChaCha20-Poly1305", "chacha20-poly1305", 36, nullptr},
        {"AES-128-CBC HMAC-SHA1-96", "AES-128-CBC", "aes-cbc", 16, "hmac-sha1"},
        {"AES-128-CBC HMAC-SHA256-128", "AES-128-CBC", "aes-cbc", 16, "hmac-sha256"},
        {"AH HMAC-SHA256-128", nullptr, nullptr, 0, "hmac-sha256"},
    };
    bool within = true;
    std::printf("%-28s %6s   %10s %10s %6s\n", "ns per packet", "bytes", "OpenSSL", "Latchkey", "ratio");
    for (const auto& suite : suites)
        for (const std::size_t size : {64u, 512u, 1400u})
            for (const bool out : {true, false}) {
                const auto times = suite.cipher == nullptr ? signature(suite, size, out)
                                   : out                   ? outbound(suite, size)
                                                           : inbound(suite, size);
                const auto ratio = times.ours / times.bare;
                std::printf("%-28s %6zu %s %9.0f %10.0f %6.2f\n", suite.name, size, out ? "out" : "in ", times.bare,
                            times.ours, ratio);
                within = within && ratio <= limit;
            }
    return within ? 0 : 1;
}
