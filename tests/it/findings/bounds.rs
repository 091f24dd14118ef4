//! Memory, descriptors and connections under load from strangers.
