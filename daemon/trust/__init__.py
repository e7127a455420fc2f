"""Trust between nodes: the zone's authority, certificates, and where they are kept."""
