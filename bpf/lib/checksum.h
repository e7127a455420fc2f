/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_CHECKSUM_H
#define PLUM_CHECKSUM_H

#include <linux/ip.h>

#include "pkt.h"

/* Ones' complement sum to the 16 bits that go on the wire (RFC 1071). */
static __always_inline __u16 csum_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)~sum;
}

/* Of a header without options whose check field is zero. */
static __always_inline __u16 csum_ipv4(const struct iphdr *ip)
{
	const __u32 *w = (const __u32 *)ip;

	return csum_fold((__u64)w[0] + w[1] + w[2] + w[3] + w[4]);
}

#endif /* PLUM_CHECKSUM_H */
