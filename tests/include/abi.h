/* SPDX-License-Identifier: BSD-2-Clause */
/* What a header makes of abi.inc: rows of {name, size, number}; number is an offset or a value. */
#ifndef LATCHKEY_TESTS_ABI_H
#define LATCHKEY_TESTS_ABI_H

#include <stddef.h>

struct abi_row {
    const char *name;
    unsigned long size;
    unsigned long number;
};

#define STRUCT(type) {#type, sizeof(struct type), 0},
#define FIELD(type, member) {#type "." #member, sizeof(((struct type *)0)->member), offsetof(struct type, member)},
#define VALUE(macro) {#macro, 0, (unsigned long)(macro)},

#define ABI_TABLE(table) const struct abi_row table[] = {
#define ABI_TABLE_END(table) }; const size_t table##_rows = sizeof table / sizeof table[0];

#endif
