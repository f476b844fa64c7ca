// SPDX-License-Identifier: BSD-2-Clause
// Text on its way to a stream: collected, and written in large pieces. What cannot be written is remembered as an
// errno, so that main() tells it once, at the end.
#pragma once

#include <cerrno>
#include <cstdio>
#include <string>

namespace latchkey::setkey {

class Output {
public:
    explicit Output(std::FILE* to) : to_(to) {}

    std::string text;

    void flush()
    {
        const bool written = std::fwrite(text.data(), 1, text.size(), to_) == text.size() && std::fflush(to_) == 0;
        if (!written && error_ == 0)
            error_ = errno;
        text.clear();
    }

    void flush_if_large()
    {
        constexpr std::size_t piece = 64 * 1024;
        if (text.size() > piece)
            flush();
    }

    int error() const { return error_; }   // of the first piece that was lost; 0: all is well

private:
    std::FILE* to_;
    int error_ = 0;
};

}  // namespace latchkey::setkey
