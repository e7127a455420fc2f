/* SPDX-License-Identifier: Apache-2.0 */
/* What the loader and the map tests load: one map of each kind we use. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "../../bpf/lib/abi.h"

#define MAP(map_type, name, key_type, value_type, entries, flags, pin) \
	struct {                                                       \
		__uint(type, map_type);                                \
		__uint(max_entries, entries);                          \
		__uint(map_flags, flags);                              \
		__uint(pinning, pin);                                  \
		__type(key, key_type);                                 \
		__type(value, value_type);                             \
	} name SEC(".maps")

#ifndef BUILD
#define BUILD 5
#endif

struct lpm_key {
	__u32 prefixlen;
	__u8 addr[4];
};

struct two {
	__u64 a;
	__u64 b;
};

MAP(BPF_MAP_TYPE_HASH, t_hash, __u64, struct two, ENTRIES, BPF_F_NO_PREALLOC, LIBBPF_PIN_BY_NAME);
MAP(BPF_MAP_TYPE_LRU_HASH, t_lru, __u64, __u64, 1024, 0, LIBBPF_PIN_BY_NAME);
MAP(BPF_MAP_TYPE_LPM_TRIE, t_lpm, struct lpm_key, __u64, 1024, BPF_F_NO_PREALLOC,
    LIBBPF_PIN_BY_NAME);
MAP(BPF_MAP_TYPE_ARRAY, t_array, __u32, __u64, 64, 0, LIBBPF_PIN_BY_NAME);
MAP(BPF_MAP_TYPE_PERCPU_ARRAY, t_pcarray, __u32, struct two, 64, 0, LIBBPF_PIN_BY_NAME);
MAP(BPF_MAP_TYPE_PERCPU_HASH, t_pchash, __u64, struct two, 1024, BPF_F_NO_PREALLOC,
    LIBBPF_PIN_BY_NAME);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} t_ring SEC(".maps");

SEC("tc") int t_tail_target(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct two *seen = bpf_map_lookup_elem(&t_pcarray, &zero);

	if (seen) {
		seen->a++;
		seen->b += skb->len;
	}
	skb->mark = 77;
	return TC_ACT_SHOT;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, int(void *));
} t_tail SEC(".maps") = { .values = { (void *)&t_tail_target } };

SEC("tc") int t_entry(struct __sk_buff *skb)
{
	__u64 key = skb->ifindex;
	struct two one = { 1, skb->mark };

	bpf_map_update_elem(&t_hash, &key, &one, BPF_ANY);
	bpf_map_update_elem(&t_pchash, &key, &one, BPF_ANY);
	bpf_map_lookup_elem(&t_lru, &key);
	bpf_tail_call(skb, &t_tail, 0);
	return TC_ACT_OK; /* only without the tail call */
}

SEC("tc") int t_punt(struct __sk_buff *skb)
{
	struct punt *event = bpf_ringbuf_reserve(&t_ring, sizeof(*event), 0);

	if (!event)
		return TC_ACT_SHOT;
	event->kind = PUNT_RS;
	event->ifindex = skb->ifindex;
	event->slot = skb->mark;
	event->len = 14;
	bpf_skb_load_bytes(skb, 0, event->frame, 14);
	bpf_ringbuf_submit(event, 0);
	return TC_ACT_OK;
}

struct arguments {
	__u64 in;
	__u64 out;
};

SEC("syscall") int t_syscall(struct arguments *arguments)
{
	arguments->out = arguments->in * 2;
	return BUILD;
}

#ifdef REFUSED
SEC("tc") int t_refused(struct __sk_buff *skb)
{
	return *(int *)(long)skb->len;
}
#endif

char _license[] SEC("license") = "GPL";
