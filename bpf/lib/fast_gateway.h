/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_FAST_GATEWAY_H
#define PLUM_FAST_GATEWAY_H

#include "fast.h"
#include "gateway.h"

/*
 * A gateway's way out and in for an ordinary packet: stages PARSE and GATEWAY in one
 * go. A gateway has no flows, so this reads a packet of any connection; fragments,
 * errors, what stays between public addresses, load balancers, and whatever would be
 * dropped miss, and the slow path looks at them properly.
 */

/* Addresses and ports as the slow path's PARSE would find them. */
static __always_inline bool plain_l4(void *l4, void *end, struct pkt *p, __u32 l4_bytes)
{
	if (p->proto == IPPROTO_TCP) {
		struct tcphdr *tcp = l4;

		if ((void *)(tcp + 1) > end || tcp->doff < 5 || tcp->doff * 4u > l4_bytes)
			return false;
		p->sport = tcp->source;
		p->dport = tcp->dest;
		return true;
	}
	if (p->proto == IPPROTO_UDP) {
		struct udphdr *udp = l4;

		if ((void *)(udp + 1) > end || bpf_ntohs(udp->len) < sizeof(*udp) ||
		    bpf_ntohs(udp->len) > l4_bytes)
			return false;
		p->sport = udp->source;
		p->dport = udp->dest;
		return true;
	}
	if (p->proto == (p->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		struct icmphdr *icmp = l4;

		if ((void *)(icmp + 1) > end || l4_bytes < sizeof(*icmp))
			return false;
		return fast_icmp_ports(p->family, icmp, &p->sport, &p->dport);
	}
	return false;
}

static __always_inline bool plain_ip(struct ethhdr *eth, void *end, __u32 room, struct pkt *p)
{
	__u32 bytes;

	p->ethertype = eth->h_proto;
	if (p->ethertype == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)(eth + 1);

		if ((void *)(ip + 1) > end || *(__u8 *)ip != 0x45 ||
		    (ip->frag_off & bpf_htons(0x3fff)))
			return false;
		bytes = bpf_ntohs(ip->tot_len);
		if (bytes < sizeof(*ip) || bytes > room)
			return false;
		p->family = 4;
		p->proto = ip->protocol;
		addr_from4(p->saddr, ip->saddr);
		addr_from4(p->daddr, ip->daddr);
		p->l3_bytes = bytes;
		return plain_l4(ip + 1, end, p, bytes - sizeof(*ip));
	}
	if (p->ethertype == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (void *)(eth + 1);

		if ((void *)(ip + 1) > end || ip->version != 6)
			return false;
		bytes = bpf_ntohs(ip->payload_len);
		if (bytes + sizeof(*ip) > room)
			return false;
		p->family = 6;
		p->proto = ip->nexthdr;
		addr_copy(p->saddr, ip->saddr.in6_u.u6_addr32);
		addr_copy(p->daddr, ip->daddr.in6_u.u6_addr32);
		p->l3_bytes = bytes + sizeof(*ip);
		return plain_l4(ip + 1, end, p, bytes);
	}
	return false;
}

/* The MAC of the next hop outside, if it is known. */
static __always_inline const struct neigh *known_neighbour(const struct pkt *p)
{
	struct neigh_key key = { .vni = p->external };
	const struct neigh *neigh;

	if (next_hop_outside(p, key.addr))
		return NULL;
	neigh = bpf_map_lookup_elem(&plum_neigh, &key);
	return neigh && !mac_is_zero(neigh->mac) ? neigh : NULL;
}

static __always_inline bool is_public(const struct pkt *p)
{
	struct public_key key = { .vni = p->external, .kind = PUBLIC_ADDRESS };

	addr_copy(key.addr, p->daddr);
	return bpf_map_lookup_elem(&plum_public, &key);
}

/* Frames between edges and gateways carry external_mac(). */
static __always_inline bool is_external_mac(const __u8 *mac)
{
	return mac[0] == 0x02 && mac[1] == 0x78 && !mac[2];
}

static __always_inline void begin(struct pkt *p, __u32 external)
{
	p->external = external;
	p->icmp_error = false;
	p->nd = false;
}

static __always_inline int fast_gateway(struct __sk_buff *skb, const struct outer *outer,
					struct ethhdr *eth, void *end, __u32 head)
{
	const struct external *ext = external_of(outer->vni);
	struct pkt *p = scratch();
	const struct neigh *neigh;
	int rc;

	if (!p || !ext || !ext->ifindex)
		return FAST_MISS;
	begin(p, outer->vni);
	p->in_node = outer->node;
	mac_copy(p->dmac, eth->h_dest);
	if (!plain_ip(eth, end, skb->len - head - ETH_HLEN, p) || is_public(p) ||
	    check_edge(skb, p, ext))
		return FAST_MISS;
	p->hash = flow_hash(p);
	neigh = known_neighbour(p);
	if (!neigh)
		return FAST_MISS;
	rc = decapsulate(skb, outer->v4);
	if (!rc)
		rc = send_to_neighbour(skb, ext, neigh);
	return fast_answer(skb, rc, DROP_SLOT_NODE);
}

static __always_inline int fast_from_ul(struct __sk_buff *skb)
{
	const struct config *cfg = config();
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct outer outer = {};
	struct fast o = {};
	struct ethhdr *eth;
	__u32 slot, ctx, head;
	__u64 now;
	int rc;

	if (!cfg)
		return TC_ACT_OK;
	rc = check_outer(skb, cfg, &outer);
	if (rc == PASS)
		return TC_ACT_OK;
	if (rc)
		return FAST_MISS; /* the slow path finds the same reason and counts it */
	head = outer.v4 ? OUTER4 : OUTER6;
	eth = data + head;
	if ((void *)eth + ETH_HLEN + sizeof(struct iphdr) > end)
		return FAST_MISS;
	if (is_external_mac(eth->h_dest)) {
		rc = fast_gateway(skb, &outer, eth, end, head);
		if (rc != FAST_MISS)
			return rc;
	}
	o.ethertype = eth->h_proto;
	ctx = FLOW_CTX_UNDERLAY | outer.vni;
	if (o.ethertype == bpf_htons(ETH_P_IP)) {
		if (!fast_find4(skb, eth, end, skb->len - head - ETH_HLEN, ctx, &o))
			return FAST_MISS;
	} else if (o.ethertype == bpf_htons(ETH_P_IPV6)) {
		if (!fast_find6(skb, eth, end, skb->len - head - ETH_HLEN, ctx, &o))
			return FAST_MISS;
	} else {
		return FAST_MISS;
	}
	now = now_ns();
	if (!o.flow->out_ifindex || !fast_applies(eth, &o, now))
		return FAST_MISS;
	slot = o.flow->out_slot;
	if (o.flow->qos) {
		rc = fast_limit(skb, &o, false, skb->len - head);
		if (rc)
			return fast_answer(skb, rc, slot);
	}
	fast_touch(&o, now, skb->len - head);
	if (o.flow->flags & FLOW_ROUTED)
		fast_rewrite(eth, &o);
	rc = decapsulate(skb, outer.v4);
	if (!rc && o.flow->flags & (FLOW_NEW_DST | FLOW_NEW_SRC))
		rc = fast_translate(skb, &o);
	if (!rc) {
		__u32 bytes = skb->len;

		rc = deliver(skb, o.flow->out_ifindex, o.flow->flags & FLOW_TAP, o.ethertype);
		if (rc == SENT)
			count_received(slot, bytes);
	}
	return fast_answer(skb, rc, slot);
}

/* From outside to the node that a public address is of. */
static __always_inline int fast_from_ext(struct __sk_buff *skb, struct pkt *p,
					 const struct config *cfg, const struct external *ext,
					 __u32 vni)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	const struct public_end *row;
	struct ethhdr *eth = data;

	if (data + ETH_HLEN > end || skb->gso_size)
		return FAST_MISS;
	begin(p, vni);
	mac_copy(p->dmac, eth->h_dest);
	if (!plain_ip(eth, end, skb->len - ETH_HLEN, p) || is_martian(p) || p->l3_bytes > ext->mtu)
		return FAST_MISS;
	row = public_of(vni, p->daddr, p->dport, p->proto, ext->block_ports);
	if (!row || row->backends || !row->node)
		return FAST_MISS;
	if (public_of(vni, p->saddr, p->sport, p->proto, ext->block_ports))
		return FAST_MISS;
	p->from_underlay = false;
	p->hash = flow_hash(p);
	p->now = now_ns();
	return fast_answer(skb, to_edge(skb, p, cfg, row->node), DROP_SLOT_NODE);
}

#endif /* PLUM_FAST_GATEWAY_H */
