// SPDX-License-Identifier: BSD-2-Clause
// The ESP transform as a filter for the interoperability scripts: one request per line in, one answer per line out.
//
//   seal CIPHER KEY AUTH KEY SPI SEQUENCE plain|extended NEXT-HEADER IV PAYLOAD   ->  PACKET
//   open CIPHER KEY AUTH KEY SPI HIGHEST plain|extended PACKET                    ->  NEXT-HEADER PAYLOAD
//
// Algorithms by their setkey names, bytes in hex, "-" for none; SPI, SEQUENCE and HIGHEST (the top of a window of 64)
// in hex. The IV is what a CBC cipher uses; "-" draws one. A refusal is answered with "drop" and its name.
#include "stack/esp.hpp"

#include <iostream>
#include <sodium.h>
#include <sstream>
#include <string>
#include <vector>

using namespace latchkey;

namespace {

using Buffer = std::vector<std::uint8_t>;

// The IV of the request, or real randomness.
struct ToolRng : Rng {
    void fill(MutableBytes out) override
    {
        randombytes_buf(out.data(), out.size());
        for (std::size_t i = 0; i < iv.size() && i < out.size(); ++i)
            out[i] = iv[i];
    }
    Buffer iv;
};

Buffer from_hex(const std::string& text)
{
    if (text == "-")
        return {};
    Buffer bytes(text.size() / 2);
    std::size_t size = 0;
    if (sodium_hex2bin(bytes.data(), bytes.size(), text.data(), text.size(), nullptr, &size, nullptr) != 0)
        bytes.clear();
    return bytes;
}

std::string to_hex(Bytes bytes)
{
    if (bytes.empty())
        return "-";
    std::string text(bytes.size() * 2 + 1, '\0');
    sodium_bin2hex(text.data(), text.size(), bytes.data(), bytes.size());
    text.pop_back();
    return text;
}

// Reads the fields that both requests begin with. False: not a request.
bool read_sa(std::istream& in, Sa& sa, std::uint64_t& number)
{
    std::string cipher, cipher_key, auth, auth_key, kind;
    in >> cipher >> cipher_key >> auth >> auth_key >> std::hex >> sa.spi >> number >> std::dec >> kind;
    sa.state = SaState::mature;
    sa.cipher = algorithm_by_name(AlgorithmKind::cipher, cipher);
    sa.cipher_key = SecretBytes(from_hex(cipher_key));
    sa.auth = auth == "-" ? nullptr : algorithm_by_name(AlgorithmKind::auth, auth);
    sa.auth_key = SecretBytes(from_hex(auth_key));
    sa.flags = kind == "extended" ? SADB_X_SAFLAGS_ESN : 0;
    return in && sa.cipher != nullptr && (auth == "-" || sa.auth != nullptr);
}

std::string refusal(Drop drop)
{
    return "drop " + std::string(drop_row(drop).name);
}

std::string seal(std::istream& in)
{
    Sa sa;
    SealJob job;
    unsigned next_header = 0;
    std::string iv, payload;
    if (!read_sa(in, sa, job.sequence) || !(in >> next_header >> iv >> payload))
        return "bad request";
    ToolRng rng;
    rng.iv = from_hex(iv);
    const auto input = from_hex(payload);
    Buffer packet(esp_sealed_size(sa, input.size()));
    job.sa = &sa;
    job.next_header = static_cast<std::uint8_t>(next_header);
    job.parts[0] = input;
    job.part_count = 1;
    job.out = packet;
    make_openssl_backend(rng)->seal({&job, 1});
    return job.result == Drop::none ? to_hex(packet) : refusal(job.result);
}

std::string open(std::istream& in)
{
    Sa sa;
    OpenJob job;
    std::uint64_t highest = 0;
    std::string text;
    if (!read_sa(in, sa, highest) || !(in >> text))
        return "bad request";
    sa.replay = ReplayWindow(64);
    if (highest != 0)
        sa.replay.accept(highest);
    ToolRng rng;
    auto packet = from_hex(text);
    job.sa = &sa;
    job.packet = packet;
    make_openssl_backend(rng)->open({&job, 1});
    return job.result == Drop::none ? std::to_string(job.next_header) + " " + to_hex(job.payload) : refusal(job.result);
}

}  // namespace

int main()
{
    if (sodium_init() < 0)
        return 1;
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream in(line);
        std::string verb;
        in >> verb;
        std::cout << (verb == "seal" ? seal(in) : verb == "open" ? open(in) : "bad request") << std::endl;
    }
    return 0;
}
