/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_DELIVER_H
#define PLUM_DELIVER_H

#include "encap.h"

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
	if (p->out_ifindex) {
		p->stage = STAGE_DELIVER;
		rc = deliver(skb, p->out_ifindex, p->out_flags & EP_TAP, p->ethertype);
		if (rc == SENT)
			count_received(p->out_slot, bytes);
	} else if (p->from_underlay) {
		return DROP(NOT_HERE); /* a tunnel frame never leaves by a tunnel again */
	} else {
		p->stage = STAGE_ENCAPSULATE;
		t.entropy = (__u16)(49152 + (p->hash & 0x3fff));
		__builtin_memcpy(t.dmac, p->out_dmac, 6);
		__builtin_memcpy(t.smac, p->out_smac, 6);
		rc = encapsulate(skb, cfg, &t, p->now);
	}
	if (rc == SENT && !p->from_underlay)
		count_sent(p->in_slot, bytes);
	return rc;
}

#endif /* PLUM_DELIVER_H */
