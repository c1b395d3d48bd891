"""PMSM, polarity multi-spike mapping: a signed number of spikes a timestep, good from the first one on."""

from .method import ConversionMethod

METHOD = ConversionMethod("pmsm", "arXiv 2508.14520")
