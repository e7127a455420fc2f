/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_TAIL_H
#define PLUM_TAIL_H

#include "finish.h"
#include "icmp_error.h"

/* The programs that are reached by tail call, and the way there. */

enum tail {
	TAIL_SLOW_EP,
	TAIL_SLOW_UL,
	TAIL_JUDGE,
	TAIL_SEND,
	TAIL_FLOOD,
	TAIL_ERROR,
	TAIL_BALANCE,
	TAIL_NAT,
	TAIL_EXTERNAL,
	TAIL_GATEWAY,
	TAIL_UPLINK,
	TAIL_MAX
};

int plum_slow_ep(struct __sk_buff *skb);
int plum_slow_ul(struct __sk_buff *skb);
int plum_judge(struct __sk_buff *skb);
int plum_send(struct __sk_buff *skb);
int plum_flood_out(struct __sk_buff *skb);
int plum_error(struct __sk_buff *skb);
int plum_balance(struct __sk_buff *skb);
int plum_nat_out(struct __sk_buff *skb);
int plum_external_ul(struct __sk_buff *skb);
int plum_gateway_out(struct __sk_buff *skb);
int plum_uplink_out(struct __sk_buff *skb);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, TAIL_MAX);
	__uint(key_size, sizeof(__u32));
	__array(values, int(struct __sk_buff *));
} plum_tail SEC(".maps") = {
	.values = {
		[TAIL_SLOW_EP] = &plum_slow_ep,
		[TAIL_SLOW_UL] = &plum_slow_ul,
		[TAIL_JUDGE] = &plum_judge,
		[TAIL_SEND] = &plum_send,
		[TAIL_FLOOD] = &plum_flood_out,
		[TAIL_ERROR] = &plum_error,
		[TAIL_BALANCE] = &plum_balance,
		[TAIL_NAT] = &plum_nat_out,
		[TAIL_EXTERNAL] = &plum_external_ul,
		[TAIL_GATEWAY] = &plum_gateway_out,
		[TAIL_UPLINK] = &plum_uplink_out,
	},
};

/* Continues in another program; comes back only if it is missing. */
static __always_inline int go(struct __sk_buff *skb, enum tail next)
{
	bpf_tail_call_static(skb, &plum_tail, next);
	return DROP(TAIL_CALL);
}

/* A refusal that its sender should hear of takes the way through plum_error. */
static __always_inline int finish_or_explain(struct __sk_buff *skb, struct pkt *p, int rc)
{
	int action = finish(skb, p, rc);

	if (rc < 0 && error_wanted(p)) {
		bpf_tail_call_static(skb, &plum_tail, TAIL_ERROR);
		count_drop(p->in_slot, DROP_TAIL_CALL, skb->len);
	}
	return action;
}

#endif /* PLUM_TAIL_H */
