/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_PUBLIC_H
#define PLUM_PUBLIC_H

#include "flow.h"
#include "forward.h"
#include "maglev.h"

/* Public addresses: what both edges and gateways ask about them. */

/* What stands behind a public address and port; `block_ports` from plum_external. */
static __always_inline const struct public_end *
public_of(__u32 vni, const __be32 *addr, __be16 port, __u8 proto, __u16 block_ports)
{
	struct public_key key = { .vni = vni, .kind = PUBLIC_ADDRESS };
	const struct public_end *row;

	addr_copy(key.addr, addr);
	row = bpf_map_lookup_elem(&plum_public, &key);
	if (!row || !(row->flags & (PUBLIC_BY_PORT | PUBLIC_BY_BLOCK)))
		return row;
	key.port = bpf_ntohs(port);
	if (row->flags & PUBLIC_BY_BLOCK) {
		key.port &= (__u16) ~(block_ports - 1);
		key.kind = PUBLIC_BLOCK;
	} else {
		key.proto = proto;
		key.kind = PUBLIC_PORT;
	}
	return bpf_map_lookup_elem(&plum_public, &key);
}

/* Our end's port of a packet from or to a public address. An ICMP error is about
 * the connection it quotes: what that one's answers carry, it concerns. */
static __always_inline bool public_port(struct __sk_buff *skb, const struct pkt *p, bool source,
					__be16 *port, __u8 *proto)
{
	struct tuple t;

	*port = source ? p->sport : p->dport;
	*proto = p->proto;
	if (!p->icmp_error)
		return true;
	if (!quoted_tuple(skb, p, &t))
		return false;
	*port = source ? t.sport : t.dport;
	*proto = t.proto;
	return true;
}

/* What no packet into the zone or out of it carries. */
static __always_inline bool is_martian(const struct pkt *p)
{
	return !p->family || p->nd || mac_is_group(p->dmac) ||
	       addr_is_multicast(p->family, p->daddr) || addr_is_multicast(p->family, p->saddr) ||
	       addr_is_link_local(p->family, p->daddr) || addr_is_link_local(p->family, p->saddr) ||
	       (p->family == 4 ? !p->saddr[3] || !p->daddr[3] : addr_is_zero(p->saddr));
}

/* The node that a packet to a public address goes to: of a load balancer the one
 * of the backend its connection falls to. False: it has no backend. */
static __always_inline bool public_node(const struct pkt *p, const struct public_end *row,
					__u32 *node)
{
	const struct backend *b;

	*node = row->node;
	if (!row->backends)
		return true;
	b = backend_at(row->backends, backend_slot(p, row->flags));
	if (!b)
		return false;
	*node = b->node;
	return true;
}

#endif /* PLUM_PUBLIC_H */
