// SPDX-License-Identifier: BSD-2-Clause
// The transforms as a filter for the interoperability scripts: one request per line in, one answer per line out.
//
//   seal CIPHER KEY AUTH KEY SPI SEQUENCE plain|extended NEXT-HEADER IV PAYLOAD    ->  PACKET
//   open CIPHER KEY AUTH KEY SPI HIGHEST plain|extended PACKET                     ->  NEXT-HEADER PAYLOAD
//   ah-seal - - AUTH KEY SPI SEQUENCE plain|extended NEXT-HEADER HEADERS PAYLOAD   ->  DATAGRAM
//   ah-open - - AUTH KEY SPI HIGHEST plain|extended AT DATAGRAM                    ->  NEXT-HEADER AH-SIZE
//   compress PAYLOAD                                                               ->  DEFLATE-STREAM, or "-"
//   decompress DEFLATE-STREAM                                                      ->  PAYLOAD
//
// Algorithms by their setkey names, bytes in hex, "-" for none; SPI, SEQUENCE and HIGHEST (the top of a window of 64)
// in hex. The IV is what a CBC cipher uses; "-" draws one. A refusal is answered with "drop" and its name.
#include "stack/esp.hpp"
#include "stack/ipcomp.hpp"

#include <functional>
#include <iostream>
#include <map>
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

// Reads the fields that requests with an SA begin with. False: not a request.
bool read_sa(std::istream& in, Sa& sa, std::uint64_t& number, std::uint8_t protocol = ip_proto::esp)
{
    sa.protocol = protocol;
    std::string cipher, cipher_key, auth, auth_key, kind;
    in >> cipher >> cipher_key >> auth >> auth_key >> std::hex >> sa.spi >> number >> std::dec >> kind;
    sa.state = SaState::mature;
    sa.cipher = cipher == "-" ? nullptr : algorithm_by_name(AlgorithmKind::cipher, cipher);
    sa.cipher_key = SecretBytes(from_hex(cipher_key));
    sa.auth = auth == "-" ? nullptr : algorithm_by_name(AlgorithmKind::auth, auth);
    sa.auth_key = SecretBytes(from_hex(auth_key));
    sa.flags = kind == "extended" ? SADB_X_SAFLAGS_ESN : 0;
    return in && (cipher == "-") == (sa.cipher == nullptr) && (auth == "-") == (sa.auth == nullptr);
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

std::string seal_ah(std::istream& in)
{
    Sa sa;
    AhSealJob job;
    unsigned next_header = 0;
    std::string headers, payload;
    if (!read_sa(in, sa, job.sequence, ip_proto::ah) || !(in >> next_header >> headers >> payload))
        return "bad request";
    auto datagram = from_hex(headers);
    const auto family = !datagram.empty() && datagram[0] >> 4 == 6 ? Family::v6 : Family::v4;
    job.at = datagram.size();
    datagram.resize(job.at + ah_size(sa, family), 0xee);
    const auto rest = from_hex(payload);
    datagram.insert(datagram.end(), rest.begin(), rest.end());
    ToolRng rng;
    job.sa = &sa;
    job.next_header = static_cast<std::uint8_t>(next_header);
    job.datagram = datagram;
    make_openssl_backend(rng)->seal({&job, 1});
    return job.result == Drop::none ? to_hex(datagram) : refusal(job.result);
}

std::string open_ah(std::istream& in)
{
    Sa sa;
    AhOpenJob job;
    std::uint64_t highest = 0;
    std::string text;
    if (!read_sa(in, sa, highest, ip_proto::ah) || !(in >> job.at >> text))
        return "bad request";
    sa.replay = ReplayWindow(64);
    if (highest != 0)
        sa.replay.accept(highest);
    ToolRng rng;
    auto datagram = from_hex(text);
    job.sa = &sa;
    job.datagram = datagram;
    make_openssl_backend(rng)->open({&job, 1});
    return job.result == Drop::none ? std::to_string(job.next_header) + " " + std::to_string(job.size)
                                    : refusal(job.result);
}

std::string compress(std::istream& in)
{
    std::string text;
    in >> text;
    const auto input = from_hex(text);
    Buffer out(input.size());
    return to_hex(Bytes(out).first(Compressor().compress(input, out)));
}

std::string decompress(std::istream& in)
{
    std::string text;
    in >> text;
    Buffer out(65535);
    std::size_t size = 0;
    const auto result = Compressor().decompress(from_hex(text), out, size);
    return result == Drop::none ? to_hex(Bytes(out).first(size)) : refusal(result);
}

}  // namespace

int main()
{
    if (sodium_init() < 0)
        return 1;
    const std::map<std::string, std::function<std::string(std::istream&)>> verbs{
        {"seal", seal},       {"open", open},         {"ah-seal", seal_ah},
        {"ah-open", open_ah}, {"compress", compress}, {"decompress", decompress}};
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream in(line);
        std::string verb;
        in >> verb;
        const auto found = verbs.find(verb);
        std::cout << (found == verbs.end() ? "bad request" : found->second(in)) << std::endl;
    }
    return 0;
}
