/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_FAST_H
#define PLUM_FAST_H

#include "deliver.h"
#include "finish.h"
#include "flow.h"
#include "limit.h"

/* no tc action has these values */
#define FAST_MISS   0x100
#define FAST_UPLINK 0x101

/*
 * The whole way of an established connection's ordinary packet: stages PARSE,
 * FLOW_LOOKUP, ENCAPSULATE or DELIVER with one hash lookup. Whatever is not
 * plain (options, fragments, handshakes, changes of state, anything odd)
 * misses, and the slow path looks at it properly.
 */

/* What the fast path has read of a packet. */
struct fast {
	struct flow *flow;
	__be16 ethertype;
	__u8 proto;
	__u8 ttl;
	__u32 l3_bytes;
	__u32 segment; /* bytes of the largest IP packet it is or will be cut into */
	__u32 tcp_ack;
	__u32 tcp_end;
	__be16 sport;
	__be16 dport;
};

static __always_inline bool fast_icmp_ports(__u8 family, const struct icmphdr *icmp, __be16 *sport,
					    __be16 *dport)
{
	__u8 request = family == 4 ? 8 : 128;
	__u8 reply = family == 4 ? 0 : 129;

	if ((icmp->type != request && icmp->type != reply) || !icmp->id)
		return false; /* id 0 is told from none by the slow path */
	icmp_ports(family, icmp->type, icmp->code, icmp->id, sport, dport);
	return true;
}

/* Ports of a plain packet; false for what the slow path must see. */
static __always_inline bool fast_l4(struct __sk_buff *skb, void *l4, void *end, __u8 family,
				    __u32 l4_bytes, struct fast *o, __be16 *sport, __be16 *dport)
{
	if (o->proto == IPPROTO_TCP) {
		struct tcphdr *tcp = l4;

		if ((void *)(tcp + 1) > end || l4_bytes < sizeof(*tcp))
			return false;
		if (!tcp->ack || tcp->syn || tcp->fin || tcp->rst)
			return false;
		*sport = tcp->source;
		*dport = tcp->dest;
		o->tcp_ack = bpf_ntohl(tcp->ack_seq);
		o->tcp_end = bpf_ntohl(tcp->seq) + l4_bytes - tcp->doff * 4;
		if (skb->gso_size)
			o->segment = skb->gso_size + o->l3_bytes - l4_bytes + tcp->doff * 4;
		return tcp->doff >= 5 && tcp->doff * 4u <= l4_bytes;
	}
	if (o->proto == IPPROTO_UDP) {
		struct udphdr *udp = l4;

		if ((void *)(udp + 1) > end || bpf_ntohs(udp->len) < sizeof(*udp) ||
		    bpf_ntohs(udp->len) > l4_bytes)
			return false;
		*sport = udp->source;
		*dport = udp->dest;
		if (skb->gso_size)
			o->segment = skb->gso_size + o->l3_bytes - l4_bytes + sizeof(*udp);
		/* DHCP is never a flow: the responders and port security see it */
		return !(*dport == bpf_htons(67) || *dport == bpf_htons(547));
	}
	if (o->proto == (family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		struct icmphdr *icmp = l4;

		if ((void *)(icmp + 1) > end || l4_bytes < sizeof(*icmp))
			return false;
		return fast_icmp_ports(family, icmp, sport, dport);
	}
	return false;
}

static __always_inline bool fast_find4(struct __sk_buff *skb, struct ethhdr *eth, void *end,
				       __u32 room, __u32 ctx, struct fast *o)
{
	struct iphdr *ip = (void *)(eth + 1);
	struct flow4_key key = { .ctx = ctx };

	if ((void *)(ip + 1) > end || *(__u8 *)ip != 0x45 || (ip->frag_off & bpf_htons(0x3fff)))
		return false;
	o->l3_bytes = bpf_ntohs(ip->tot_len);
	if (o->l3_bytes < sizeof(*ip) || o->l3_bytes > room)
		return false;
	o->segment = o->l3_bytes;
	o->proto = ip->protocol;
	o->ttl = ip->ttl;
	key.saddr = ip->saddr;
	key.daddr = ip->daddr;
	key.proto = ip->protocol;
	if (!fast_l4(skb, ip + 1, end, 4, o->l3_bytes - sizeof(*ip), o, &key.sport, &key.dport))
		return false;
	o->sport = key.sport;
	o->dport = key.dport;
	o->flow = bpf_map_lookup_elem(&plum_flow4, &key);
	return o->flow;
}

static __always_inline bool fast_find6(struct __sk_buff *skb, struct ethhdr *eth, void *end,
				       __u32 room, __u32 ctx, struct fast *o)
{
	struct ipv6hdr *ip = (void *)(eth + 1);
	struct flow6_key key = { .ctx = ctx };

	if ((void *)(ip + 1) > end || ip->version != 6)
		return false;
	o->l3_bytes = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	if (o->l3_bytes > room)
		return false;
	o->segment = o->l3_bytes;
	o->proto = ip->nexthdr;
	o->ttl = ip->hop_limit;
	addr_copy(key.saddr, ip->saddr.in6_u.u6_addr32);
	addr_copy(key.daddr, ip->daddr.in6_u.u6_addr32);
	key.proto = ip->nexthdr;
	if (!fast_l4(skb, ip + 1, end, 6, o->l3_bytes - sizeof(*ip), o, &key.sport, &key.dport))
		return false;
	o->sport = key.sport;
	o->dport = key.dport;
	o->flow = bpf_map_lookup_elem(&plum_flow6, &key);
	return o->flow;
}

/* Is the entry's decision good for this very packet? */
static __always_inline bool fast_applies(const struct ethhdr *eth, const struct fast *o, __u64 now)
{
	const struct config *cfg = config();
	const struct flow *f = o->flow;
	__u32 slot = f->slot;
	const struct epoch *epoch = bpf_map_lookup_elem(&plum_epoch, &slot);

	if (!cfg || !epoch || epoch->value != f->epoch || !(f->flags & FLOW_RESOLVED))
		return false;
	if (!mac_equal(eth->h_dest, f->in_dmac) || !mac_equal(eth->h_source, f->in_smac))
		return false;
	if (o->proto == IPPROTO_TCP ? f->state != FLOW_ESTABLISHED
				    : (f->flags & FLOW_REPLY) && f->state == FLOW_NEW)
		return false;
	return o->segment <= f->mtu && o->ttl > f->hops && !flow_idle(cfg, f, o->proto, now);
}

static __always_inline void fast_touch(const struct fast *o, __u64 now, __u32 bytes)
{
	struct flow *f = o->flow;

	f->seen = now;
	f->packets++;
	f->bytes += bytes;
	if (o->proto == IPPROTO_TCP) {
		f->tcp_ack = o->tcp_ack;
		f->tcp_end = o->tcp_end;
	}
}

/* New TTL, and for a local receiver new MACs, in the frame as it is. */
static __always_inline void fast_rewrite(struct ethhdr *eth, const struct fast *o)
{
	const struct flow *f = o->flow;

	if (f->out_ifindex) { /* a tunnel's inner header is written anew */
		mac_copy(eth->h_dest, f->out_dmac);
		mac_copy(eth->h_source, f->out_smac);
	}
	if (o->ethertype == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)(eth + 1);
		__u32 check = ip->check + bpf_htons((__u16)(f->hops << 8)); /* RFC 1624 */

		ip->check = (__u16)(check + (check >= 0xffff)); /* never 0xffff, as RFC 1071's */
		ip->ttl -= f->hops;
	} else {
		struct ipv6hdr *ip = (void *)(eth + 1);

		ip->hop_limit -= f->hops;
	}
}

/* After fast_rewrite: helpers that change the packet end the pointers into it. */
static __always_inline int fast_translate(struct __sk_buff *skb, const struct fast *o)
{
	const struct flow *f = o->flow;
	struct translation t = {
		.family = o->ethertype == bpf_htons(ETH_P_IP) ? 4 : 6,
		.proto = o->proto,
		.kind = f->flags & (FLOW_NEW_DST | FLOW_NEW_SRC),
		.l4 = true,
		.port = f->new_port,
		.sum = f->new_sum,
		.l4_off = ETH_HLEN + (o->ethertype == bpf_htons(ETH_P_IP) ? 20 : 40),
	};

	t.old_port = t.kind == FLOW_NEW_DST ? o->dport : o->sport;
	t.ports = t.old_port || !is_icmp(o->proto);
	addr_copy(t.addr, f->new_addr);
	return translate(skb, &t);
}

/* Rates and marks of both ends, as far as they are here. */
static __always_inline int fast_limit(struct __sk_buff *skb, const struct fast *o, bool from_ep,
				      __u32 bytes)
{
	const struct flow *f = o->flow;

	if (f->qos & QOS_LIMIT) {
		if (from_ep && !within_limit(f->slot, true, bytes))
			return DROP(LIMIT);
		if (f->out_ifindex && !within_limit(f->out_slot, false, bytes))
			return DROP(LIMIT);
	}
	return from_ep ? mark(skb, o->ethertype == bpf_htons(ETH_P_IP) ? 4 : 6, f->qos) : NEXT;
}

static __always_inline int fast_answer(struct __sk_buff *skb, int rc, __u32 slot)
{
	if (rc == SENT)
		return TC_ACT_REDIRECT;
	count_drop(slot, (__u32)-rc, skb->len);
	return TC_ACT_SHOT;
}

static __always_inline int fast_to_node(struct __sk_buff *skb, const struct fast *o, __u64 now)
{
	const struct config *cfg = config();
	const struct flow *f = o->flow;
	struct tunnel t = {
		.node = f->node,
		.vni = f->vni,
		.entropy = f->entropy,
		.tos = outer_tos(f->qos),
		.ethertype = o->ethertype,
	};

	if (!cfg)
		return DROP(NO_PATH);
	mac_copy(t.dmac, f->out_dmac);
	mac_copy(t.smac, f->out_smac);
	return encapsulate(skb, cfg, &t, now);
}

/* The gateway is this very node: plum_uplink goes on with the packet. */
static __always_inline int fast_to_gateway(const struct flow *f, __u32 slot, __u32 bytes)
{
	struct pkt *p = scratch();

	if (!p)
		return TC_ACT_SHOT;
	p->external = f->vni;
	count_sent(slot, bytes);
	return FAST_UPLINK;
}

static __always_inline int fast_from_ep(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	struct fast o = {};
	__u32 bytes = skb->len;
	__u32 slot, out_slot;
	__u64 now;
	int rc;

	if (data + ETH_HLEN + sizeof(struct iphdr) > end || skb->vlan_present)
		return FAST_MISS;
	o.ethertype = eth->h_proto;
	if (o.ethertype == bpf_htons(ETH_P_IP)) {
		if (!fast_find4(skb, eth, end, bytes - ETH_HLEN, skb->ifindex, &o))
			return FAST_MISS;
	} else if (o.ethertype == bpf_htons(ETH_P_IPV6)) {
		if (!fast_find6(skb, eth, end, bytes - ETH_HLEN, skb->ifindex, &o))
			return FAST_MISS;
	} else {
		return FAST_MISS;
	}
	now = now_ns();
	if (!fast_applies(eth, &o, now))
		return FAST_MISS;
	slot = o.flow->slot;
	out_slot = o.flow->out_slot;
	if (o.flow->qos) {
		rc = fast_limit(skb, &o, true, bytes);
		if (rc)
			return fast_answer(skb, rc, slot);
	}
	fast_touch(&o, now, bytes);
	if (o.flow->flags & FLOW_ROUTED)
		fast_rewrite(eth, &o);
	if (o.flow->flags & (FLOW_NEW_DST | FLOW_NEW_SRC)) {
		rc = fast_translate(skb, &o);
		if (rc)
			return fast_answer(skb, rc, slot);
	}
	if (o.flow->out_ifindex) {
		rc = deliver(skb, o.flow->out_ifindex, o.flow->flags & FLOW_TAP, o.ethertype);
		if (rc == SENT)
			count_received(out_slot, bytes);
	} else if (o.flow->flags & FLOW_UPLINK && !o.flow->node) {
		return fast_to_gateway(o.flow, slot, bytes);
	} else {
		rc = fast_to_node(skb, &o, now);
	}
	if (rc == SENT)
		count_sent(slot, bytes);
	return fast_answer(skb, rc, slot);
}

#endif /* PLUM_FAST_H */
