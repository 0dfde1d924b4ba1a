"""How ranks work together: layout, schedule, megatron-core, its CPU back end, and ZeRO."""

import warnings

# On import it warns a dozen times that Transformer Engine and Apex, which we don't use, are absent.
warnings.filterwarnings("ignore", module=r"megatron\.core")
