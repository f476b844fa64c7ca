// SPDX-License-Identifier: BSD-2-Clause
// Key material: moved, never copied by accident, wiped when it goes.
#pragma once

#include "pfkey/wire.hpp"

#include <memory>
#include <sodium/utils.h>
#include <utility>

namespace latchkey {

class SecretBytes {
public:
    SecretBytes() = default;
    explicit SecretBytes(Bytes from) : size_(from.size())
    {
        if (size_ == 0)
            return;
        data_ = std::make_unique<std::uint8_t[]>(size_);
        std::memcpy(data_.get(), from.data(), size_);
    }
    SecretBytes(SecretBytes&& other) noexcept : data_(std::move(other.data_)), size_(std::exchange(other.size_, 0)) {}
    SecretBytes& operator=(SecretBytes&& other) noexcept
    {
        if (this != &other) {
            wipe();
            data_ = std::move(other.data_);
            size_ = std::exchange(other.size_, 0);
        }
        return *this;
    }
    SecretBytes(const SecretBytes&) = delete;
    SecretBytes& operator=(const SecretBytes&) = delete;
    ~SecretBytes() { wipe(); }

    Bytes bytes() const { return {data_.get(), size_}; }
    std::size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }

private:
    void wipe()
    {
        if (data_)
            sodium_memzero(data_.get(), size_);
    }

    std::unique_ptr<std::uint8_t[]> data_;
    std::size_t size_ = 0;
};

}  // namespace latchkey
