/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

SEC("tc") int t_pass(struct __sk_buff *skb)
{
	return skb->len ? TC_ACT_OK : TC_ACT_SHOT;
}

SEC("tc") int t_drop(struct __sk_buff *skb)
{
	return skb->len ? TC_ACT_SHOT : TC_ACT_OK;
}
