"""How ranks work together: layout, schedule, megatron-core, its CPU back end, and ZeRO."""
