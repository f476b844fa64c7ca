// SPDX-License-Identifier: BSD-2-Clause
#include "stack/ipcomp.hpp"

#include <algorithm>
#include <cstdlib>
#include <zlib.h>

namespace latchkey {

namespace {

constexpr int raw = -1;                    // zlib: a negative window means DEFLATE without a zlib header
constexpr int largest_window = 15;
constexpr int own_window = 12;             // what peers with little memory can still undo (KAME's); packets are short
constexpr int own_memory = 6;
constexpr std::size_t largest_datagram = 65535;

}  // namespace

struct Compressor::Impl {
    z_stream deflater{}, inflater{};
    bool deflates = false, inflates = false;   // the stream was made
    bool complete = false;

    // After construction no more memory is given: zlib then asks for a window to go on in, which happens only with a
    // stream that does not fit, and that is refused anyhow.
    static void* allocate(void* self, unsigned count, unsigned size)
    {
        return static_cast<Impl*>(self)->complete ? nullptr : std::calloc(count, size);
    }
    static void release(void*, void* memory) { std::free(memory); }

    Impl()
    {
        for (auto* stream : {&deflater, &inflater}) {
            stream->zalloc = allocate;
            stream->zfree = release;
            stream->opaque = this;
        }
        deflates = deflateInit2(&deflater, Z_DEFAULT_COMPRESSION, Z_DEFLATED, raw * own_window, own_memory,
                                Z_DEFAULT_STRATEGY) == Z_OK;
        inflates = inflateInit2(&inflater, raw * largest_window) == Z_OK;
        complete = true;
    }
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;
    ~Impl()
    {
        if (deflates)
            deflateEnd(&deflater);
        if (inflates)
            inflateEnd(&inflater);
    }

    // `in` and `out` are no longer than largest_datagram.
    static void set(z_stream& stream, Bytes in, MutableBytes out)
    {
        stream.next_in = const_cast<Bytef*>(in.data());   // zlib does not write there
        stream.avail_in = static_cast<unsigned>(in.size());
        stream.next_out = out.data();
        stream.avail_out = static_cast<unsigned>(out.size());
    }
};

Compressor::Compressor() : impl_(std::make_unique<Impl>()) {}

Compressor::~Compressor() = default;

std::size_t Compressor::compress(Bytes in, MutableBytes out)
{
    if (in.size() <= ipcomp_header + 1 || in.size() > largest_datagram || !impl_->deflates)
        return 0;
    // No more room than makes sense: what does not shrink is given up early.
    out = out.first(std::min(out.size(), in.size() - ipcomp_header - 1));
    auto& stream = impl_->deflater;
    if (out.empty() || deflateReset(&stream) != Z_OK)
        return 0;
    Impl::set(stream, in, out);
    auto state = deflate(&stream, Z_FINISH);
    const auto size = out.size() - stream.avail_out;
    if (state == Z_OK && stream.avail_out == 0) {   // full to the last byte: zlib says the end only if asked again
        std::uint8_t spare;
        stream.next_out = &spare;
        stream.avail_out = 1;
        state = deflate(&stream, Z_FINISH);
        if (stream.avail_out == 0)
            return 0;
    }
    return state == Z_STREAM_END ? size : 0;
}

Drop Compressor::decompress(Bytes in, MutableBytes out, std::size_t& size)
{
    size = 0;
    auto& stream = impl_->inflater;
    out = out.first(std::min(out.size(), largest_datagram));
    if (in.empty() || out.empty() || in.size() > largest_datagram || !impl_->inflates || inflateReset(&stream) != Z_OK)
        return Drop::in_decompress;
    Impl::set(stream, in, out);
    if (inflate(&stream, Z_FINISH) != Z_STREAM_END || stream.avail_in != 0)
        return Drop::in_decompress;
    size = out.size() - stream.avail_out;
    return Drop::none;
}

}  // namespace latchkey
