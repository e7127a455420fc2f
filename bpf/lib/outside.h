/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_OUTSIDE_H
#define PLUM_OUTSIDE_H

#include "fast_gateway.h"
#include "fragment.h"
#include "gateway.h"
#include "nat.h"
#include "parse.h"
#include "tail.h"

/*
 * Programs for packets with public addresses:
 *
 *   plum_slow_ul --> plum_external_ul --for an endpoint here--> plum_judge
 *                          \--for the gateway--> plum_gateway_out --> outside
 *   plum_send --gateway is this node--> plum_uplink_out --> plum_gateway_out
 *   plum_from_ext --> an edge, or plum_judge
 */

/* A packet with public addresses, out of a tunnel or from outside: for an endpoint
 * here, or for the gateway. */
static __always_inline int take_in(struct __sk_buff *skb, struct pkt *p,
				   const struct public_end *row)
{
	int rc;

	p->from_underlay = true;
	p->ctx = FLOW_CTX_UNDERLAY | p->external;
	p->in_vni = p->external;
	rc = stage_nat_in(skb, p, row);
	return rc ? rc : go(skb, TAIL_JUDGE);
}

/* Of a load balancer also what belongs to a connection that a backend here has,
 * whatever the table says now. */
static __always_inline bool is_here(struct __sk_buff *skb, struct pkt *p,
				    const struct public_end *row)
{
	__u32 node;

	if (!row->backends)
		return !row->node;
	return translate_as_known(skb, p) || (public_node(p, row, &node) && !node);
}

/* From a gateway to whom a public address is, here or on another node. */
static __always_inline int to_owner(struct __sk_buff *skb, struct pkt *p, const struct config *cfg,
				    const struct public_end *row)
{
	__u32 node;

	if (is_here(skb, p, row))
		return take_in(skb, p, row);
	if (!public_node(p, row, &node))
		return DROP(NO_BACKEND);
	return to_edge(skb, p, cfg, node);
}

static __always_inline int parse_public(struct __sk_buff *skb, struct pkt *p)
{
	int rc = stage_parse(skb, p);

	if (rc)
		return rc;
	if (p->frag) {
		rc = stage_fragment(p);
		if (rc)
			return rc;
	}
	p->hash = flow_hash(p);
	return NEXT;
}

static __always_inline int external_ul(struct __sk_buff *skb, struct pkt *p)
{
	const struct external *ext = external_of(p->external);
	const struct public_end *row;
	int rc;

	if (!ext)
		return DROP(VNI);
	p->ctx = FLOW_CTX_UNDERLAY | p->external;
	rc = decapsulate(skb, p->outer4);
	if (!rc)
		rc = parse_public(skb, p);
	if (rc)
		return rc;
	if (is_martian(p))
		return DROP(LINK_LOCAL);
	row = public_destination(skb, p, ext);
	if (row && is_here(skb, p, row))
		return take_in(skb, p, row);
	p->to_outside = !row;
	return ext->ifindex ? go(skb, TAIL_GATEWAY) : DROP(NOT_HERE);
}

SEC("tc")
int plum_external_ul(struct __sk_buff *skb)
{
	struct pkt *p = scratch();

	if (!p)
		return TC_ACT_SHOT;
	return finish(skb, p, external_ul(skb, p));
}

static __always_inline int gateway_out(struct __sk_buff *skb, struct pkt *p,
				       const struct config *cfg)
{
	const struct external *ext = external_of(p->external);
	const struct public_end *row;
	int rc;

	p->stage = STAGE_GATEWAY;
	p->in_slot = DROP_SLOT_NODE;
	if (!ext || !ext->ifindex)
		return DROP(NO_GATEWAY);
	rc = check_edge(skb, p, ext);
	if (rc)
		return rc;
	row = p->to_outside ? NULL : public_destination(skb, p, ext);
	if (!row)
		return send_outside(skb, p, ext);
	return to_owner(skb, p, cfg, row);
}

SEC("tc")
int plum_gateway_out(struct __sk_buff *skb)
{
	const struct config *cfg = config();
	struct pkt *p = scratch();

	if (!p || !cfg)
		return TC_ACT_SHOT;
	return finish(skb, p, gateway_out(skb, p, cfg));
}

static __always_inline int uplink_out(struct __sk_buff *skb, struct pkt *p)
{
	int rc = parse_public(skb, p);

	return rc ? rc : go(skb, TAIL_GATEWAY);
}

/* An endpoint's packet whose gateway is this node, its addresses public already. */
SEC("tc")
int plum_uplink_out(struct __sk_buff *skb)
{
	struct pkt *p = scratch();
	__u32 external;

	if (!p)
		return TC_ACT_SHOT;
	external = p->external;
	__builtin_memset(p, 0, sizeof(*p));
	p->external = external;
	p->ctx = FLOW_CTX_UNDERLAY | external;
	p->in_slot = DROP_SLOT_NODE;
	p->in_vni = external;
	p->now = now_ns();
	return finish(skb, p, uplink_out(skb, p));
}

static __always_inline int from_outside(struct __sk_buff *skb, struct pkt *p,
					const struct config *cfg, const struct external *ext)
{
	const struct public_end *row;
	int rc = parse_public(skb, p);

	if (rc)
		return rc;
	p->stage = STAGE_GATEWAY;
	rc = check_outside(skb, p, ext);
	if (rc)
		return rc;
	row = public_destination(skb, p, ext);
	if (!row) {
		if (!is_claimed(p->external, p->daddr))
			return PASS;
		return p->proto == IPPROTO_ICMP || p->proto == IPPROTO_ICMPV6
			       ? answer_as_router(skb, p)
			       : DROP(NO_PUBLIC);
	}
	if (public_of(p->external, p->saddr, p->sport, p->proto, ext->block_ports))
		return DROP(SOURCE_ADDRESS); /* ours, and it does not come from outside */
	rc = check_edge_mtu(skb, p, ext);
	return rc ? rc : to_owner(skb, p, cfg, row);
}

/* Attached to tc ingress of a gateway's device outside. What is not for a public
 * address is the host's, unless it is tagged: then the tag is ours alone. */
SEC("tc")
int plum_from_ext(struct __sk_buff *skb)
{
	struct attachment_key key = { .ifindex = skb->ifindex };
	const struct config *cfg = config();
	struct pkt *p = scratch();
	const struct attachment *to;
	const struct external *ext;
	int rc;

	if (!p || !cfg)
		return TC_ACT_SHOT;
	if (skb->vlan_present)
		key.vlan = skb->vlan_tci & 0xfff;
	to = bpf_map_lookup_elem(&plum_attachment, &key);
	ext = to ? external_of(to->vni) : NULL;
	if (!ext)
		return TC_ACT_OK;
	if (skb->vlan_present && bpf_skb_vlan_pop(skb) < 0)
		return TC_ACT_SHOT;
	rc = fast_from_ext(skb, p, cfg, ext, to->vni);
	if (rc != FAST_MISS)
		return rc;
	__builtin_memset(p, 0, sizeof(*p));
	p->external = to->vni;
	p->in_ifindex = skb->ifindex;
	p->in_slot = DROP_SLOT_NODE;
	p->in_vni = to->vni;
	p->vlan = (__u16)key.vlan;
	p->ctx = FLOW_CTX_UNDERLAY | to->vni;
	p->now = now_ns();
	rc = from_outside(skb, p, cfg, ext);
	if (rc == PASS)
		return key.vlan ? TC_ACT_SHOT : TC_ACT_OK;
	return finish_or_explain(skb, p, rc);
}

#endif /* PLUM_OUTSIDE_H */
