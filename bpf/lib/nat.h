/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_NAT_H
#define PLUM_NAT_H

#include "public.h"

#define NAT_TRIES 128 /* ports looked at before the node's blocks count as used up */

/* May the connection keep the public address it has? Asked when it is judged again. */
static __always_inline bool binding_holds(const struct pkt *p)
{
	struct external_key ek = { .vni = p->external };
	const struct external *ext = bpf_map_lookup_elem(&plum_external, &ek);
	const struct public_end *row;

	if (!ext)
		return false;
	row = public_of(p->external, p->new_addr, p->new_port, p->proto, ext->block_ports);
	if (!row || row->node || row->router != p->router)
		return false;
	return row->backends || addr_is_zero(row->addr) || addr_equal(row->addr, p->saddr);
}

static __always_inline bool use_floating(struct pkt *p)
{
	struct floating_key key = { .router = p->router };
	const struct floating *row;

	addr_copy(key.addr, p->saddr);
	row = bpf_map_lookup_elem(&plum_floating, &key);
	if (!row)
		return false;
	p->translate = FLOW_NEW_SRC;
	addr_copy(p->new_addr, row->addr);
	p->new_port = p->sport;
	return true;
}

static __always_inline bool take_port(struct pkt *p, const struct nat_block *block, __u16 port)
{
	struct nat_port_key key = { .vni = p->external, .proto = p->proto };
	struct nat_port mine = { .seen = p->now, .router = p->router, .port = p->sport };

	key.port = bpf_htons(port);
	addr_copy(key.addr, block->addr);
	addr_copy(mine.addr, p->saddr);
	if (bpf_map_update_elem(&plum_nat_port, &key, &mine, BPF_NOEXIST) < 0)
		return false;
	p->translate = FLOW_NEW_SRC;
	addr_copy(p->new_addr, block->addr);
	p->new_port = key.port;
	return true;
}

/* One try: the endpoint's own port if a block has it, else the next one after a
 * place that its address and port choose. All of an endpoint's ports lie on one
 * public address while that has any left. */
struct nat_search {
	struct pkt *p;
	__u32 blocks;
	__u32 address_hash;
	__u32 port_hash;
	bool found;
};

static long try_port(__u32 i, struct nat_search *s)
{
	struct pkt *p = s->p;
	struct nat_block_key key = { .router = p->router, .family = p->family };
	const struct nat_block *block;
	__u16 port;

	key.index = (s->address_hash + (i >> 5)) % s->blocks;
	block = bpf_map_lookup_elem(&plum_nat_block, &key);
	if (!block || !block->ports)
		return 0;
	port = bpf_ntohs(p->sport);
	if (i || port < block->first || port - block->first >= block->ports)
		port = (__u16)(block->first + (s->port_hash + i) % block->ports);
	s->found = take_port(p, block, port);
	return s->found;
}

static __always_inline int lease_port(struct pkt *p, const struct uplink *uplink,
				      const struct nat_key *key)
{
	struct nat_search s = { .p = p };
	struct nat mine = { .seen = p->now };

	s.blocks = p->family == 4 ? uplink->blocks4 : uplink->blocks6;
	if (!s.blocks)
		return unreachable(p, DROP(NAT_EXHAUSTED), UNREACH_NET, UNREACH6_ROUTE);
	s.address_hash = mix(mix(0, p->saddr[0] ^ p->saddr[1]), p->saddr[2] ^ p->saddr[3]);
	s.port_hash = mix(s.address_hash, p->sport);
	bpf_loop(NAT_TRIES, try_port, &s, 0);
	if (!s.found)
		return DROP(NAT_EXHAUSTED);
	addr_copy(mine.addr, p->new_addr);
	mine.port = p->new_port;
	return bpf_map_update_elem(&plum_nat, key, &mine, BPF_ANY) < 0 ? DROP(NAT_EXHAUSTED) : NEXT;
}

/* The public port that the endpoint's port has already. */
static __always_inline bool use_known_port(struct pkt *p, const struct nat_key *key)
{
	const struct nat *known = bpf_map_lookup_elem(&plum_nat, key);
	struct nat_port_key pk = { .vni = p->external, .proto = p->proto };
	struct nat_port *port;

	if (!known)
		return false;
	addr_copy(p->new_addr, known->addr);
	p->new_port = known->port;
	addr_copy(pk.addr, known->addr);
	pk.port = known->port;
	port = bpf_map_lookup_elem(&plum_nat_port, &pk);
	if (!port || port->router != p->router || port->port != p->sport ||
	    !addr_equal(port->addr, p->saddr) || !binding_holds(p))
		return false;
	port->seen = p->now;
	p->translate = FLOW_NEW_SRC;
	return true;
}

/*
 * stage NAT, on the way out: the public address and port of a new connection. A
 * floating address changes the address alone; source NAT leases a port, the same
 * for all that the endpoint's port talks to. The gateway keeps nothing.
 */
static __always_inline int stage_nat_out(struct pkt *p)
{
	struct uplink_key uk = { .router = p->router };
	const struct uplink *uplink = bpf_map_lookup_elem(&plum_uplink, &uk);
	struct nat_key key = { .router = p->router, .port = p->sport, .proto = p->proto };

	p->stage = STAGE_NAT;
	if (!uplink)
		return DROP(NO_ROUTE);
	if (p->translate & FLOW_NEW_SRC)
		return binding_holds(p) ? NEXT : DROP(NAT_GONE);
	if (use_floating(p))
		return NEXT;
	if (p->proto != IPPROTO_TCP && p->proto != IPPROTO_UDP &&
	    !(p->proto == (p->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6) && !p->dport))
		return DROP(NAT_PROTOCOL);
	addr_copy(key.addr, p->saddr);
	return use_known_port(p, &key) ? NEXT : lease_port(p, uplink, &key);
}

/* The connection a packet from outside belongs to says whom it is for. */
static __always_inline bool translate_as_known(struct __sk_buff *skb, struct pkt *p)
{
	const struct flow *f;
	struct tuple t;

	tuple_of(p, &t);
	if (p->icmp_error && !quoted_tuple(skb, p, &t))
		return false;
	f = flow_get(&t);
	if (!f || !(f->flags & FLOW_NEW_DST) || !(f->flags & FLOW_UPLINK))
		return false;
	load_translation(p, f);
	return true;
}

/* The backend here that a new connection falls to. The gateway has chosen the same,
 * and so this node. */
static __always_inline bool choose_public_backend(struct pkt *p, const struct public_end *row)
{
	const struct backend *b = backend_at(row->backends, backend_slot(p, row->flags));

	if (!b || b->node)
		return false;
	p->translate = FLOW_NEW_DST;
	addr_copy(p->new_addr, b->addr);
	p->new_port = row->port;
	return true;
}

/*
 * stage NAT, on the way in: a packet to a public address that `row` says is of an
 * endpoint here. It is judged by the endpoint's own policies, as what comes from
 * outside. To a leased port only answers come in.
 */
static __always_inline int stage_nat_in(struct __sk_buff *skb, struct pkt *p,
					const struct public_end *row)
{
	struct host_key key = { .domain = row->domain };
	const struct host *host;
	int rc;

	p->stage = STAGE_NAT;
	p->domain = row->domain;
	p->router = row->router;
	if (row->backends) {
		if (!translate_as_known(skb, p) && !choose_public_backend(p, row))
			return DROP(NO_BACKEND);
	} else if (addr_is_zero(row->addr)) {
		if (!translate_as_known(skb, p))
			return p->icmp_error ? DROP(ICMP_UNRELATED) : DROP(NO_PUBLIC);
	} else {
		p->translate = FLOW_NEW_DST;
		addr_copy(p->new_addr, row->addr);
		p->new_port = row->port ? row->port : p->dport;
	}
	addr_copy(key.addr, p->new_addr);
	host = bpf_map_lookup_elem(&plum_host, &key);
	if (!host || host->node || !host->ifindex)
		return DROP(NOT_HERE);
	if (p->ttl <= 1)
		return DROP(TTL);
	p->routed = true;
	p->hops = 1;
	pass_gate(p, row->router, host->vni, 1);
	external_mac(p->out_smac, p->external);
	rc = set_out(p, host->ifindex, 0, host->vni, host->mac);
	return rc ? rc : check_mtu(skb, p);
}

#endif /* PLUM_NAT_H */
