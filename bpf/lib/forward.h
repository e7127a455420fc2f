/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_FORWARD_H
#define PLUM_FORWARD_H

#include "parse.h"

enum icmp4_unreach { UNREACH_NET = 0, UNREACH_HOST = 1, UNREACH_PORT = 3, UNREACH_FRAG = 4 };
enum icmp6_unreach { UNREACH6_ROUTE = 0, UNREACH6_ADDRESS = 3, UNREACH6_PORT = 4 };

/* Notes the ICMP error that finish() has the ICMP_ERROR program send. */
static __always_inline int refuse(struct pkt *p, int drop, __u8 type4, __u8 code4, __u8 type6,
				  __u8 code6)
{
	p->error_type = p->family == 4 ? type4 : type6;
	p->error_code = p->family == 4 ? code4 : code6;
	return drop;
}

static __always_inline int unreachable(struct pkt *p, int drop, __u8 code4, __u8 code6)
{
	return refuse(p, drop, 3, code4, 1, code6);
}

static __always_inline __u32 mix(__u32 h, __u32 v)
{
	h ^= v;
	h *= 0x9e3779b1;
	return h ^ (h >> 15);
}

/* The same for every packet of a flow; spreads ECMP and the outer source port. */
static __always_inline __u32 flow_hash(const struct pkt *p)
{
	__u32 h = p->proto;

	h = mix(h, p->saddr[0] ^ p->saddr[1]);
	h = mix(h, p->saddr[2] ^ p->saddr[3]);
	h = mix(h, p->daddr[0] ^ p->daddr[1]);
	h = mix(h, p->daddr[2] ^ p->daddr[3]);
	h = mix(h, (__u32)p->sport << 16 | p->dport);
	h ^= h >> 16; /* the low bits choose: high ones of the ports must reach them */
	h *= 0x85ebca6b;
	return h ^ (h >> 13);
}

/* Sets the way out to an endpoint, here or on a node. */
static __always_inline int set_out(struct pkt *p, __u32 ifindex, __u32 node, __u32 vni,
				   const __u8 *dmac)
{
	struct ep_key key = { .ifindex = ifindex };
	const struct ep *ep;

	p->out_vni = vni;
	p->out_node = node;
	__builtin_memcpy(p->out_dmac, dmac, 6);
	if (node)
		return NEXT;
	ep = bpf_map_lookup_elem(&plum_ep, &key);
	if (!ep)
		return DROP(NOT_PROGRAMMED);
	p->out_ifindex = ifindex;
	p->out_slot = ep->slot;
	p->out_flags = ep->flags;
	p->out_quota = ep->flow_quota;
	p->out_ingress_set = ep->ingress_set;
	p->out_egress_set = ep->egress_set;
	return NEXT;
}

/* Does the packet fit the way it goes out? GSO packets are many small ones. */
static __always_inline int fits(struct __sk_buff *skb, struct pkt *p, __u32 mtu)
{
	__u32 bytes = p->l3_bytes;

	p->out_mtu = mtu;
	if (skb->gso_size)
		bytes = skb->gso_size + p->l4_off - ETH_HLEN + p->l4_header;
	if (bytes <= mtu)
		return NEXT;
	p->error_mtu = (__u16)mtu;
	return refuse(p, DROP(MTU), 3, UNREACH_FRAG, 2, 0);
}

static __always_inline int check_mtu(struct __sk_buff *skb, struct pkt *p)
{
	struct bridge_key key = { .vni = p->out_vni };
	const struct bridge *b = bpf_map_lookup_elem(&plum_bridge, &key);

	return b ? fits(skb, p, b->mtu) : DROP(VNI);
}

/* stage BRIDGE: the frame is for a neighbour on its own bridge. */
static __always_inline int stage_bridge(struct __sk_buff *skb, struct pkt *p,
					const struct port *port)
{
	int rc;

	p->stage = STAGE_BRIDGE;
	__builtin_memcpy(p->out_smac, p->smac, 6);
	rc = set_out(p, port->ifindex, port->node, p->in_vni, p->dmac);
	return rc ? rc : check_mtu(skb, p);
}

struct next_hop {
	struct host_key key;
	__u32 vni;
	bool uplink; /* out of the zone */
};

/* Frames between edge and gateway carry this MAC at both ends: 02:78 and the
 * VNI of the external network. */
static __always_inline void external_mac(__u8 *mac, __u32 vni)
{
	mac[0] = 0x02;
	mac[1] = 0x78;
	mac[2] = 0;
	mac[3] = (__u8)(vni >> 16);
	mac[4] = (__u8)(vni >> 8);
	mac[5] = (__u8)vni;
}

/* The way to one of the external network's gateways, spread by connection. */
static __always_inline int way_to_gateway(struct __sk_buff *skb, struct pkt *p)
{
	struct uplink_key uk = { .router = p->router };
	const struct uplink *uplink = bpf_map_lookup_elem(&plum_uplink, &uk);
	struct gateway_key gk = {};
	const struct gateway *gateway;

	if (!uplink)
		return unreachable(p, DROP(NO_ROUTE), UNREACH_NET, UNREACH6_ROUTE);
	if (!uplink->gateways)
		return unreachable(p, DROP(NO_GATEWAY), UNREACH_NET, UNREACH6_ROUTE);
	gk.group = uplink->group;
	gk.index = p->hash % uplink->gateways;
	gateway = bpf_map_lookup_elem(&plum_gateway, &gk);
	if (!gateway)
		return unreachable(p, DROP(NO_GATEWAY), UNREACH_NET, UNREACH6_ROUTE);
	p->external = uplink->vni;
	p->out_vni = uplink->vni;
	p->out_node = gateway->node;
	external_mac(p->out_dmac, uplink->vni);
	external_mac(p->out_smac, uplink->vni);
	return fits(skb, p, uplink->mtu);
}

/* One router's choice: where the packet goes next. */
static __always_inline int route_lookup(struct pkt *p, __u32 router, struct next_hop *nh)
{
	struct route_key key = { .prefixlen = 32 + 128, .router = router };
	const struct route *route;

	addr_copy(key.addr, p->daddr);
	route = bpf_map_lookup_elem(&plum_route, &key);
	if (!route || route->kind == ROUTE_NONE)
		return unreachable(p, DROP(NO_ROUTE), UNREACH_NET, UNREACH6_ROUTE);
	nh->key.domain = p->domain;
	nh->vni = route->vni;
	addr_copy(nh->key.addr, p->daddr);
	if (route->kind == ROUTE_BLACKHOLE)
		return DROP(BLACKHOLE);
	nh->uplink = route->kind == ROUTE_UPLINK;
	if (route->kind == ROUTE_VIA) {
		struct hop_key hk = { .group = route->group };
		const struct hop *hop;

		hk.index = route->hops ? p->hash % route->hops : 0;
		hop = bpf_map_lookup_elem(&plum_hop, &hk);
		if (!hop)
			return unreachable(p, DROP(NO_ROUTE), UNREACH_NET, UNREACH6_ROUTE);
		addr_copy(nh->key.addr, hop->addr);
		nh->vni = hop->vni;
	}
	return NEXT;
}

/* Is the address one of this router's own? */
static __always_inline bool is_router_address(const struct pkt *p, __u32 router)
{
	struct host_key key = { .domain = p->domain };
	const struct host *host;

	addr_copy(key.addr, p->daddr);
	host = bpf_map_lookup_elem(&plum_host, &key);
	return host && host->router == router;
}

/* Notes the rules of an interface the packet passes; ROUTER_POLICY asks them. */
static __always_inline void pass_gate(struct pkt *p, __u32 router, __u32 vni, int gate)
{
	struct rif_key key = { .router = router, .vni = vni };
	const struct rif *rif = bpf_map_lookup_elem(&plum_rif, &key);

	if (!rif)
		return;
	p->gates[gate] = gate & 1 ? rif->ingress_set : rif->egress_set;
	if (p->gates[gate])
		p->gated = true;
}

/*
 * stage ROUTE: up to MAX_ROUTERS virtual routers, all decided here on the
 * sender's node. p->router is the one that holds the packet: it answers pings
 * and sends ICMP errors. *to_router says the packet was for it, p->balancer
 * that it is for a load balancer's address, p->external that it leaves the zone.
 */
static __always_inline int stage_route(struct __sk_buff *skb, struct pkt *p, __u32 router,
				       bool *to_router)
{
	struct next_hop nh = {};
	int rc;

	p->stage = STAGE_ROUTE;
	p->routed = true;
	for (int i = 0; i < MAX_ROUTERS; i++) {
		const struct host *host;

		p->router = router;
		if (is_router_address(p, router)) {
			*to_router = true;
			return NEXT;
		}
		if (addr_is_link_local(p->family, p->daddr) ||
		    addr_is_link_local(p->family, p->saddr) ||
		    addr_is_multicast(p->family, p->daddr))
			return DROP(LINK_LOCAL);
		if (p->ttl <= p->hops + 1)
			return refuse(p, DROP(TTL), 11, 0, 3, 0);
		rc = route_lookup(p, router, &nh);
		if (rc)
			return rc;
		p->hops++;
		pass_gate(p, router, p->near_vni, 2 * i);
		if (nh.uplink)
			return way_to_gateway(skb, p);
		host = bpf_map_lookup_elem(&plum_host, &nh.key);
		if (!host)
			return unreachable(p, DROP(NO_HOST), UNREACH_HOST, UNREACH6_ADDRESS);
		pass_gate(p, router, host->router ? nh.vni : host->vni, 2 * i + 1);
		if (host->router && host->router != router) {
			p->near_vni = nh.vni;
			router = host->router;
			continue;
		}
		if (host->router)
			return unreachable(p, DROP(NO_HOST), UNREACH_HOST, UNREACH6_ADDRESS);
		if (addr_equal(nh.key.addr, p->daddr)) {
			p->dst_class = host->peer_class;
			p->dst_class_known = true;
			p->balancer = host->balancer;
			if (p->balancer)
				return NEXT;
		}
		if (host->balancer) /* as a next hop it leads nowhere */
			return unreachable(p, DROP(NO_HOST), UNREACH_HOST, UNREACH6_ADDRESS);
		rc = set_out(p, host->ifindex, host->node, host->vni, host->mac);
		return rc ? rc : check_mtu(skb, p);
	}
	return DROP(ROUTE_LOOP);
}

/* The MAC the packet leaves with: the last router's on the last bridge. */
static __always_inline int set_router_mac(struct pkt *p)
{
	struct rif_key key = { .router = p->router, .vni = p->out_vni };
	const struct rif *rif = bpf_map_lookup_elem(&plum_rif, &key);

	if (!rif)
		return DROP(NO_ROUTER);
	__builtin_memcpy(p->out_smac, rif->mac, 6);
	return NEXT;
}

#endif /* PLUM_FORWARD_H */
