// SPDX-License-Identifier: BSD-2-Clause
// IPComp (RFC 3173) with DEFLATE (RFC 2394) over zlib. One Compressor per host: its working memory is allocated once
// and serves every SA, since each datagram is compressed on its own (RFC 3173 §2.1).
#pragma once

#include "pfkey/wire.hpp"
#include "stack/drops.hpp"

#include <memory>

namespace latchkey {

inline constexpr std::size_t ipcomp_header = 4;          // next header, flags, CPI
inline constexpr std::size_t ipcomp_threshold = 90;      // payloads below this are not worth trying (RFC 2394 §2.3)

class Compressor {
public:
    Compressor();
    ~Compressor();

    // Compresses `in` into `out`, which begins behind the IPComp header that the caller writes. The compressed size; 0:
    // the result with its header would not be smaller than `in` (send it as it is), or `out` is too small.
    std::size_t compress(Bytes in, MutableBytes out);

    // in_decompress: not a DEFLATE stream, trailing bytes, or more than `out` holds.
    Drop decompress(Bytes in, MutableBytes out, std::size_t& size);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace latchkey
