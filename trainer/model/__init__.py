"""The transformer: megatron-core's GPTModel through our ModuleSpec."""
