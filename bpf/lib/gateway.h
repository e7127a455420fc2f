/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_GATEWAY_H
#define PLUM_GATEWAY_H

#include "encap.h"
#include "icmp_error.h"
#include "public.h"
#include "punt.h"

/*
 * stage GATEWAY: between an external network and the edges. A gateway knows which
 * node a public address and port block is of, and no connection: any of them may
 * take any packet, and none is missed.
 */

#define NEIGH_PAUSE_NS (200ull * 1000 * 1000) /* between requests for one address */

static __always_inline bool mac_is_zero(const __u8 *mac)
{
	return !(*(const __u32 *)mac | *(const __u16 *)(mac + 4));
}

static __always_inline const struct external *external_of(__u32 vni)
{
	struct external_key key = { .vni = vni };

	return bpf_map_lookup_elem(&plum_external, &key);
}

static __always_inline int to_edge(struct __sk_buff *skb, struct pkt *p, const struct config *cfg,
				   __u32 node)
{
	struct tunnel t = { .node = node, .vni = p->external, .ethertype = p->ethertype };

	t.again = p->from_underlay;
	t.entropy = (__u16)(49152 + (p->hash & 0x3fff));
	external_mac(t.dmac, p->external);
	external_mac(t.smac, p->external);
	p->stage = STAGE_ENCAPSULATE;
	return encapsulate(skb, cfg, &t, p->now);
}

/* The address outside that the packet goes to next. */
static __always_inline int next_hop_outside(const struct pkt *p, __be32 *hop)
{
	struct route_key key = { .prefixlen = 32 + 128, .router = EXTERNAL_ROUTER | p->external };
	const struct route *route;

	addr_copy(key.addr, p->daddr);
	addr_copy(hop, p->daddr);
	route = bpf_map_lookup_elem(&plum_route, &key);
	if (!route || route->kind == ROUTE_NONE)
		return DROP(NO_ROUTE);
	if (route->kind == ROUTE_BLACKHOLE)
		return DROP(BLACKHOLE);
	if (route->kind == ROUTE_VIA) {
		struct hop_key hk = { .group = route->group };
		const struct hop *to;

		hk.index = route->hops ? p->hash % route->hops : 0;
		to = bpf_map_lookup_elem(&plum_hop, &hk);
		if (!to)
			return DROP(NO_ROUTE);
		addr_copy(hop, to->addr);
	}
	return NEXT;
}

/* plumd asks, and sends on the packet that waits. One request for an address at a
 * time: its row has no MAC until then. */
static __always_inline int ask_for_neighbour(struct __sk_buff *skb, struct pkt *p,
					     const struct external *ext,
					     const struct neigh_key *key, const struct neigh *asked)
{
	struct neigh pending = { .seen = p->now };

	if (asked && p->now < asked->seen + NEIGH_PAUSE_NS)
		return DROP(NO_NEIGHBOUR);
	bpf_map_update_elem(&plum_neigh, key, &pending, BPF_ANY);
	p->in_ifindex = ext->ifindex;
	return punt_frame(skb, p, PUNT_NEIGH, p->external);
}

static __always_inline int send_to_neighbour(struct __sk_buff *skb, const struct external *ext,
					     const struct neigh *neigh)
{
	if (bpf_skb_store_bytes(skb, 0, neigh->mac, 6, 0) < 0 ||
	    bpf_skb_store_bytes(skb, 6, ext->mac, 6, 0) < 0)
		return DROP(HELPER);
	if (ext->vlan && bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), ext->vlan) < 0)
		return DROP(HELPER);
	return bpf_redirect(ext->ifindex, 0) == TC_ACT_REDIRECT ? SENT : DROP(HELPER);
}

static __always_inline int send_outside(struct __sk_buff *skb, struct pkt *p,
					const struct external *ext)
{
	struct neigh_key key = { .vni = p->external };
	const struct neigh *neigh;
	int rc = next_hop_outside(p, key.addr);

	if (rc)
		return rc;
	neigh = bpf_map_lookup_elem(&plum_neigh, &key);
	if (!neigh || mac_is_zero(neigh->mac))
		return ask_for_neighbour(skb, p, ext, &key, neigh);
	return send_to_neighbour(skb, ext, neigh);
}

/* Whether a node has backends of the load balancer at a public address. */
static __always_inline bool sends_as(__u32 vni, const __be32 *addr, __u32 node)
{
	struct public_key key = { .vni = vni, .port = (__u16)node, .kind = PUBLIC_SENDER };

	addr_copy(key.addr, addr);
	return bpf_map_lookup_elem(&plum_public, &key);
}

/* Whether the node a packet comes from has its source address and port. */
static __always_inline int check_edge(struct __sk_buff *skb, const struct pkt *p,
				      const struct external *ext)
{
	const struct public_end *row;
	__be16 port;
	__u8 proto;

	if (is_martian(p) || !public_port(skb, p, true, &port, &proto))
		return DROP(LINK_LOCAL);
	row = public_of(p->external, p->saddr, port, proto, ext->block_ports);
	if (row && row->backends)
		return sends_as(p->external, p->saddr, p->in_node) ? NEXT : DROP(SOURCE_ADDRESS);
	return row && row->node == p->in_node ? NEXT : DROP(SOURCE_ADDRESS);
}

/* Whose the destination is, if it is public. */
static __always_inline const struct public_end *
public_destination(struct __sk_buff *skb, const struct pkt *p, const struct external *ext)
{
	__be16 port;
	__u8 proto;

	if (!public_port(skb, p, false, &port, &proto))
		return NULL;
	return public_of(p->external, p->daddr, port, proto, ext->block_ports);
}

/* Is the address one this gateway answers for? */
static __always_inline bool is_claimed(__u32 vni, const __be32 *addr)
{
	struct claim_key key = { .vni = vni };

	addr_copy(key.addr, addr);
	return bpf_map_lookup_elem(&plum_claim, &key);
}

static __always_inline int arp_outside(struct __sk_buff *skb, struct pkt *p,
				       const struct external *ext)
{
	struct neighbour n = {};
	struct arp_frame a;
	__be32 addr[4];

	if (bpf_skb_load_bytes(skb, 0, &a, sizeof(a)) < 0 || a.op != bpf_htons(ARPOP_REQUEST))
		return PASS;
	addr_from4(addr, a.target);
	if (!is_claimed(p->external, addr))
		return PASS;
	__builtin_memcpy(n.mac, ext->mac, 6);
	return answer_arp(skb, p, &a, &n);
}

static __always_inline int nd_outside(struct __sk_buff *skb, struct pkt *p,
				      const struct external *ext)
{
	struct neighbour n = { .router = true };
	struct nd_message nd;
	__be32 target[4];

	if (p->icmp_type != ND_NEIGHBOUR_SOLICIT || p->ttl != 255 ||
	    bpf_skb_load_bytes(skb, p->l4_off, &nd, ND_FIXED) < 0)
		return PASS;
	addr_copy(target, nd.target);
	if (!is_claimed(p->external, target))
		return PASS;
	__builtin_memcpy(n.mac, ext->mac, 6);
	return answer_nd(skb, p, target, &n);
}

/* Whether the frame is for this gateway at all; PASS: it is the host's own. */
static __always_inline int check_outside(struct __sk_buff *skb, struct pkt *p,
					 const struct external *ext)
{
	if (!p->family)
		return arp_outside(skb, p, ext);
	if (p->nd)
		return nd_outside(skb, p, ext);
	if (is_martian(p))
		return PASS;
	return NEXT;
}

/* Does it fit the way to the edge? What is too large gets the error from the
 * gateway's own address, so that path-MTU discovery works from outside. */
static __always_inline int check_edge_mtu(struct __sk_buff *skb, struct pkt *p,
					  const struct external *ext)
{
	p->router = EXTERNAL_ROUTER | p->external;
	p->near_vni = p->external;
	return fits(skb, p, ext->mtu);
}

#endif /* PLUM_GATEWAY_H */
