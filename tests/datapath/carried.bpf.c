/* SPDX-License-Identifier: Apache-2.0 */
/* Two versions of the same maps: fields moved, widened, narrowed, added, dropped. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#define MAP(map_type, name, key_type, value_type, entries, flags) \
	struct {                                                  \
		__uint(type, map_type);                           \
		__uint(max_entries, entries);                     \
		__uint(map_flags, flags);                         \
		__uint(pinning, LIBBPF_PIN_BY_NAME);              \
		__type(key, key_type);                            \
		__type(value, value_type);                        \
	} name SEC(".maps")

#ifndef ENTRIES
#define ENTRIES 262144
#endif

#ifdef LATER

struct flow_key {
	__be16 port;
	__u16 pad;
	__u32 ctx;
};

struct flow {
	__u8 state;
	__u8 pad[3];
	__u32 packets;
	__u64 seen;
	__u32 added __attribute__((btf_decl_tag("carry_default:7")));
	__u8 mac[6];
	__u16 other;
	__u32 pad2;
};

struct count {
	__u64 bytes;
	__u64 packets;
	__u64 more;
};

#else

struct flow_key {
	__u32 ctx;
	__be16 port;
	__u16 pad;
};

struct flow {
	__u64 seen;
	__u64 packets;
	__u64 dropped;
#ifdef WIDE_MAC
	__u8 mac[8];
#else
	__u8 mac[6];
#endif
	__u16 state;
};

struct count {
	__u64 packets;
	__u64 bytes;
};

#endif

MAP(BPF_MAP_TYPE_LRU_HASH, plum_flow4, struct flow_key, struct flow, ENTRIES, 0);
MAP(BPF_MAP_TYPE_PERCPU_ARRAY, plum_ep_stat, __u32, struct count, 64, 0);
MAP(BPF_MAP_TYPE_PERCPU_HASH, plum_drop, struct flow_key, struct count, 1024, BPF_F_NO_PREALLOC);
MAP(BPF_MAP_TYPE_HASH, plum_same, __u64, __u64, 1024, BPF_F_NO_PREALLOC);

SEC("tc") int t_entry(struct __sk_buff *skb)
{
	__u64 key = 1;
	struct flow_key name = {};

	bpf_map_lookup_elem(&plum_same, &key);
	bpf_map_lookup_elem(&plum_flow4, &name);
	bpf_map_lookup_elem(&plum_drop, &name);
	bpf_map_lookup_elem(&plum_ep_stat, &key);
	return skb->len ? TC_ACT_OK : TC_ACT_SHOT;
}

char _license[] SEC("license") = "GPL";
