// SPDX-License-Identifier: BSD-2-Clause
// IPComp: arbitrary bytes are decompressed into bounded room; what is compressed comes back.
// Input: room for the result (2), the rest is a stream to decompress and then a payload to compress.
#include "stack/ipcomp.hpp"

#include <algorithm>
#include <cstdlib>
#include <vector>

using namespace latchkey;

namespace {

using Buffer = std::vector<std::uint8_t>;

void require(bool condition)
{
    if (!condition)
        std::abort();
}

void decompress(Compressor& compressor, Bytes in, std::size_t room)
{
    Buffer out(room);
    std::size_t size = room + 1;
    const auto result = compressor.decompress(in, out, size);
    require(size <= room);
    require(result == Drop::none || (result == Drop::in_decompress && size == 0));
}

void round_trip(Compressor& compressor, Bytes payload, std::size_t room)
{
    Buffer packed(room), back(payload.size());
    const auto size = compressor.compress(payload, packed);
    require(size == 0 || (size <= room && size + ipcomp_header < payload.size()));
    if (size == 0)
        return;
    std::size_t length = 0;
    require(compressor.decompress(Bytes(packed).first(size), back, length) == Drop::none);
    require(std::ranges::equal(Bytes(back).first(length), payload));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    wire::Reader reader(Bytes(data, size));
    const std::size_t room = reader.get<std::uint16_t>();
    if (!reader.ok())
        return 0;
    static Compressor compressor;   // one for all, as in a host: nothing may stay behind from one input to the next
    decompress(compressor, reader.rest(), room);
    round_trip(compressor, reader.rest(), room);
    round_trip(compressor, reader.rest(), reader.rest().size());
    return 0;
}
