/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_PROBE_H
#define PLUM_PROBE_H

#include "encap.h"

/*
 * stage PROBE: another VTEP asks whether we are there. The datagram goes back as
 * it came, ends swapped, so the answer is no larger than the question; every
 * checksum stays right. It is answered here and not by plumd: a node whose plumd
 * is dead forwards all the same. Only VTEPs of the zone get this far. A question
 * from port 4789 would be answered to port 4789, where it would be a question.
 */
static __always_inline int swap_ends4(struct outer4 *o)
{
	__be32 addr = o->ip.saddr;

	if (o->udp.source == bpf_htons(VXLAN_PORT))
		return DROP(VXLAN);
	o->ip.saddr = o->ip.daddr;
	o->ip.daddr = addr;
	o->udp.dest = o->udp.source;
	o->udp.source = bpf_htons(VXLAN_PORT);
	return NEXT;
}

static __always_inline int swap_ends6(struct outer6 *o)
{
	struct in6_addr addr = o->ip.saddr;

	if (o->udp.source == bpf_htons(VXLAN_PORT))
		return DROP(VXLAN);
	o->ip.saddr = o->ip.daddr;
	o->ip.daddr = addr;
	o->udp.dest = o->udp.source;
	o->udp.source = bpf_htons(VXLAN_PORT);
	return NEXT;
}

/* A question may be about an external network: then only its gateway answers, and
 * only while its device there works. */
#define PROBE_NETWORK 16 /* offset of its VNI in the body */

static __always_inline bool serves(struct __sk_buff *skb, bool v4)
{
	__u32 at = (v4 ? OUTER4 : OUTER6) + PROBE_NETWORK; /* the body is where a frame would be */
	struct external_key key = {};
	const struct external *ext;
	__be32 network;

	if (bpf_skb_load_bytes(skb, at, &network, sizeof(network)) < 0 || !network)
		return true;
	key.vni = bpf_ntohl(network);
	ext = bpf_map_lookup_elem(&plum_external, &key);
	return ext && ext->ifindex;
}

static __always_inline int stage_probe(struct __sk_buff *skb, struct pkt *p, bool v4)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	__u8 mac[6];
	int rc;

	p->stage = STAGE_PROBE;
	if (!serves(skb, v4))
		return DROP(NO_GATEWAY);
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	eth = data;
	if (data + (v4 ? sizeof(struct outer4) : sizeof(struct outer6)) > end)
		return DROP(TRUNCATED);
	rc = v4 ? swap_ends4(data) : swap_ends6(data);
	if (rc)
		return rc;
	mac_copy(mac, eth->h_dest);
	mac_copy(eth->h_dest, eth->h_source);
	mac_copy(eth->h_source, mac);
	return bpf_redirect(skb->ifindex, 0) == TC_ACT_REDIRECT ? SENT : DROP(HELPER);
}

#endif /* PLUM_PROBE_H */
