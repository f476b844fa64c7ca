// SPDX-License-Identifier: BSD-2-Clause
// TCP sockets over lwIP's raw API. lwIP frees PCBs on its own (reset, time-out, end of TIME_WAIT); a tag in the PCB's
// extension slot keeps the socket index right until then, and takes the pointer away from the socket.
#include "stack/lwip_address.hpp"
#include "stack/socket.hpp"

#include "lwip/priv/tcp_priv.h"
#include "lwip/tcp.h"

#include <deque>

namespace latchkey {

namespace {

class TcpSocket final : public Socket {
public:
    using Socket::Socket;
    ~TcpSocket() override;

    SysResult<> bind(const Endpoint& local) override;
    SysResult<> connect(const Endpoint& remote) override;
    SysResult<> listen(int backlog) override;
    SysResult<SocketId> accept() override;
    SysResult<> shutdown(int how) override;
    SysResult<Endpoint> local() const override;
    SysResult<Endpoint> remote() const override;
    SysResult<std::size_t> write(Bytes data) override;
    std::size_t writable_bytes() const override;
    void await_writable() override { writer_waits_ = true; }
    std::array<Bytes, 2> peek() const override { return rx_.view(0, rx_.size()); }
    void consume(std::size_t n) override;
    bool finished() const override { return peer_finished_ && rx_.empty(); }
    bool listening() const override { return state_ == State::listening; }
    bool bound() const override { return bound_local.port != 0 || state_ != State::idle; }
    int segment_size() const override { return pcb_ != nullptr && !listening() ? tcp_mss(pcb_) : 536; }
    void apply_options() override;

    bool owns(const tcp_pcb* pcb) const { return pcb_ == pcb; }
    void pcb_gone() { pcb_ = nullptr; }

private:
    enum class State : std::uint8_t { idle, listening, connecting, connected, failed };

    static err_t on_accept(void* arg, tcp_pcb* pcb, err_t error);
    static err_t on_connected(void* arg, tcp_pcb* pcb, err_t error);
    static err_t on_receive(void* arg, tcp_pcb* pcb, pbuf* p, err_t error);
    static err_t on_sent(void* arg, tcp_pcb* pcb, u16_t n);
    static err_t on_poll(void* arg, tcp_pcb* pcb);
    static void on_error(void* arg, err_t error);

    bool make_pcb();
    SysResult<> bind_pcb(const Endpoint& local);
    void adopt(tcp_pcb* pcb);         // a connection's callbacks come to this socket
    tcp_pcb* detach();                // and no longer
    void drop_pcb();                  // what was never connected
    void disconnect();
    void reset_waiting();             // a listener goes: nobody will answer its connections
    void wake_writer();

    tcp_pcb* pcb_ = nullptr;
    Endpoint local_, remote_;         // of the connection, also after its PCB is gone
    std::deque<SocketId> waiting_;    // a listener's connections that nobody has accepted
    ByteQueue rx_;
    State state_ = State::idle;
    bool peer_finished_ = false;
    bool read_shut_ = false;
    bool write_shut_ = false;
    bool writer_waits_ = false;
    bool in_backlog_ = false;
};

// ---- the tag that a PCB carries ------------------------------------------------------------------------------------

struct Tag {
    SocketContext& host;
    tcp_pcb* pcb;
    SocketId id = 0;
    Endpoint local, remote;
    bool dual = false;
};

u8_t tag_slot()
{
    static const u8_t slot = tcp_ext_arg_alloc_id();
    return slot;
}

void unregister(Tag& tag)
{
    auto& host = tag.host;
    host.index.remove_pcb(tag.pcb);
    host.pcbs.erase(tag.pcb);
    host.remove_tuple(ip_proto::tcp, tag.local, tag.remote, tag.dual, tag.id);
    const auto at = host.connections.find(tag.id);
    if (--at->second != 0)
        return;
    host.connections.erase(at);
    if (host.find(tag.id) == nullptr)
        host.event(tag.id, socket_event::released);
}

void enter(Tag& tag)
{
    tag.host.index.add_pcb(tag.pcb, tag.id);
    tag.host.pcbs.insert(tag.pcb);
    tag.host.add_tuple(ip_proto::tcp, tag.local, tag.remote, tag.dual, tag.id);
    ++tag.host.connections[tag.id];
}

void on_pcb_freed(u8_t, void* data)
{
    const std::unique_ptr<Tag> tag(static_cast<Tag*>(data));
    if (!tag)
        return;
    if (auto* socket = static_cast<TcpSocket*>(tag->host.find(tag->id)); socket != nullptr && socket->owns(tag->pcb))
        socket->pcb_gone();
    unregister(*tag);
}

err_t on_syn(u8_t slot, tcp_pcb_listen* listener, tcp_pcb* child);
constexpr tcp_ext_arg_callbacks tag_calls{on_pcb_freed, on_syn};

void tag_pcb(SocketContext& host, tcp_pcb* pcb, SocketId id, const Endpoint& local, const Endpoint& remote, bool dual)
{
    auto* tag = static_cast<Tag*>(tcp_ext_arg_get(pcb, tag_slot()));
    if (tag != nullptr) {
        unregister(*tag);
        tag->id = id;
        tag->local = local;
        tag->remote = remote;
        tag->dual = dual;
    } else {
        tag = std::make_unique<Tag>(Tag{host, pcb, id, local, remote, dual}).release();
        tcp_ext_arg_set(pcb, tag_slot(), tag);
        tcp_ext_arg_set_callbacks(pcb, tag_slot(), &tag_calls);
    }
    enter(*tag);
}

Endpoint local_of(const tcp_pcb* pcb)
{
    return {from_lwip(pcb->local_ip), pcb->local_port, 0};
}

Endpoint remote_of(const tcp_pcb* pcb)
{
    const auto scope = IP_IS_V6_VAL(pcb->remote_ip) ? ip6_addr_zone(ip_2_ip6(&pcb->remote_ip)) : 0u;
    return {from_lwip(pcb->remote_ip), pcb->remote_port, scope};
}

// A half-open connection belongs to its listener, so that its SYN-ACK meets the listener's policy.
err_t on_syn(u8_t slot, tcp_pcb_listen* listener, tcp_pcb* child)
{
    const auto* tag = static_cast<const Tag*>(listener->ext_args[slot].data);
    tag_pcb(tag->host, child, tag->id, local_of(child), remote_of(child), false);
    return ERR_OK;
}

}  // namespace

std::unique_ptr<Socket> make_tcp_socket(SocketContext& host, SocketId id, int domain, const Credentials& by)
{
    return std::make_unique<TcpSocket>(host, id, domain, SOCK_STREAM, ip_proto::tcp, by);
}

void abort_all_connections(SocketContext& host)
{
    while (!host.pcbs.empty())
        tcp_abort(*host.pcbs.begin());
}

// ---- calls ---------------------------------------------------------------------------------------------------------

namespace {

SysResult<> TcpSocket::bind(const Endpoint& local)
{
    const auto wanted = check_local(local);
    return wanted ? bind_pcb(*wanted) : sys_error(wanted.error());
}

SysResult<> TcpSocket::bind_pcb(const Endpoint& local)
{
    if (!make_pcb())
        return sys_error(ENOBUFS);
    auto address = to_lwip(local.address, local.scope);
    if (local.address.is_unspecified() && local.address.is_v6() && dual())
        IP_SET_TYPE_VAL(address, IPADDR_TYPE_ANY);
    const auto error = tcp_bind(pcb_, &address, local.port);
    if (error != ERR_OK) {
        drop_pcb();
        return sys_error(error == ERR_MEM ? ENOBUFS : EADDRINUSE);
    }
    claim_port({local.address, pcb_->local_port, local.scope});
    return {};
}

SysResult<> TcpSocket::connect(const Endpoint& remote)
{
    if (remote.address.family() == Family::none) {
        disconnect();
        return {};
    }
    if (state_ == State::connecting)
        return sys_error(EALREADY);
    if (state_ == State::connected || state_ == State::listening)
        return sys_error(EISCONN);
    const auto to = check_remote(remote);
    if (!to)
        return sys_error(to.error());
    if (to->address.is_multicast())
        return sys_error(ENETUNREACH);
    const auto bound_to = bound_local;
    if (state_ == State::failed)
        disconnect();
    if (bound_to.port != 0 && bound_local.port == 0)
        if (const auto again = bind_pcb(bound_to); !again)
            return again;
    if (!make_pcb())
        return sys_error(ENOBUFS);
    if (bound_local.port != 0 && !bound_local.address.is_unspecified() &&
        bound_local.address.family() != to->address.family())
        return sys_error(ENETUNREACH);

    const auto address = to_lwip(to->address, to->scope);
    const auto error = tcp_connect(pcb_, &address, to->port, on_connected);
    if (error != ERR_OK) {
        disconnect();
        if (bound_to.port != 0)
            (void)bind_pcb(bound_to);
        return sys_error(error == ERR_RTE ? ENETUNREACH : error == ERR_MEM ? ENOBUFS : EADDRNOTAVAIL);
    }
    state_ = State::connecting;
    local_ = local_of(pcb_);
    remote_ = remote_of(pcb_);
    tag_pcb(host_, pcb_, id_, local_, remote_, false);
    return sys_error(EINPROGRESS);
}

SysResult<> TcpSocket::listen(int backlog)
{
    const auto length = static_cast<u8_t>(std::clamp(backlog, 1, host_.limits.backlog));
    if (state_ == State::listening) {
        tcp_backlog_set(static_cast<tcp_pcb_listen*>(static_cast<void*>(pcb_)), length);   // what LISTEN makes of a PCB
        return {};
    }
    if (state_ != State::idle)
        return sys_error(EINVAL);
    if (bound_local.port == 0)
        if (const auto bound = bind_pcb({Address::any(is_v6() ? Family::v6 : Family::v4)}); !bound)
            return bound;
    for (auto [at, last] = host_.ports.equal_range((std::uint32_t{protocol()} << 16) | bound_local.port); at != last;
         ++at) {
        const auto* other = host_.find(at->second);
        if (other != this && other->listening() && collide(*this, bound_local, *other, other->bound_local))
            return sys_error(EADDRINUSE);
    }
    err_t error = ERR_OK;
    auto* listener = tcp_listen_with_backlog_and_err(pcb_, length, &error);   // frees the PCB
    if (listener == nullptr)
        return sys_error(error == ERR_USE ? EADDRINUSE : ENOBUFS);
    pcb_ = listener;
    state_ = State::listening;
    tcp_arg(pcb_, this);
    tcp_accept(pcb_, on_accept);
    local_ = bound_local;
    tag_pcb(host_, pcb_, id_, local_, {}, dual());
    return {};
}

SysResult<SocketId> TcpSocket::accept()
{
    if (state_ != State::listening)
        return sys_error(EINVAL);
    if (waiting_.empty())
        return sys_error(EAGAIN);
    const auto id = waiting_.front();
    waiting_.pop_front();
    auto* child = static_cast<TcpSocket*>(host_.find(id));
    if (child->pcb_ != nullptr)
        tcp_backlog_accepted(child->pcb_);
    child->in_backlog_ = false;
    ++host_.counters.connections_accepted;
    return id;
}

SysResult<> TcpSocket::shutdown(int how)
{
    if (state_ == State::listening || state_ == State::connecting) {
        disconnect();   // Linux: accepting or connecting ends
        return {};
    }
    if (state_ != State::connected)
        return sys_error(ENOTCONN);
    if (how != SHUT_WR) {
        read_shut_ = true;
        peer_finished_ = true;
        consume(rx_.size());
    }
    if (how != SHUT_RD && !write_shut_) {
        write_shut_ = true;
        if (pcb_ != nullptr)
            tcp_shutdown(pcb_, 0, 1);
    }
    return {};
}

SysResult<Endpoint> TcpSocket::local() const
{
    if (local_.port != 0)
        return shown(local_);
    if (bound_local.port != 0)
        return shown(bound_local);
    return Endpoint{Address::any(is_v6() ? Family::v6 : Family::v4)};
}

SysResult<Endpoint> TcpSocket::remote() const
{
    return state_ == State::connected ? SysResult<Endpoint>(shown(remote_)) : sys_error(ENOTCONN);
}

std::size_t TcpSocket::writable_bytes() const
{
    if (pcb_ == nullptr || state_ != State::connected || write_shut_)
        return 0;
    const std::size_t free = pcb_->snd_buf;   // tcp_sndbuf() would cut it to 16 bits
    const auto limit = static_cast<std::size_t>(options.send_buffer);
    const std::size_t used = free < TCP_SND_BUF ? TCP_SND_BUF - free : 0;   // lwIP gives the SYN's byte back, too
    return used >= limit || tcp_sndqueuelen(pcb_) >= TCP_SND_QUEUELEN - 8 ? 0 : std::min(free, limit - used);
}

SysResult<std::size_t> TcpSocket::write(Bytes data)
{
    if (state_ == State::connecting)
        return sys_error(EAGAIN);
    if (write_shut_)
        return sys_error(EPIPE);
    if (state_ != State::connected || pcb_ == nullptr) {
        const int error = take_error();
        return sys_error(error != 0 ? error : state_ == State::idle ? ENOTCONN : EPIPE);
    }
    std::size_t done = 0;
    std::size_t step = 0xffff;   // tcp_write counts in 16 bits
    while (done < data.size()) {
        const auto n = std::min({data.size() - done, writable_bytes(), step});
        if (n == 0)
            break;
        const auto more = done + n < data.size() ? TCP_WRITE_FLAG_MORE : 0;
        const auto error = tcp_write(pcb_, data.data() + done, static_cast<u16_t>(n),
                                     static_cast<u8_t>(TCP_WRITE_FLAG_COPY | more));
        if (error == ERR_OK)
            done += n;
        else if (error == ERR_MEM && n > 1024)
            step = n / 2;        // the queue of segments is nearly full
        else
            break;
    }
    writer_waits_ = done < data.size();
    if (done != 0)
        tcp_output(pcb_);
    return done != 0 || data.empty() ? SysResult<std::size_t>(done) : sys_error(EAGAIN);
}

void TcpSocket::consume(std::size_t n)
{
    rx_.pop(n);
    while (pcb_ != nullptr && state_ == State::connected && n != 0) {
        const auto step = std::min<std::size_t>(n, 0xffff);
        tcp_recved(pcb_, static_cast<u16_t>(step));
        n -= step;
    }
}

void TcpSocket::apply_options()
{
    if (pcb_ == nullptr)
        return;
    const auto set = [this](u8_t flag, bool on) {
        if (on)
            ip_set_option(pcb_, flag);
        else
            ip_reset_option(pcb_, flag);
    };
    set(SOF_REUSEADDR, options.reuse != 0);
    set(SOF_KEEPALIVE, options.keepalive != 0);
    const bool v6 = is_v6() && !remote_.address.is_v4();
    const int ttl = v6 ? options.hops : options.ttl;
    pcb_->ttl = static_cast<u8_t>(ttl < 0 ? TCP_TTL : ttl);
    pcb_->tos = static_cast<u8_t>(v6 ? options.traffic_class : options.tos);
    if (listening())
        return;   // a listener is a smaller structure
    if (options.no_delay != 0)
        tcp_nagle_disable(pcb_);
    else
        tcp_nagle_enable(pcb_);
    pcb_->keep_idle = static_cast<u32_t>(options.keep_idle) * 1000;
    pcb_->keep_intvl = static_cast<u32_t>(options.keep_interval) * 1000;
    pcb_->keep_cnt = static_cast<u32_t>(options.keep_count);
}

// ---- PCBs come and go ----------------------------------------------------------------------------------------------

// BSD and Linux: unread data, or SO_LINGER with 0 seconds, makes close() a reset; otherwise what is queued is sent,
// then FIN.
TcpSocket::~TcpSocket()
{
    const bool reset = !rx_.empty() || (options.linger_on != 0 && options.linger_seconds == 0);
    if (auto* pcb = detach(); pcb != nullptr) {
        if (reset && pcb->state != LISTEN)
            tcp_abort(pcb);
        else
            tcp_close(pcb);   // never fails: a FIN that finds no memory is tried again by lwIP's timer
    }
    reset_waiting();
    if (bound_local.port != 0)
        release_port();
}

void TcpSocket::reset_waiting()
{
    for (const auto id : std::exchange(waiting_, {})) {
        auto node = host_.sockets.extract(id);
        node.mapped()->options.linger_on = 1;
        node.mapped()->options.linger_seconds = 0;
    }
}

bool TcpSocket::make_pcb()
{
    if (pcb_ != nullptr)
        return true;
    auto* pcb = tcp_new_ip_type(!is_v6() ? IPADDR_TYPE_V4 : dual() ? IPADDR_TYPE_ANY : IPADDR_TYPE_V6);
    if (pcb == nullptr)
        return false;
    adopt(pcb);
    return true;
}

void TcpSocket::adopt(tcp_pcb* pcb)
{
    pcb_ = pcb;
    tcp_arg(pcb, this);
    tcp_recv(pcb, on_receive);
    tcp_sent(pcb, on_sent);
    tcp_err(pcb, on_error);
    tcp_poll(pcb, on_poll, 5);
    apply_options();
}

tcp_pcb* TcpSocket::detach()
{
    auto* pcb = std::exchange(pcb_, nullptr);
    if (pcb == nullptr)
        return nullptr;
    tcp_arg(pcb, nullptr);
    if (pcb->state == LISTEN) {
        tcp_accept(pcb, nullptr);
        return pcb;
    }
    tcp_recv(pcb, nullptr);
    tcp_sent(pcb, nullptr);
    tcp_err(pcb, nullptr);
    tcp_poll(pcb, nullptr, 0);
    if (in_backlog_)
        tcp_backlog_accepted(pcb);
    return pcb;
}

void TcpSocket::drop_pcb()
{
    if (auto* pcb = detach(); pcb != nullptr)
        tcp_close(pcb);
}

void TcpSocket::disconnect()
{
    if (auto* pcb = detach(); pcb != nullptr) {
        if (pcb->state == LISTEN)
            tcp_close(pcb);
        else
            tcp_abort(pcb);
    }
    reset_waiting();
    if (bound_local.port != 0)
        release_port();
    rx_.clear();
    local_ = remote_ = {};
    state_ = State::idle;
    peer_finished_ = read_shut_ = write_shut_ = writer_waits_ = false;
}

void TcpSocket::wake_writer()
{
    const auto worth_a_call = std::min<std::size_t>(8 * 1024, static_cast<std::size_t>(options.send_buffer) / 2);
    if (writer_waits_ && writable_bytes() >= worth_a_call) {
        writer_waits_ = false;
        host_.event(id_, socket_event::writable);
    }
}

// ---- from lwIP -----------------------------------------------------------------------------------------------------

err_t TcpSocket::on_accept(void* arg, tcp_pcb* pcb, err_t error)
{
    auto* self = static_cast<TcpSocket*>(arg);
    if (self == nullptr || error != ERR_OK || pcb == nullptr)
        return ERR_VAL;
    auto& host = self->host_;
    const auto id = host.next_id();
    if (!id) {
        ++host.counters.connections_overflowed;
        return ERR_MEM;   // lwIP resets the connection
    }
    auto child =
        std::make_unique<TcpSocket>(host, *id, self->domain(), SOCK_STREAM, ip_proto::tcp, self->credentials());
    child->options = self->options;
    child->state_ = State::connected;
    child->local_ = local_of(pcb);
    child->remote_ = remote_of(pcb);
    child->in_backlog_ = true;
    tcp_backlog_delayed(pcb);   // it counts against the backlog until somebody accepts it
    tag_pcb(host, pcb, *id, child->local_, child->remote_, false);
    child->adopt(pcb);
    host.sockets.emplace(*id, std::move(child));
    ++host.counters.opened;
    self->waiting_.push_back(*id);
    host.event(self->id_, socket_event::acceptable);
    return ERR_OK;
}

err_t TcpSocket::on_connected(void* arg, tcp_pcb*, err_t)
{
    auto* self = static_cast<TcpSocket*>(arg);
    self->state_ = State::connected;
    self->host_.event(self->id_, socket_event::connected | socket_event::writable);
    return ERR_OK;
}

err_t TcpSocket::on_receive(void* arg, tcp_pcb* pcb, pbuf* p, err_t)
{
    auto* self = static_cast<TcpSocket*>(arg);
    if (self == nullptr) {
        if (p != nullptr)
            pbuf_free(p);
        return ERR_OK;
    }
    if (p == nullptr) {
        self->peer_finished_ = true;
    } else {
        if (self->read_shut_)
            tcp_recved(pcb, p->tot_len);
        else
            for (const pbuf* q = p; q != nullptr; q = q->next)
                self->rx_.push({static_cast<const std::uint8_t*>(q->payload), q->len});
        pbuf_free(p);
    }
    self->host_.event(self->id_, socket_event::readable);
    return ERR_OK;
}

err_t TcpSocket::on_sent(void* arg, tcp_pcb*, u16_t)
{
    static_cast<TcpSocket*>(arg)->wake_writer();
    return ERR_OK;
}

// Also wakes a writer that lwIP refused for want of memory, when nothing is in flight that could be acknowledged.
err_t TcpSocket::on_poll(void* arg, tcp_pcb*)
{
    if (auto* self = static_cast<TcpSocket*>(arg); self != nullptr)
        self->wake_writer();
    return ERR_OK;
}

// lwIP has freed the PCB, or is about to.
void TcpSocket::on_error(void* arg, err_t error)
{
    auto* self = static_cast<TcpSocket*>(arg);
    if (self == nullptr)
        return;
    self->pcb_ = nullptr;
    const bool connecting = self->state_ == State::connecting;
    self->peer_finished_ = true;
    if (error == ERR_CLSD) {   // both sides have finished
        self->host_.event(self->id_, socket_event::readable);
        return;
    }
    self->state_ = connecting ? State::failed : self->state_;
    self->writer_waits_ = false;
    self->note_error(error == ERR_RST ? (connecting ? ECONNREFUSED : ECONNRESET) : ETIMEDOUT);
}

}  // namespace

}  // namespace latchkey
