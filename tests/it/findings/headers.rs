//! Identity headers when the last group is gone.
