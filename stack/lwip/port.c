/* SPDX-License-Identifier: BSD-2-Clause */
/* The part of the platform that needs no host: limits on lwIP's pools, segments that become smaller, the end
 * after an assertion. */
#include "lwip/opt.h"

#include "latchkey_hooks.h"
#include "lwip/memp.h"
#include "lwip/stats.h"

/* Headers that the list of pools takes its element types from. */
#include "lwip/etharp.h"
#include "lwip/igmp.h"
#include "lwip/ip4_frag.h"
#include "lwip/ip6_frag.h"
#include "lwip/mld6.h"
#include "lwip/priv/nd6_priv.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/raw.h"
#include "lwip/timeouts.h"
#include "lwip/udp.h"

#if LWIP_ND6_NUM_NEIGHBORS > 127 || LWIP_ND6_NUM_DESTINATIONS > 127
#error "nd6_tmr() counts these tables in s8_t and would loop for ever"
#endif

void *latchkey_memp_malloc(memp_t type);
void latchkey_tcp_rexmit_rto_commit(struct tcp_pcb *pcb);
void latchkey_tcp_rexmit_fast(struct tcp_pcb *pcb);

static const mem_size_t limits[MEMP_MAX] = {
#define LWIP_MEMPOOL(name, num, size, desc) (num),
#include "lwip/priv/memp_std.h"
};

/* Stands in for memp_malloc in every lwIP file. */
void *latchkey_memp_malloc(memp_t type)
{
    struct stats_mem *const count = lwip_stats.memp[type];
    if (count->used >= limits[type]) {
        ++count->err;
        return NULL;
    }
    return memp_malloc(type);
}

/* Cuts what waits to be sent down to the segment size of now. */
static void fit_unsent(struct tcp_pcb *pcb)
{
    struct tcp_seg *const head = pcb->unsent;
    struct tcp_seg *seg;
    for (seg = head; seg != NULL; seg = seg->next) {
        const int options = LWIP_TCP_OPT_LENGTH(seg->flags);
        if (seg->len + options <= pcb->mss)
            continue;
        pcb->unsent = seg; /* tcp_split_unsent_seg() takes the first one; what it cuts off comes next */
        if (tcp_split_unsent_seg(pcb, (u16_t)(pcb->mss - options)) != ERR_OK)
            break;
    }
    pcb->unsent = head;
}

/* lwIP settles the segment size with the handshake and asserts that no segment on its queue is longer, and that what it
 * has allocated at the end of the last one still fits. */
void latchkey_tcp_set_mss(struct tcp_pcb *pcb, u16_t mss)
{
    const int smaller = mss < pcb->mss;
    pcb->mss = mss;
    if (smaller) {
        pcb->unsent_oversize = 0;
        fit_unsent(pcb);
    }
}

/* The same for segments that were on their way. Without it a time-out would also leave a congestion window of one
 * segment, with nothing in flight and nothing short enough to be sent: for ever. */
void latchkey_tcp_rexmit_rto_commit(struct tcp_pcb *pcb)
{
    fit_unsent(pcb);
    tcp_rexmit_rto_commit(pcb);
}

void latchkey_tcp_rexmit_fast(struct tcp_pcb *pcb)
{
    tcp_rexmit_fast(pcb);
    fit_unsent(pcb);
}

void latchkey_lwip_panic(const char *message, const char *file, int line)
{
    fprintf(stderr, "latchkey: lwIP assertion failed: %s (%s:%d)\n", message, file, line);
    abort();
}
