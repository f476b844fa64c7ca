// SPDX-License-Identifier: BSD-2-Clause
#include "stack/pbuf.hpp"

#include "lwip/pbuf.h"

#include <array>
#include <new>

namespace latchkey {

Pbuf Pbuf::share(pbuf* borrowed)
{
    pbuf_ref(borrowed);
    return Pbuf(borrowed);
}

void Pbuf::reset()
{
    if (p_ != nullptr)
        pbuf_free(std::exchange(p_, nullptr));
}

bool Pbuf::contiguous() const
{
    return p_->next == nullptr;
}

MutableBytes Pbuf::bytes() const
{
    return {static_cast<std::uint8_t*>(p_->payload), p_->len};
}

std::size_t Pbuf::size() const
{
    return p_->tot_len;
}

void Pbuf::narrow(std::size_t at, std::size_t n)
{
    p_->payload = static_cast<std::uint8_t*>(p_->payload) + at;
    p_->len = static_cast<u16_t>(n);
    p_->tot_len = p_->len;
}

namespace {

// In front of the pbuf, so that no header that lwIP prepends can reach it.
struct Block {
    Block* next;
    void* pool;
    std::size_t size_class;
    pbuf_custom custom;
};

struct SizeClass {
    std::size_t capacity;   // bytes of packet
    std::size_t keep;       // free buffers that are kept for reuse
};
constexpr std::array<SizeClass, 3> size_classes{{{1984, 2048}, {9728, 256}, {PacketPool::max_packet, 16}}};

#if defined(__SANITIZE_ADDRESS__)
constexpr bool reuse = false;   // a reused buffer would hide a use after free
#else
constexpr bool reuse = true;
#endif

}  // namespace

struct PacketPool::Impl {
    std::size_t limit;
    std::size_t in_use = 0;
    std::array<Block*, size_classes.size()> free{};
    std::array<std::size_t, size_classes.size()> kept{};

    static std::size_t block_size(std::size_t cls) { return sizeof(Block) + headroom + size_classes[cls].capacity; }

    static void give_back(pbuf* p)
    {
        auto* bytes = reinterpret_cast<std::uint8_t*>(p) - offsetof(Block, custom);   // container_of, as lwIP prescribes
        auto* block = std::launder(reinterpret_cast<Block*>(bytes));
        static_cast<Impl*>(block->pool)->take_back(block);
    }

    void take_back(Block* block)
    {
        const auto cls = block->size_class;
        in_use -= block_size(cls);
        if (reuse && kept[cls] < size_classes[cls].keep) {
            block->next = free[cls];
            free[cls] = block;
            ++kept[cls];
        } else {
            destroy(block);
        }
    }

    static void destroy(Block* block)
    {
        block->~Block();
        ::operator delete(block);
    }
};

PacketPool::PacketPool(std::size_t limit_bytes) : impl_(std::make_unique<Impl>())
{
    impl_->limit = limit_bytes;
}

PacketPool::~PacketPool()
{
    for (auto* head : impl_->free)
        while (head != nullptr)
            Impl::destroy(std::exchange(head, head->next));
}

Pbuf PacketPool::allocate(std::size_t size)
{
    std::size_t cls = 0;
    while (cls < size_classes.size() && size_classes[cls].capacity < size)
        ++cls;
    if (cls == size_classes.size() || size > 0xffff || impl_->in_use + Impl::block_size(cls) > impl_->limit)
        return {};

    Block* block = impl_->free[cls];
    if (block != nullptr) {
        impl_->free[cls] = block->next;
        --impl_->kept[cls];
    } else {
        block = new (::operator new(Impl::block_size(cls))) Block{};
        block->pool = impl_.get();
        block->size_class = cls;
        block->custom.custom_free_function = &Impl::give_back;
    }
    impl_->in_use += Impl::block_size(cls);
    auto* memory = reinterpret_cast<std::uint8_t*>(block) + sizeof(Block);
    pbuf* p = pbuf_alloced_custom(PBUF_RAW, static_cast<u16_t>(size), PBUF_RAM, &block->custom, memory + headroom,
                                  static_cast<u16_t>(size));
    return Pbuf(p);
}

Pbuf PacketPool::copy(Bytes data)
{
    auto p = allocate(data.size());
    if (p && !data.empty())
        std::memcpy(p.bytes().data(), data.data(), data.size());
    return p;
}

Pbuf PacketPool::gather(const pbuf* chain)
{
    auto p = allocate(chain->tot_len);
    if (p)
        pbuf_copy_partial(chain, p.bytes().data(), chain->tot_len, 0);
    return p;
}

std::size_t PacketPool::in_use() const
{
    return impl_->in_use;
}

}  // namespace latchkey
