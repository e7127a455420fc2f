/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_TUPLE_H
#define PLUM_TUPLE_H

#include "pkt.h"

/* Packets' 5-tuples, and the flow entries under them. */

/* One direction of a packet's 5-tuple. */
struct tuple {
	__be32 saddr[4];
	__be32 daddr[4];
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 family;
	__u16 pad;
	__u32 ctx;
};

static __always_inline void tuple_of(const struct pkt *p, struct tuple *t)
{
	addr_copy(t->saddr, p->saddr);
	addr_copy(t->daddr, p->daddr);
	t->sport = p->sport;
	t->dport = p->dport;
	t->proto = p->proto;
	t->family = p->family;
	t->pad = 0;
	t->ctx = p->ctx;
}

/* What the other direction's packets carry where they meet us: of a translated
 * end, what was put there. */
static __always_inline void tuple_reverse_of(const struct pkt *p, __u32 ctx, struct tuple *t)
{
	addr_copy(t->saddr, p->daddr);
	addr_copy(t->daddr, p->saddr);
	t->sport = p->dport;
	t->dport = p->sport;
	if (p->translate & FLOW_NEW_DST) {
		addr_copy(t->saddr, p->new_addr);
		t->sport = p->new_port;
	} else if (p->translate & FLOW_NEW_SRC) {
		addr_copy(t->daddr, p->new_addr);
		t->dport = p->new_port;
	}
	t->proto = p->proto;
	t->family = p->family;
	t->pad = 0;
	t->ctx = ctx;
}

static __always_inline void key4_of(const struct tuple *t, struct flow4_key *k)
{
	__builtin_memset(k, 0, sizeof(*k));
	k->ctx = t->ctx;
	k->saddr = t->saddr[3];
	k->daddr = t->daddr[3];
	k->sport = t->sport;
	k->dport = t->dport;
	k->proto = t->proto;
}

static __always_inline void key6_of(const struct tuple *t, struct flow6_key *k)
{
	__builtin_memset(k, 0, sizeof(*k));
	k->ctx = t->ctx;
	addr_copy(k->saddr, t->saddr);
	addr_copy(k->daddr, t->daddr);
	k->sport = t->sport;
	k->dport = t->dport;
	k->proto = t->proto;
}

static __always_inline struct flow *flow_get(const struct tuple *t)
{
	if (t->family == 4) {
		struct flow4_key k;

		key4_of(t, &k);
		return bpf_map_lookup_elem(&plum_flow4, &k);
	} else {
		struct flow6_key k;

		key6_of(t, &k);
		return bpf_map_lookup_elem(&plum_flow6, &k);
	}
}

static __always_inline long flow_put(const struct tuple *t, const struct flow *f)
{
	if (t->family == 4) {
		struct flow4_key k;

		key4_of(t, &k);
		return bpf_map_update_elem(&plum_flow4, &k, f, BPF_ANY);
	} else {
		struct flow6_key k;

		key6_of(t, &k);
		return bpf_map_update_elem(&plum_flow6, &k, f, BPF_ANY);
	}
}

#endif /* PLUM_TUPLE_H */
