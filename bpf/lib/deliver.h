/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_DELIVER_H
#define PLUM_DELIVER_H

#include <stddef.h>
#include <linux/tcp.h>

#include "encap.h"
#include "limit.h"
#include "quote.h"

static __always_inline void count_sent(__u32 slot, __u32 bytes)
{
	struct ep_stat *stat = bpf_map_lookup_elem(&plum_ep_stat, &slot);

	if (stat) {
		stat->tx_packets++;
		stat->tx_bytes += bytes;
	}
}

static __always_inline void count_received(__u32 slot, __u32 bytes)
{
	struct ep_stat *stat = bpf_map_lookup_elem(&plum_ep_stat, &slot);

	if (stat) {
		stat->rx_packets++;
		stat->rx_bytes += bytes;
	}
}

/*
 * stage DELIVER: into a local endpoint. redirect_peer hands the packet to the
 * other end of a veth without a trip through the host; it keeps skb->protocol,
 * so a frame that came out of a tunnel of the other family takes the long way,
 * where the device reads the type anew.
 */
static __always_inline int deliver(struct __sk_buff *skb, __u32 ifindex, bool tap, __be16 ethertype)
{
	long rc;

	if (tap || skb->protocol != ethertype) {
		rc = bpf_redirect(ifindex, 0);
	} else {
		if (skb->pkt_type != PACKET_HOST && bpf_skb_change_type(skb, PACKET_HOST) < 0)
			return DROP(HELPER);
		rc = bpf_redirect_peer(ifindex, 0);
	}
	return rc == TC_ACT_REDIRECT ? SENT : DROP(HELPER);
}

static __always_inline int take_hops4(struct __sk_buff *skb, __u8 ttl, __u8 proto, __u8 hops)
{
	__be16 from = bpf_htons((__u16)(ttl << 8 | proto));
	__be16 to = bpf_htons((__u16)((ttl - hops) << 8 | proto));

	if (bpf_l3_csum_replace(skb, ETH_HLEN + 10, from, to, 2) < 0 ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + 8, &to, 2, 0) < 0)
		return DROP(HELPER);
	return NEXT;
}

/* Where TCP, UDP and ICMP have their checksum. */
static __always_inline __u32 l4_check_offset(__u8 proto)
{
	if (proto == IPPROTO_TCP)
		return offsetof(struct tcphdr, check);
	if (proto == IPPROTO_UDP)
		return offsetof(struct udphdr, check);
	return 2; /* ICMP */
}

static __always_inline bool is_icmp(__u8 proto)
{
	return proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6;
}

/* Where one end's port is in its L4 header; an ICMP echo has its id for both. */
static __always_inline __u32 port_offset(__u8 proto, bool destination)
{
	if (is_icmp(proto))
		return 4;
	return destination ? 2 : 0;
}

/* One end's address and port in a packet whose IPv4 or IPv6 header is plain up
 * to the addresses. Of a later fragment there is the address only; an ICMP echo has
 * its id at the end that asked. */
struct translation {
	__u8 family;
	__u8 proto;
	__u8 kind;  /* FLOW_NEW_DST or FLOW_NEW_SRC */
	bool l4;    /* its checksum is here, and perhaps over addresses */
	bool ports; /* its port is, too */
	__be16 old_port;
	__be16 port;
	__u32 sum;
	__u32 l4_off;
	__be32 addr[4];
};

static __always_inline int translate_address(struct __sk_buff *skb, const struct translation *t)
{
	__u32 at = ETH_HLEN + (t->family == 4 ? 12 : 8);

	if (t->kind == FLOW_NEW_DST)
		at += t->family == 4 ? 4 : 16;
	if (t->family == 4) {
		if (bpf_l3_csum_replace(skb, ETH_HLEN + 10, 0, t->sum, 0) < 0 ||
		    bpf_skb_store_bytes(skb, at, &t->addr[3], 4, 0) < 0)
			return DROP(HELPER);
		return NEXT;
	}
	return bpf_skb_store_bytes(skb, at, t->addr, 16, 0) < 0 ? DROP(HELPER) : NEXT;
}

static __always_inline int translate(struct __sk_buff *skb, const struct translation *t)
{
	__u32 check = t->l4_off + l4_check_offset(t->proto);
	__u64 udp = t->proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	__u32 port = t->l4_off + port_offset(t->proto, t->kind == FLOW_NEW_DST);
	int rc = translate_address(skb, t);

	if (rc || !t->l4)
		return rc;
	/* ICMP's checksum in IPv4 is not over addresses. */
	if (t->proto != IPPROTO_ICMP &&
	    bpf_l4_csum_replace(skb, check, 0, t->sum, BPF_F_PSEUDO_HDR | udp) < 0)
		return DROP(HELPER);
	if (t->ports && (bpf_l4_csum_replace(skb, check, t->old_port, t->port, udp | 2) < 0 ||
			 bpf_skb_store_bytes(skb, port, &t->port, 2, 0) < 0))
		return DROP(HELPER);
	return NEXT;
}

/* Does the packet hold the port of the end that is translated? */
static __always_inline bool has_port(const struct pkt *p)
{
	__u8 echo = p->translate == FLOW_NEW_SRC ? 8 : 0; /* asked by our end, or answered to it */

	if (p->family == 6)
		echo = p->translate == FLOW_NEW_SRC ? 128 : 129;
	return p->frag != FRAG_LATER && (!is_icmp(p->proto) || p->icmp_type == echo);
}

static __always_inline int translate_slow(struct __sk_buff *skb, const struct pkt *p)
{
	struct translation t = {
		.family = p->family,
		.proto = p->proto,
		.kind = p->translate,
		.l4 = p->frag != FRAG_LATER &&
		      (p->proto == IPPROTO_TCP || p->proto == IPPROTO_UDP || is_icmp(p->proto)),
		.port = p->new_port,
		.l4_off = p->l4_off,
	};
	__be32 from[4];

	if (!p->translate)
		return NEXT;
	if (p->quoted)
		return translate_error(skb, p);
	addr_copy(from, p->translate == FLOW_NEW_DST ? p->daddr : p->saddr);
	addr_copy(t.addr, p->new_addr);
	t.ports = t.l4 && has_port(p);
	t.old_port = p->translate == FLOW_NEW_DST ? p->dport : p->sport;
	t.sum = (__u32)bpf_csum_diff(from, sizeof(from), t.addr, sizeof(t.addr), 0);
	return translate(skb, &t);
}

/* A routed packet leaves with the router's MAC and a lower TTL. */
static __always_inline int rewrite(struct __sk_buff *skb, const struct pkt *p)
{
	__u8 ttl = p->ttl - p->hops;

	if (!p->routed)
		return NEXT;
	if (p->family == 4) {
		/* The protocol byte as it stands, which an extension cannot hide in IPv4. */
		int rc = take_hops4(skb, p->ttl, p->proto, p->hops);

		if (rc)
			return rc;
	} else if (bpf_skb_store_bytes(skb, ETH_HLEN + 7, &ttl, 1, 0) < 0) {
		return DROP(HELPER);
	}
	if (bpf_skb_store_bytes(skb, 0, p->out_dmac, 6, 0) < 0 ||
	    bpf_skb_store_bytes(skb, 6, p->out_smac, 6, 0) < 0)
		return DROP(HELPER);
	return NEXT;
}

/* The slow path's way out: rewrite, count, send. */
static __always_inline int send_out(struct __sk_buff *skb, struct pkt *p, const struct config *cfg)
{
	struct tunnel t = { .node = p->out_node, .vni = p->out_vni, .ethertype = p->ethertype };
	__u32 bytes = skb->len;
	int rc = rewrite(skb, p);

	if (rc)
		return rc;
	rc = translate_slow(skb, p);
	if (!rc)
		rc = mark(skb, p->family, p->qos);
	if (rc)
		return rc;
	if (p->out_ifindex) {
		p->stage = STAGE_DELIVER;
		rc = deliver(skb, p->out_ifindex, p->out_flags & EP_TAP, p->ethertype);
		if (rc == SENT)
			count_received(p->out_slot, bytes);
	} else if (p->external && !p->out_node) {
		count_sent(p->in_slot, bytes);
		return UPLINK;
	} else if (p->from_underlay) {
		return DROP(NOT_HERE); /* a tunnel frame never leaves by a tunnel again */
	} else {
		p->stage = STAGE_ENCAPSULATE;
		t.entropy = (__u16)(49152 + (p->hash & 0x3fff));
		t.tos = outer_tos(p->qos);
		__builtin_memcpy(t.dmac, p->out_dmac, 6);
		__builtin_memcpy(t.smac, p->out_smac, 6);
		rc = encapsulate(skb, cfg, &t, p->now);
	}
	if (rc == SENT && !p->from_underlay)
		count_sent(p->in_slot, bytes);
	return rc;
}

#endif /* PLUM_DELIVER_H */
