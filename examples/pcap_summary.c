/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a wire carried, by protocol: reads a pcap file of Ethernet frames (latchkeyd --pcap) and counts.
 *
 *   pcap_summary FILE [TEXT]     with TEXT: also counts the frames in which these bytes stand in clear
 *
 * Exit status 1 if there was IP traffic that is neither ESP nor neighbour discovery, or TEXT was seen.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { file_header = 24, record_header = 16, ethernet = 14, esp = 50, icmpv6 = 58, largest = 262144 };

struct counts {
    unsigned long frames, arp, esp, esp_fragments, discovery, clear, marked;
};

static unsigned be16(const unsigned char *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static void count_ipv4(struct counts *c, const unsigned char *ip, size_t size)
{
    if (size < 20 || ip[9] != esp)
        ++c->clear;
    else if ((be16(ip + 6) & 0x3fff) != 0)
        ++c->esp_fragments;
    else
        ++c->esp;
}

/* Neighbour discovery and MLD keep the link alive and carry no data; MLD has a hop-by-hop header in front. */
static void count_ipv6(struct counts *c, const unsigned char *ip, size_t size)
{
    size_t at = 40;
    unsigned next = size >= 48 ? ip[6] : 0;

    if (next == 0 && size >= 56) {
        next = ip[at];
        at += 8u * (ip[at + 1] + 1u);
    }
    if (next == esp)
        ++c->esp;
    else if (next == 44 && ip[at] == esp)
        ++c->esp_fragments;
    else if (next == icmpv6 && at < size && (ip[at] == 143 || (ip[at] >= 130 && ip[at] <= 137)))
        ++c->discovery;
    else
        ++c->clear;
}

static void count_frame(struct counts *c, const unsigned char *frame, size_t size, const char *text)
{
    ++c->frames;
    if (text != NULL && memmem(frame, size, text, strlen(text)) != NULL)
        ++c->marked;
    if (size < ethernet)
        return;
    switch (be16(frame + 12)) {
    case 0x0806: ++c->arp; break;
    case 0x0800: count_ipv4(c, frame + ethernet, size - ethernet); break;
    case 0x86dd: count_ipv6(c, frame + ethernet, size - ethernet); break;
    default: ++c->clear; break;
    }
}

int main(int argc, char **argv)
{
    static unsigned char buffer[largest];
    struct counts c = {0};
    uint32_t word;
    FILE *in;

    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: pcap_summary FILE [TEXT]\n");
        return 2;
    }
    in = fopen(argv[1], "rb");
    if (in == NULL || fread(buffer, 1, file_header, in) != file_header) {
        fprintf(stderr, "pcap_summary: %s cannot be read\n", argv[1]);
        return 2;
    }
    while (fread(buffer, 1, record_header, in) == record_header) {
        memcpy(&word, buffer + 8, sizeof word); /* captured length, in the order of this machine that wrote it */
        if (word > largest || fread(buffer, 1, word, in) != word)
            break;
        count_frame(&c, buffer, word, argc == 3 ? argv[2] : NULL);
    }
    fclose(in);
    printf("%lu frames: %lu ESP, %lu fragments of ESP, %lu ARP, %lu neighbour discovery, %lu others in clear", c.frames,
           c.esp, c.esp_fragments, c.arp, c.discovery, c.clear);
    if (argc == 3)
        printf("; `%s` seen in %lu", argv[2], c.marked);
    printf("\n");
    return c.clear != 0 || c.marked != 0;
}
