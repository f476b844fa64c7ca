/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * usage: sysctl_client NAME [VALUE]
 * What a BSD program does: asks for the size, reads, and with VALUE sets in the same call. Prints the old value.
 */
#include <sys/types.h>
#include <sys/sysctl.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>

int
main(int argc, char **argv)
{
	int old = 0, new = 0;
	size_t size = 0;

	if (argc < 2)
		return 2;
	if (sysctlbyname(argv[1], NULL, &size, NULL, 0) == -1 || size != sizeof(old)) {
		printf("%s\n", strerror(errno));
		return 1;
	}
	if (argc > 2)
		new = atoi(argv[2]);
	if (sysctlbyname(argv[1], &old, &size, argc > 2 ? &new : NULL, argc > 2 ? sizeof(new) : 0) == -1) {
		printf("%s\n", strerror(errno));
		return 1;
	}
	printf("%d\n", old);
	return 0;
}
