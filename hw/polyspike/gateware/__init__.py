"""The accelerator's gateware, in Amaranth. `core.Core` is the whole of it up to the link's bytes."""
