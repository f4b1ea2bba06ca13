"""Which examples an epoch trains on: selections, and the datamodule that applies one."""
