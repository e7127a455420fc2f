/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_ICMP_ERROR_H
#define PLUM_ICMP_ERROR_H

#include "arp_nd.h"
#include "forward.h"

#define QUOTE_MAX  128 /* bytes of the refused packet in the error, of 4 each */
#define ROUTER_TTL 64

struct error4 {
	struct iphdr ip;
	struct icmphdr icmp;
};

struct error6 {
	struct ipv6hdr ip;
	struct icmp6hdr icmp;
};

/* Puts headers and quote in place of the packet and returns it to its sender. */
static __always_inline int send_error(struct __sk_buff *skb, struct pkt *p, const void *headers,
				      __u32 header_bytes, const void *quote, __u32 quote_bytes)
{
	struct ethhdr eth = { .h_proto = p->ethertype };

	__builtin_memcpy(eth.h_dest, p->smac, 6);
	__builtin_memcpy(eth.h_source, p->dmac, 6);
	if (bpf_skb_change_tail(skb, ETH_HLEN + header_bytes + quote_bytes, 0) < 0 ||
	    bpf_skb_store_bytes(skb, 0, &eth, ETH_HLEN, 0) < 0 ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, headers, header_bytes, 0) < 0 ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + header_bytes, quote, quote_bytes, 0) < 0)
		return DROP(HELPER);
	return send_back(skb, p);
}

/* Errors answer neither errors, nor groups, nor what has no sender (RFC 1122,
 * 4443), and only endpoints of this node: elsewhere the sender's node answered. */
static __always_inline bool error_wanted(const struct pkt *p)
{
	return p->error_type && !p->from_underlay && !p->icmp_error && p->frag != FRAG_LATER &&
	       !mac_is_group(p->dmac) && !addr_is_multicast(p->family, p->daddr) &&
	       (p->family == 4 ? p->saddr[3] != 0 : !addr_is_zero(p->saddr));
}

/* Address the error comes from: the router's side the packet came to. A bridge
 * without a router (MTU only) speaks in the destination's name. */
static __always_inline void error_source(const struct pkt *p, __be32 *addr)
{
	struct rif_key key = { .router = p->router, .vni = p->near_vni };
	const struct rif *rif = bpf_map_lookup_elem(&plum_rif, &key);

	addr_copy(addr, p->daddr);
	if (rif && !addr_is_zero(p->family == 4 ? rif->addr4 : rif->addr6))
		addr_copy(addr, p->family == 4 ? rif->addr4 : rif->addr6);
}

static __always_inline int error_ipv4(struct __sk_buff *skb, struct pkt *p, __be32 *quote,
				      __u32 bytes, const __be32 *source)
{
	struct error4 e = {};

	e.ip.version = 4;
	e.ip.ihl = 5;
	e.ip.tos = 0xc0;
	e.ip.tot_len = bpf_htons((__u16)(sizeof(e.ip) + sizeof(e.icmp) + bytes));
	e.ip.ttl = ROUTER_TTL;
	e.ip.protocol = IPPROTO_ICMP;
	e.ip.saddr = source[3];
	e.ip.daddr = p->saddr[3];
	e.ip.check = csum_ipv4((void *)&e.ip);
	e.icmp.type = p->error_type;
	e.icmp.code = p->error_code;
	e.icmp.sequence_or_mtu = bpf_htons(p->error_mtu);
	e.icmp.checksum = csum_fold(bpf_csum_diff(NULL, 0, quote, bytes,
						  bpf_csum_diff(NULL, 0, (void *)&e.icmp, 8, 0)));
	return send_error(skb, p, &e, sizeof(e), quote, bytes);
}

static __always_inline int error_ipv6(struct __sk_buff *skb, struct pkt *p, __be32 *quote,
				      __u32 bytes, const __be32 *source)
{
	struct {
		__be32 saddr[4], daddr[4], len, next;
		struct icmp6hdr icmp;
	} sum = {};
	struct error6 e = {};

	*(__be32 *)(void *)&e.ip = bpf_htonl(6u << 28);
	e.ip.payload_len = bpf_htons((__u16)(sizeof(e.icmp) + bytes));
	e.ip.nexthdr = IPPROTO_ICMPV6;
	e.ip.hop_limit = ROUTER_TTL;
	addr_copy(e.ip.saddr.in6_u.u6_addr32, source);
	addr_copy(e.ip.daddr.in6_u.u6_addr32, p->saddr);
	e.icmp.icmp6_type = p->error_type;
	e.icmp.icmp6_code = p->error_code;
	if (p->error_mtu)
		e.icmp.icmp6_mtu = bpf_htonl(p->error_mtu);
	addr_copy(sum.saddr, source);
	addr_copy(sum.daddr, p->saddr);
	sum.len = bpf_htonl(sizeof(e.icmp) + bytes);
	sum.next = bpf_htonl(IPPROTO_ICMPV6);
	sum.icmp = e.icmp;
	e.icmp.icmp6_cksum = csum_fold(bpf_csum_diff(
		NULL, 0, quote, bytes, bpf_csum_diff(NULL, 0, (__be32 *)&sum, sizeof(sum), 0)));
	return send_error(skb, p, &e, sizeof(e), quote, bytes);
}

/* stage ICMP_ERROR: the refused packet goes back as the quote of the error. */
static __always_inline int stage_icmp_error(struct __sk_buff *skb, struct pkt *p)
{
	__be32 quote[QUOTE_MAX / 4] = {};
	__u32 bytes = p->l3_bytes;
	__be32 source[4];

	p->stage = STAGE_ICMP_ERROR;
	if (bytes > QUOTE_MAX)
		bytes = QUOTE_MAX;
	bytes &= ~3u;
	if (bytes < 20 || bytes > QUOTE_MAX)
		return CONSUMED;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, quote, bytes) < 0)
		return DROP(TRUNCATED);
	error_source(p, source);
	if (p->family == 4)
		return error_ipv4(skb, p, quote, bytes, source);
	return error_ipv6(skb, p, quote, bytes, source);
}

/* A virtual router answers pings to its own addresses, and refuses the rest as
 * a host with no such port would. */
static __always_inline int answer_as_router(struct __sk_buff *skb, struct pkt *p)
{
	__u32 src = ETH_HLEN + (p->family == 4 ? 12 : 8);
	__u32 bytes = p->family == 4 ? 4 : 16;
	__u8 request = p->family == 4 ? 8 : 128;
	__u8 reply = p->family == 4 ? 0 : 129;
	const __be32 *to = p->family == 4 ? p->saddr + 3 : p->saddr;
	const __be32 *from = p->family == 4 ? p->daddr + 3 : p->daddr;

	if (p->frag || p->ttl == 0)
		return DROP(RESPONDER);
	if ((p->proto != IPPROTO_ICMP && p->proto != IPPROTO_ICMPV6) || p->icmp_type != request) {
		if (p->proto == IPPROTO_TCP || p->proto == IPPROTO_UDP)
			return unreachable(p, DROP(RESPONDER), UNREACH_PORT, UNREACH6_PORT);
		return DROP(RESPONDER);
	}
	if (bpf_skb_store_bytes(skb, 0, p->smac, 6, 0) < 0 ||
	    bpf_skb_store_bytes(skb, 6, p->dmac, 6, 0) < 0 ||
	    bpf_l4_csum_replace(skb, p->l4_off + 2, bpf_htons(request << 8), bpf_htons(reply << 8),
				2) < 0 ||
	    bpf_skb_store_bytes(skb, p->l4_off, &reply, 1, 0) < 0)
		return DROP(HELPER);
	if (bytes == 4) {
		if (bpf_skb_store_bytes(skb, src, from, 4, 0) < 0 ||
		    bpf_skb_store_bytes(skb, src + 4, to, 4, 0) < 0)
			return DROP(HELPER);
	} else {
		if (bpf_skb_store_bytes(skb, src, from, 16, 0) < 0 ||
		    bpf_skb_store_bytes(skb, src + 16, to, 16, 0) < 0)
			return DROP(HELPER);
	}
	return send_back(skb, p);
}

#endif /* PLUM_ICMP_ERROR_H */
