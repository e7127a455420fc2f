/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_QUOTE_H
#define PLUM_QUOTE_H

#include <linux/ip.h>
#include <linux/ipv6.h>

#include "pkt.h"

/*
 * An ICMP error about a translated connection: our end's address in its own
 * header, and the same end's address and port in the packet it quotes, there on
 * the other side. The quoted checksum of TCP and UDP stays as it was (RFC 5508
 * asks hosts not to care); that of the error itself is right.
 */
static __always_inline int translate_quoted_port(struct __sk_buff *skb, const struct pkt *p,
						 __u32 at, __u8 proto, bool source)
{
	__u32 check = p->l4_off + 2;
	__be16 port = p->new_port;
	__be16 old;

	if (proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6) {
		if (!source)
			return NEXT; /* an answer's id is the asker's */
		at += 4;
	} else if (proto != IPPROTO_TCP && proto != IPPROTO_UDP) {
		return NEXT;
	} else if (!source) {
		at += 2;
	}
	if (bpf_skb_load_bytes(skb, at, &old, 2) < 0)
		return DROP(TRUNCATED);
	if (bpf_l4_csum_replace(skb, check, old, port, 2) < 0 ||
	    bpf_skb_store_bytes(skb, at, &port, 2, 0) < 0)
		return DROP(HELPER);
	return NEXT;
}

static __always_inline int translate_error4(struct __sk_buff *skb, const struct pkt *p)
{
	bool source = p->translate == FLOW_NEW_DST; /* of the quoted packet */
	__u32 quote = p->l4_off + 8;
	__be32 from = source ? p->daddr[3] : p->saddr[3];
	__be32 to = p->new_addr[3];
	struct iphdr ip;
	__be32 inner;

	if (bpf_skb_load_bytes(skb, quote, &ip, sizeof(ip)) < 0)
		return DROP(TRUNCATED);
	inner = source ? ip.saddr : ip.daddr;
	/* The header's checksum makes up for the address: the error's own stays. */
	if (bpf_l3_csum_replace(skb, ETH_HLEN + 10, from, to, 4) < 0 ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + (source ? 16 : 12), &to, 4, 0) < 0 ||
	    bpf_l3_csum_replace(skb, quote + 10, inner, to, 4) < 0 ||
	    bpf_skb_store_bytes(skb, quote + (source ? 12 : 16), &to, 4, 0) < 0)
		return DROP(HELPER);
	return translate_quoted_port(skb, p, quote + ip.ihl * 4, ip.protocol, source);
}

static __always_inline int translate_error6(struct __sk_buff *skb, const struct pkt *p)
{
	bool source = p->translate == FLOW_NEW_DST;
	__u32 quote = p->l4_off + 8;
	__u32 check = p->l4_off + 2;
	__be32 from[4], to[4], inner[4];
	__u8 next;

	addr_copy(from, source ? p->daddr : p->saddr);
	addr_copy(to, p->new_addr);
	if (bpf_skb_load_bytes(skb, quote + (source ? 8 : 24), inner, 16) < 0 ||
	    bpf_skb_load_bytes(skb, quote + 6, &next, 1) < 0)
		return DROP(TRUNCATED);
	if (bpf_l4_csum_replace(skb, check, 0, bpf_csum_diff(from, 16, to, 16, 0),
				BPF_F_PSEUDO_HDR) < 0 ||
	    bpf_l4_csum_replace(skb, check, 0, bpf_csum_diff(inner, 16, to, 16, 0), 0) < 0 ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + (source ? 24 : 8), to, 16, 0) < 0 ||
	    bpf_skb_store_bytes(skb, quote + (source ? 8 : 24), to, 16, 0) < 0)
		return DROP(HELPER);
	return translate_quoted_port(skb, p, quote + sizeof(struct ipv6hdr), next, source);
}

static __always_inline int translate_error(struct __sk_buff *skb, const struct pkt *p)
{
	return p->family == 4 ? translate_error4(skb, p) : translate_error6(skb, p);
}

#endif /* PLUM_QUOTE_H */
