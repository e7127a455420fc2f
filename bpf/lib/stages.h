/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUM_STAGES_H
#define PLUM_STAGES_H

/* The steps of the pipeline, in the order a packet meets them. */
#define PLUM_STAGES(X)                                                                             \
	X(DECAPSULATE)                                                                             \
	X(PROBE)                                                                                   \
	X(PARSE)                                                                                   \
	X(FLOW_LOOKUP)                                                                             \
	X(PORT_SECURITY)                                                                           \
	X(ARP_ND)                                                                                  \
	X(PUNT)                                                                                    \
	X(FRAGMENT)                                                                                \
	X(BRIDGE)                                                                                  \
	X(ROUTE)                                                                                   \
	X(LOAD_BALANCE)                                                                            \
	X(NAT)                                                                                     \
	X(GATEWAY)                                                                                 \
	X(ICMP_ERROR)                                                                              \
	X(EGRESS_POLICY)                                                                           \
	X(ROUTER_POLICY)                                                                           \
	X(INGRESS_POLICY)                                                                          \
	X(LIMIT)                                                                                   \
	X(FLOW_INSTALL)                                                                            \
	X(FLOOD)                                                                                   \
	X(ENCAPSULATE)                                                                             \
	X(DELIVER)

enum plum_stage {
	STAGE_NONE,
#define X(name) STAGE_##name,
	PLUM_STAGES(X)
#undef X
		STAGE_MAX
};

#endif /* PLUM_STAGES_H */
