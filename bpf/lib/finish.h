/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_FINISH_H
#define PLUM_FINISH_H

#include "pkt.h"

static __always_inline void count_drop(__u32 slot, __u32 reason, __u32 bytes)
{
	struct drop_key key = { .slot = slot, .reason = reason };
	struct drop_stat one = { .packets = 1, .bytes = bytes };
	struct drop_stat *stat = bpf_map_lookup_elem(&plum_drop, &key);

	if (stat) {
		stat->packets++;
		stat->bytes += bytes;
	} else {
		bpf_map_update_elem(&plum_drop, &key, &one, BPF_ANY);
	}
}

/* The endpoint a drop is charged to: the local sender, else the receiver. */
static __always_inline __u32 drop_slot(const struct pkt *p)
{
	if (!p->from_underlay)
		return p->in_vni ? p->in_slot : DROP_SLOT_NODE;
	return p->out_ifindex ? p->out_slot : DROP_SLOT_NODE;
}

/* The one place where stages' answers become tc's, and drops are counted. */
static __always_inline int finish(struct __sk_buff *skb, struct pkt *p, int rc)
{
	if (rc < 0) {
		__u32 reason = (__u32)-rc;

		p->drop = (__u8)reason;
		count_drop(drop_slot(p), reason, skb->len);
		return TC_ACT_SHOT;
	}
	if (rc == SENT)
		return TC_ACT_REDIRECT;
	if (rc == PASS)
		return TC_ACT_OK;
	return TC_ACT_SHOT;
}

#endif /* PLUM_FINISH_H */
